"""A ``python`` that forks the project's modules from a process with the libraries imported.

Importing torch, transformers and diffusers is nine tenths of a tiny step's time, and importing Snakemake
three quarters of a dry run's. The shim stands first on the PATH and hands its arguments, environment and
standard streams to a server, which forks the step into the shim's own process group: what kills the group
kills the step. ``snakemake`` beside it is forked as well. Everything else (``python`` without ``-m``, or
with another's module) is run by the real interpreter.
"""

import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

STEP_NAME = "scoft-step"
"""What the kernel calls a forked step (``/proc/<pid>/comm``)."""
WARM = ("pipeline_steps.", "benchmarks.", "tests.", "snakemake")
"""Beginnings of the names of the modules that are forked."""

SHIM = """#!{python} -IS
import os, signal, sys
if sys.argv[1:2] != ["-m"] or not sys.argv[2].startswith({warm!r}):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
import json, socket
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = {{"argv": sys.argv[2:], "cwd": os.getcwd(), "env": dict(os.environ), "group": os.getpgid(0)}}
    data = json.dumps(call).encode()
    socket.send_fds(server, [len(data).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(data)
    status = server.recv(8)
code = int.from_bytes(status, "big", signed=True) if status else 1
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class WarmPython:
    """The server and the folder with the shim; use as a context.

    Args:
        folder: where shim and socket lie.
        environment: of the server.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True)
        address = folder / "socket"
        self.path = folder / "bin"
        self.path.mkdir()
        shim = self.path / "python"
        shim.write_text(SHIM.format(python=sys.executable, address=str(address), warm=WARM))
        command = self.path / "snakemake"
        command.write_text('#!/bin/sh\nexec python -m snakemake "$@"\n')
        for file in (shim, command):
            file.chmod(0o755)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm_python", address],
            env=environment | {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"},
            process_group=0,  # same session, own group: a step may join the group that is to be killed
        )
        while not address.exists():
            if self.process.poll() is not None:
                raise RuntimeError("the server of warm steps did not start")
            time.sleep(0.1)

    def __enter__(self) -> "WarmPython":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def import_libraries() -> None:
    """Load every embedded network once: what a step would import on the way is then there."""
    import cyclopts  # noqa: F401
    import pandas  # noqa: F401 (pyarrow looks for it when it writes a table)
    import snakemake.cli  # noqa: F401
    import torch._dynamo  # noqa: F401 (imported by the first optimiser)
    import torch_fidelity  # noqa: F401
    from PIL import Image
    from torch.utils import tensorboard  # noqa: F401
    from tqdm import tqdm

    from pipeline_steps.config import Models, PerceptualConfig
    from pipeline_steps.models import extractors, readers
    from pipeline_steps.models.families import family_of

    Image.init()
    tqdm.monitor_interval = 0  # its thread must not be there when the process forks
    # Its own lock is a semaphore that all forks share: a step killed while it draws would keep it for ever.
    tqdm.set_lock(threading.RLock())
    settings = Models()
    readers.captioner(settings.captioner)
    readers.depth_estimator(settings.depth)
    family = family_of(settings.base)
    family.depth_to_image(settings.controlnet)
    family.noise_process()
    extractors.dreamsim(settings.dreamsim)
    extractors.feature_extractor(settings.clip, PerceptualConfig())


def serve(address: str) -> None:
    """Import the libraries, then fork one process per call until killed."""
    import_libraries()
    until = time.monotonic() + 30
    while threading.active_count() > 1 and time.monotonic() < until:
        time.sleep(0.1)  # loaders are still ending: a fork among them could wait for a lock for ever
    gc.collect()
    gc.freeze()  # so that no fork looks through what it was given
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen(64)
        listening.settimeout(2)
        os.rename(f"{address}.new", address)  # noqa: PTH104
        while True:
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                if os.getppid() != parent:
                    return  # whoever started this server is gone
                continue
            connection.settimeout(None)
            if os.fork() == 0:
                listening.close()
                _attend(connection)
            connection.close()


def _attend(connection: socket.socket) -> None:
    """Fork the step, wait for it and tell the shim how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, *_ = socket.recv_fds(connection, 8, 3)
    call = json.loads(_receive(connection, int.from_bytes(size, "big")))
    child = os.fork()
    if child == 0:
        connection.close()
        _become(call, streams)
    for stream in streams:
        os.close(stream)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):  # the shim is gone
        connection.sendall(code.to_bytes(8, "big", signed=True))
    os._exit(0)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += connection.recv(size - len(data)) or exit()
    return data


def _become(call: dict, streams: list[int]) -> None:
    """Turn into the step."""
    code = 1
    try:
        os.setpgid(0, call["group"])
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        os.chdir(call["cwd"])
        os.environ.clear()
        os.environ.update(call["env"])
        if call["argv"][0].startswith("pipeline_steps."):
            Path("/proc/self/comm").write_text(STEP_NAME)
        sys.argv = call["argv"]
        runpy.run_module(call["argv"][0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
