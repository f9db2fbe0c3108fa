"""What a step says where its GPU is too small or not to be seen."""

import ast
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline_steps.config import BaseRef, PipelineConfig
from pipeline_steps.machine.gpus import CLAIMED
from pipeline_steps.models import loading

# torch's own words for a card that is full.
FULL = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.62 GiB of which "
    "1.20 GiB is free. Including non-PyTorch memory, this process has 6.42 GiB memory in use. See the manual"
)


def run(name, body, *arguments):
    """Run a step of that name in a process of its own."""
    code = f"""
import torch
from pipeline_steps.cli import run_step
def {name}() -> None:
    {body}
run_step({", ".join([name, *arguments])})
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "lever"),
    [
        ((), "lower the step's batch_size"),
        (('lever="lower caption.batch_size"',), "lower caption.batch_size"),
    ],
)
def test_a_full_gpu_is_one_line_with_the_lever(arguments, lever):
    done = run("step", f"raise torch.OutOfMemoryError({FULL!r})", *arguments)
    assert done.returncode == 1
    assert done.stderr == (
        "ERROR step: the GPU's memory is full (CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has "
        f"a total capacity of 7.62 GiB of which 1.20 GiB is free); {lever} (docs/models.md, Memory levers)\n"
    )


def test_so_is_the_full_memory_of_a_mac():
    message = "MPS backend out of memory (MPS allocated: 8.90 GiB). Tried to allocate 1.00 GiB"
    done = run("step", f"raise RuntimeError({message!r})")
    assert done.returncode == 1 and done.stderr.startswith(
        "ERROR step: the GPU's memory is full (MPS backend"
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            "OSError(28, 'No space left on device', 'a.parquet')",
            "a.parquet: the disk is full; make room on it",
        ),
        ("OSError(28, 'No space left on device')", "step: the disk is full; make room on it"),
        ("OSError(122, 'Disk quota exceeded', 'a')", "a: your share of the disk is used up; make room on it"),
        (
            "OSError(30, 'Read-only file system', 'a')",
            "a: the disk can be read and not written; name another",
        ),
        (
            "PermissionError(13, 'Permission denied', 'a')",
            "a: this account may not open it; give it the rights",
        ),
    ],
)
def test_what_the_machine_refuses_is_one_line_with_the_file(error, line):
    done = run("step", f"raise {error}")
    assert done.returncode == 1 and done.stderr.startswith(f"ERROR {line}")
    assert done.stderr.endswith(", and give the same command again\n") and done.stderr.count("\n") == 1
    assert "Traceback" in run("step", "raise OSError(5, 'Input/output error', 'a')").stderr


def test_any_other_fault_keeps_its_traceback():
    done = run("train", "raise RuntimeError('a fault')")
    assert done.returncode == 1 and "Traceback" in done.stderr and "RuntimeError: a fault" in done.stderr


def test_every_step_with_a_gpu_says_its_lever():
    """A setting that does not exist would be no help."""
    rules = "".join(path.read_text() for path in Path("workflow/rules").glob("*.smk"))
    shells = [shell for shell in rules.split('"""') if "--gpus" in shell]
    modules = {re.search(r"pipeline_steps\.([\w.]+) ", shell)[1] for shell in shells}
    assert len(modules) == 12
    for module in modules:
        code = Path(f"pipeline_steps/{module.replace('.', '/')}.py").read_text()
        call = re.search(r"run_step\(\s*\w+,\s*lever=(.*?),?\s*\)", code, re.DOTALL)
        assert call, f"{module} says no lever"
        settings = re.findall(r"[a-z_]+(?:\.[a-z_]+)+", ast.literal_eval(f"({call[1]})"))
        assert settings, module
        for name in settings:
            place = PipelineConfig
            for part in name.split("."):
                place = place.model_fields[part].annotation


@pytest.fixture
def without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    monkeypatch.delenv(CLAIMED, raising=False)
    loading.warn_once.cache_clear()


def test_a_gpu_that_torch_does_not_see_is_named_once(without_a_gpu, monkeypatch, caplog):
    assert loading.device() == torch.device("cpu") and not caplog.text
    monkeypatch.setitem(os.environ, CLAIMED, "3")
    assert [loading.device().type for _ in range(2)] == ["cpu"] * 2
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith(f"GPU 3 is held, but torch {torch.__version__} sees none")


def test_float16_on_a_cpu_is_warned_of(without_a_gpu, monkeypatch, caplog):
    assert loading.dtype(BaseRef(path="p")) == torch.float32 and not caplog.text
    assert loading.dtype(BaseRef(path="p", dtype="float16")) == torch.float16
    assert "'p' in float16 on a CPU" in caplog.text
    caplog.clear()
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda")
    )
    loading.warn_once.cache_clear()
    assert loading.dtype(BaseRef(path="p", dtype="float16")) == torch.float16 and not caplog.text
