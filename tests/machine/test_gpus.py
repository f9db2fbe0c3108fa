"""A GPU of its own for every job, with pretend devices and real processes."""

import os
import select
import signal
import subprocess
import sys

import pytest

from pipeline_steps.machine import gpus
from pipeline_steps.machine.gpus import CLAIMED

# Claims, tells what it got, and holds it until it is told to end.
JOB = """
import logging, sys
from pipeline_steps.machine.gpus import claim
logging.basicConfig(level=logging.INFO)
print(",".join(claim(int(sys.argv[1]))), flush=True)
input()
"""


@pytest.fixture
def environment(tmp_path):
    """A machine with two devices and a lock folder of its own."""
    clean = {k: v for k, v in os.environ.items() if k not in (CLAIMED, "SLURM_JOB_ID", *gpus.VISIBLE)}
    return clean | {"CUDA_VISIBLE_DEVICES": "0,1", "TMPDIR": str(tmp_path)}


@pytest.fixture
def start(environment):
    """Start a job that wants some devices; all jobs are ended with the test."""
    jobs = []

    def job(count=1, command=(sys.executable, "-c", JOB), **changes):
        done = subprocess.Popen(
            [*command, str(count)], env=environment | changes, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        jobs.append(done)
        return done

    yield job
    for done in jobs:
        done.kill()
        done.communicate()


def got(job):
    return job.stdout.readline().strip()


def waits(job):
    """Whether a job says that it waits before it has anything."""
    ready, _, _ = select.select([job.stdout, job.stderr], [], [])
    return job.stdout not in ready and "waiting for a GPU" in job.stderr.readline()


def test_each_job_gets_its_own_device_and_the_third_waits(start):
    first, second = start(), start()
    names = [got(first), got(second)]
    assert sorted(names) == ["0", "1"]
    third = start()
    assert waits(third)
    first.communicate("\n")
    assert got(third) == names[0]


def test_kill_leaks_nothing(start):
    held = {got(job): job for job in (start(), start())}
    held["1"].send_signal(signal.SIGKILL)
    held["1"].wait()
    assert got(start()) == "1"


def test_many_short_jobs_never_share(environment, tmp_path):
    """Twelve jobs on two devices; a file per device shows whether someone is already there."""
    code = """
import os, sys, time
from pipeline_steps.machine.gpus import claim
name, = claim(1)
os.close(os.open(f"{sys.argv[1]}/busy{name}", os.O_CREAT | os.O_EXCL))
time.sleep(0.05)
os.unlink(f"{sys.argv[1]}/busy{name}")
"""
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment) for _ in range(12)]
    assert [job.wait() for job in jobs] == [0] * 12


def test_two_at_once_are_chosen_together(start):
    """Two jobs that want both devices: neither holds one while it waits for the other."""
    jobs = [start(2), start(2)]
    (ready, *_), _, _ = select.select([job.stdout for job in jobs], [], [])
    first, second = sorted(jobs, key=lambda job: job.stdout is not ready)
    assert got(first) == "0,1" and waits(second)
    first.communicate("\n")
    assert got(second) == "0,1"


def test_children_share_and_outlive_their_parent(start):
    """As torchrun's processes do: the devices are free when the last one has ended."""
    code = f"""
import subprocess, sys
from pipeline_steps.machine.gpus import claim
claim(2)
child = subprocess.Popen([sys.executable, "-c", {JOB!r}, "2"])
print(child.pid, flush=True)
child.wait()
"""
    parent = start(command=(sys.executable, "-c", code))
    child = int(got(parent))
    assert got(parent) == "0,1"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    heir = start(2)
    assert waits(heir)
    os.kill(child, signal.SIGKILL)
    assert got(heir) == "0,1"


def test_a_command_holds_what_was_claimed_for_it(start):
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); input()"
    command = (sys.executable, "-m", "pipeline_steps.machine.gpus", "1", sys.executable, "-c", code)
    first = start(command=command)
    assert got(first) == "0"
    assert got(start()) == "1"
    assert waits(start())


def test_jobs_of_different_allocations_do_not_wait_for_each_other(start):
    """Under Slurm every allocation may call its device 0."""
    jobs = [start(SLURM_JOB_ID=number, CUDA_VISIBLE_DEVICES="0") for number in ("1", "2")]
    assert [got(job) for job in jobs] == ["0", "0"]
    assert waits(start(SLURM_JOB_ID="2", CUDA_VISIBLE_DEVICES="0"))


def test_no_device_no_claim_and_too_few_are_an_error(start):
    assert got(start(CUDA_VISIBLE_DEVICES="")) == ""
    done = start(command=(sys.executable, "-m", "pipeline_steps.machine.gpus", "3", "true"))
    assert done.wait() == 1
    assert done.stderr.read() == "ERROR 3 GPUs wanted, 2 there (0, 1); lower train.processes\n"


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ([], []),
        (["nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm"], ["0", "1"]),
        (["dxg"], ["0"]),  # Windows' Linux
        (["dxg", "nvidia0", "nvidia1"], ["0", "1"]),
    ],
)
def test_devices_are_counted_by_the_drivers_files(files, names, tmp_path, monkeypatch):
    for name in files:
        (tmp_path / name).touch()
    monkeypatch.setattr(gpus, "DEVICE_FILES", tmp_path)
    nothing_given(monkeypatch)
    assert gpus.devices() == names


def nothing_given(monkeypatch):
    for variable in (*gpus.VISIBLE, "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)


def test_cards_of_amd_are_counted_and_shown(tmp_path, monkeypatch):
    """By the kernel's list of what computes, in which a processor has no card's id; none was tried."""
    for number, card in enumerate(("0", "4098", "51211")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "gpu_id").write_text(f"{card}\n")
    monkeypatch.setattr(gpus, "DEVICE_FILES", tmp_path)
    monkeypatch.setattr(gpus, "AMD_NODES", tmp_path)
    nothing_given(monkeypatch)
    assert gpus.devices() == ["0", "1"]
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "3")
    assert gpus.devices() == ["0"]
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "2,3")
    assert gpus.devices() == ["2", "3"]


def test_a_card_that_is_claimed_is_named_to_either_driver(start):
    code = (
        "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['HIP_VISIBLE_DEVICES'], flush=True)"
    )
    job = start(
        command=(sys.executable, "-m", "pipeline_steps.machine.gpus", "1", sys.executable, "-c", code),
        HIP_VISIBLE_DEVICES="2,3",
        CUDA_VISIBLE_DEVICES="0,1",
    )
    assert got(job) == "2 2"


def test_a_mac_has_one(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "DEVICE_FILES", tmp_path)
    monkeypatch.setattr(gpus, "AMD_NODES", tmp_path)
    monkeypatch.setattr(sys, "platform", "darwin")
    nothing_given(monkeypatch)
    assert gpus.devices() == ["0"]
