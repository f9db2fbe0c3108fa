"""Put on PYTHONPATH by chain.py: every step's process leaves its seconds and peak memory."""

import atexit
import json
import os
import sys
import threading
import time
from pathlib import Path

BEGUN = time.monotonic()
STATUS = Path("/proc/self/status")
peak = {"anonymous": 0}


def held(field: str) -> int:
    """Bytes of a kind that the process holds."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def watch() -> None:
    """Note the most bytes that are no files': Linux keeps that peak for all together only."""
    while True:
        peak["anonymous"] = max(peak["anonymous"], held("RssAnon"))
        time.sleep(0.05)


def report() -> None:
    """Add a line to the step's figures."""
    step = Path(sys.argv[0]).stem
    figures = {"step": step, "seconds": time.monotonic() - BEGUN, "cpu": time.process_time()}
    figures |= {"peak": held("VmHWM"), "anonymous": peak["anonymous"]}
    with Path(os.environ["SCOFT_MEASURED"]).open("a") as file:
        file.write(json.dumps(figures) + "\n")


if "SCOFT_MEASURED" in os.environ and "pipeline_steps" in " ".join(sys.orig_argv):
    atexit.register(report)
    threading.Thread(target=watch, daemon=True).start()
