"""The processor's cores that this process may use."""

import os


def cores() -> int:
    """Return how many; macOS knows no affinity, and all of them are counted there."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
