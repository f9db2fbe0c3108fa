"""A GPU of its own for every job of a machine (Snakemake counts GPUs, it does not number them).

A job holds its devices by locks on small files, which the kernel releases when the process ends, however
it ends. A job whose devices are taken waits, so that even without a limit no two share one. Where a
scheduler chose the devices (``CUDA_VISIBLE_DEVICES``) they are shared out among the jobs of that allocation.
On a machine without GPUs nothing is claimed and nothing waits.

``python -m pipeline_steps.machine.gpus 2 torchrun …`` claims two devices for a command and all its children.
"""

import fcntl
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

from pipeline_steps.errors import UserError

LOG = logging.getLogger("scoft")
CLAIMED = "SCOFT_CLAIMED_GPUS"
"""Set for the children of a job that holds devices: they share them."""
VISIBLE = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
"""By which AMD's and NVIDIA's drivers show a process some devices and no others."""
DEVICE_FILES = Path("/dev")
AMD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")
POLL_SECONDS = 0.5

_held: list[int] = []  # locks live as long as the process


def claim(count: int) -> list[str]:
    """Wait for ``count`` devices, show this process no others, and hold them until it ends.

    Returns:
        The devices' names as in ``CUDA_VISIBLE_DEVICES``; none on a machine without GPUs.

    Raises:
        UserError: more devices are wanted than there are.
    """
    visible = devices()
    if not visible or count == 0:
        return []
    folder = _lock_folder()
    if CLAIMED in os.environ:
        return [_share(folder, name) for name in os.environ[CLAIMED].split(",")]
    if count > len(visible):
        raise UserError(
            f"{count} GPUs wanted, {len(visible)} there ({', '.join(visible)}); lower train.processes"
        )
    chosen = _take(folder, visible, count)
    os.environ |= dict.fromkeys((*VISIBLE, CLAIMED), ",".join(chosen))
    LOG.info("GPU %s", ", ".join(chosen))
    return chosen


def devices() -> list[str]:
    """Return the GPUs this process may use: those it was given, or all of the machine.

    NVIDIA's and AMD's on Linux, and a Mac's own. AMD's HIP reads ``CUDA_VISIBLE_DEVICES`` where its own
    variable is not set, and counts from 0 what ``ROCR_VISIBLE_DEVICES`` leaves it.
    """
    for variable in VISIBLE:
        if (given := _named(variable)) is not None:
            return given
    if (left := _named("ROCR_VISIBLE_DEVICES")) is not None:
        return [str(number) for number in range(len(left))]
    # Numbers of the driver's files may have gaps in a container; CUDA counts what is there.
    count = len(list(DEVICE_FILES.glob("nvidia[0-9]*")))
    count = count or sum(file.read_text().strip() != "0" for file in AMD_NODES.glob("*/gpu_id"))
    # Windows' Linux shows one file for whatever cards there are: taken as one, so that no two jobs share it.
    one = (DEVICE_FILES / "dxg").exists() or sys.platform == "darwin"
    return [str(number) for number in range(count or one)]


def _named(variable: str) -> list[str] | None:
    """Return the devices that a variable names; None where it is not set."""
    given = os.environ.get(variable)
    if given is None:
        return None
    return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]


def _lock_folder() -> Path:
    """Return a folder of this user and, under Slurm, of this job: its device 0 may be another's 0."""
    scope = f"slurm-{os.environ['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in os.environ else "machine"
    folder = Path(tempfile.gettempdir()) / f"scoft-gpus-{os.getuid()}" / scope
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _open(folder: Path, name: str) -> int:
    return os.open(folder / name.replace("/", "_"), os.O_RDWR | os.O_CREAT, 0o600)


def _take(folder: Path, visible: list[str], count: int) -> list[str]:
    """Hold ``count`` free devices; one job at a time chooses, so that no two wait for each other."""
    queue = _open(folder, "queue")
    try:
        fcntl.flock(queue, fcntl.LOCK_EX)
        chosen: list[str] = []
        waiting = False
        while len(chosen) < count:
            free = next((name for name in visible if name not in chosen and _hold(folder, name)), None)
            if free is not None:
                chosen.append(free)
                continue
            if not waiting:
                LOG.info("waiting for a GPU: other jobs hold %s", ", ".join(visible))
                waiting = True
            time.sleep(POLL_SECONDS)
        return sorted(chosen, key=visible.index)
    finally:
        os.close(queue)


def _hold(folder: Path, name: str) -> bool:
    """Hold a device nobody holds. The lock is then shared, so that children may outlive their parent."""
    lock = _open(folder, name)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    fcntl.flock(lock, fcntl.LOCK_SH)
    os.set_inheritable(lock, True)
    _held.append(lock)
    return True


def _share(folder: Path, name: str) -> str:
    """Hold a device that the parent holds."""
    lock = _open(folder, name)
    fcntl.flock(lock, fcntl.LOCK_SH)
    _held.append(lock)
    return name


def main() -> None:
    """Claim devices, then become the command: ``COUNT COMMAND…``."""
    count, *command = sys.argv[1:]
    try:
        claim(int(count))
    except UserError as error:
        sys.exit(f"ERROR {error}")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
