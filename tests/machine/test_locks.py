"""Locks of a killed Snakemake go, those of a living one stay; two at once end with the lock message."""

import os
import subprocess
import sys
import time

import pytest

from pipeline_steps.machine import locks
from pipeline_steps.machine.locks import release_stale_locks
from tests import ROOT

HOLD = "import sys, time; from pathlib import Path; "
HOLD += "from pipeline_steps.machine.locks import release_stale_locks; "
HOLD += "print(release_stale_locks(Path(sys.argv[1])), flush=True); time.sleep(600)"


@pytest.fixture(autouse=True)
def let_go():
    """Release what a test held in this process."""
    yield
    while locks._held:
        locks._held.pop().close()


def holder(folder):
    """Start a process that holds the folder; return it and what it released."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def lock(folder):
    """Leave what Snakemake leaves."""
    (folder / "locks").mkdir()
    (folder / "locks/0.output.lock").write_text("results/korea/lora.safetensors\n")


def test_a_living_owner_keeps_its_lock_and_a_killed_one_loses_it(tmp_path):
    process, released = holder(tmp_path)
    assert released == "False"
    lock(tmp_path)
    assert not release_stale_locks(tmp_path)
    let_go_of_ours = locks._held.pop()
    process.kill()
    process.wait()
    let_go_of_ours.close()
    assert release_stale_locks(tmp_path)
    assert not (tmp_path / "locks").exists()


def test_a_passer_by_does_not_make_a_living_ones_lock_stale(tmp_path):
    passing, _ = holder(tmp_path)
    living, _ = holder(tmp_path)
    lock(tmp_path)
    passing.kill()
    passing.wait()
    assert not release_stale_locks(tmp_path)
    living.kill()
    living.wait()


def test_what_another_machine_locked_is_left_alone(tmp_path):
    release_stale_locks(tmp_path)
    locks._held.pop().close()
    (tmp_path / "running").write_text("another-machine")
    lock(tmp_path)
    assert not release_stale_locks(tmp_path)
    assert (tmp_path / "locks").exists()


SLOW = """
include: "{root}/workflow/Snakefile"
rule slow:
    output: "results/slow.txt"
    shell: "sleep 600; touch {{output}}"
"""


def test_two_snakemakes_on_the_same_results(tmp_path):
    for name in ("resources", "workflow", "config"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "Snakefile").write_text(SLOW.format(root=ROOT))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "results/slow.txt"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, process_group=0, **quiet)
    while not list(tmp_path.glob(".snakemake/locks/*.output.lock")):
        assert first.poll() is None
        time.sleep(0.05)
    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert second.returncode != 0
    assert "cannot be locked" in second.stderr + second.stdout
    assert first.poll() is None and list(tmp_path.glob(".snakemake/locks/*.output.lock"))
    os.killpg(first.pid, 9)
    first.wait()
    third = subprocess.run([*command, "-n"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "Released the lock of a Snakemake that was killed" in third.stderr + third.stdout
    assert third.returncode == 0
