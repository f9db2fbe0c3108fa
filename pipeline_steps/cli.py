"""Turns a step's signature into its command line, sets up logging, threads and GPUs, and exits plainly."""

import atexit
import errno
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

from cyclopts import App, Parameter, Token
from pydantic import ValidationError

from pipeline_steps.config import Section
from pipeline_steps.config.explain import explain
from pipeline_steps.errors import UserError, first_line
from pipeline_steps.machine.cores import cores
from pipeline_steps.machine.gpus import claim

LOG = logging.getLogger("scoft")
MACHINE = {
    errno.ENOSPC: "the disk is full; make room on it",
    errno.EDQUOT: "your share of the disk is used up; make room on it",
    errno.EROFS: "the disk can be read and not written; name another folder",
    errno.EACCES: "this account may not open it; give it the rights, or name another place",
}
"""What the system refuses, and how to mend it."""


def _read_settings(kind: type[Section], tokens: Sequence[Token]) -> Section:
    """Read a section from its JSON as the rule wrote it.

    Raises:
        UserError: no JSON, or no right settings.
    """
    try:
        return kind.model_validate_json(tokens[0].value, strict=True)
    except ValidationError as error:
        mistakes = "; ".join(explain(mistake) for mistake in error.errors())
        raise UserError(f"{tokens[0].keyword}: {mistakes}") from error


# Left to itself cyclopts takes JSON apart key by key, and knows fewer types than pydantic.
Parameter(accepts_keys=False, n_tokens=1, converter=_read_settings)(Section)


def command_line(step: Callable[..., None]) -> App:
    """Return a step's command line: one flag per parameter, a section of the settings as JSON."""
    app = App(default_parameter=Parameter(consume_multiple=True, negative=()))
    app.default(step)
    return app


def run_step(
    step: Callable[..., None], network: bool = False, lever: str = "lower the step's batch_size"
) -> None:
    """Run a step from ``sys.argv``: one flag per parameter, ``--threads`` and ``--gpus`` beside them.

    A :class:`UserError`, a wrong setting, a full disk, missing rights and a GPU's full memory are printed on
    one line, a wrong flag in a frame; all end with exit code 1. Anything else is a fault of ours and keeps
    its traceback.

    Args:
        step: the step's function.
        network: whether it may reach the model hub; every other step reads what was fetched.
        lever: the settings that make it need less of a GPU's memory.
    """
    collect_garbage_less_often()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    for client in ("httpx", "httpx2"):
        logging.getLogger(client).setLevel(logging.WARNING)
    os.environ["HF_HUB_OFFLINE"] = "0" if network else "1"
    # The bars are the steps' own; loading weights takes no time worth one.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    app = command_line(step)

    @app.meta.default
    def with_share(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        threads: int = 1,
        gpus: int = 0,
    ) -> None:
        if job := os.environ.get("SLURM_JOB_ID"):
            LOG.info("Slurm job %s on node %s", job, socket.gethostname())
        limit_threads(threads)
        claim(gpus)
        app(tokens, exit_on_error=True, result_action="return_value")

    try:
        app.meta(result_action="return_value")
    except UserError as error:
        print(f"ERROR {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in MACHINE:
            raise
        where = error.filename or step.__name__
        print(f"ERROR {where}: {MACHINE[error.errno]}, and give the same command again", file=sys.stderr)
        sys.exit(1)
    except RuntimeError as error:
        # By name: steps that look at no picture do without torch.
        full = type(error).__name__ == "OutOfMemoryError" or "MPS backend out of memory" in str(error)
        if not full:
            raise
        print(f"ERROR {_out_of_memory(step.__name__, error, lever)}", file=sys.stderr)
        sys.exit(1)


def _out_of_memory(step: str, error: RuntimeError, lever: str) -> str:
    """Return what to do where a GPU's memory does not suffice, after the figures of torch's message."""
    figures = ". ".join(first_line(error).split(". ")[:3]).rstrip(".")
    return f"{step}: the GPU's memory is full ({figures}); {lever} (docs/models.md, Memory levers)"


def collect_garbage_less_often() -> None:
    """Spare a third of the time that importing torch and diffusers, and leaving them again, takes.

    Their imports make a million objects that live to the end; Python would look through them all
    dozens of times for garbage that is not there, and once more at exit.
    """
    gc.set_threshold(5000)
    atexit.register(gc.freeze)


def limit_threads(granted: int) -> None:
    """Use no more threads than granted, nor than there are cores (more makes small models 3-4× slower).

    The processes of torchrun share what their job was granted.
    """
    share = min(granted, cores()) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    threads = max(1, share)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
