"""Locks of a killed Snakemake: released when, and only when, nobody can be holding them.

Snakemake leaves its lock behind when it is killed outright, and the same command then refuses to
run. Whether the owner still lives is known to the kernel alone: each Snakemake of this workflow
holds a shared lock of the operating system for as long as it lives.
"""

import fcntl
import shutil
import socket
from pathlib import Path
from typing import TextIO

_held: list[TextIO] = []
"""Keeps the file open, and with it the lock held, until this process ends."""


def release_stale_locks(folder: Path = Path(".snakemake")) -> bool:
    """Remove Snakemake's lock files when no other Snakemake of this folder is alive.

    On a file system that does not share such locks between machines another machine's Snakemake
    could not be seen: what another machine locked is therefore left alone (``snakemake --unlock``).

    Args:
        folder: Snakemake's own folder in the working directory.

    Returns:
        Whether stale locks were removed.
    """
    folder.mkdir(exist_ok=True)
    try:
        running = (folder / "running").open("a+", encoding="utf-8")
        _held.append(running)
        fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # another one lives: its locks are good
        fcntl.flock(running, fcntl.LOCK_SH)
        return False
    except OSError:  # a read-only folder, or a file system without locks
        return False
    running.seek(0)
    last, here = running.read(), socket.gethostname()
    locks = folder / "locks"
    found = locks.is_dir() and any(locks.iterdir())
    stale = found and last == here
    if stale:
        shutil.rmtree(locks)
    if stale or not found:
        running.truncate(0)
        running.write(here)
        running.flush()
    fcntl.flock(running, fcntl.LOCK_SH)
    return stale
