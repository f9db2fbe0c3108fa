"""Put on PYTHONPATH by overhead.py: every Python process reports the CPU seconds it spent on imports."""

import atexit
import builtins
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

spent, depth = 0.0, 0


def timed(load: Callable) -> Callable:
    """Count the outermost of nested imports, lazy ones among them."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        global spent, depth
        begun = time.process_time() if depth == 0 else 0.0
        depth += 1
        try:
            return load(*args, **kwargs)
        finally:
            depth -= 1
            if depth == 0:
                spent += time.process_time() - begun

    return wrapper


def report() -> None:
    module = Path(sys.argv[0]).stem
    figures = {"module": module, "imports": spent, "start": started, "total": time.process_time()}
    Path(os.environ["SCOFT_TIMING"], f"{module}-{os.getpid()}.json").write_text(json.dumps(figures))


if "SCOFT_TIMING" in os.environ:
    started = time.process_time()  # the interpreter itself
    builtins.__import__ = timed(builtins.__import__)
    importlib.import_module = timed(importlib.import_module)
    atexit.register(report)
