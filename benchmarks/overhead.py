"""What the workflow itself costs: scheduling, process start and imports, as a share of all CPU time.

    python benchmarks/overhead.py results/korea/lora.safetensors

Runs the targets from nothing in a folder of its own and prints JSON. CPU time, not wall time, so that
other work on the machine does not count; one thread a job, so that idle threads do not either.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tests import ROOT


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work, timing = Path(folder, "work"), Path(folder, "timing")
        timing.mkdir()
        work.mkdir()
        for path in ROOT.iterdir():  # data and fetched models too, whatever the configuration names
            if not path.name.startswith((".", "results")):
                (work / path.name).symlink_to(path)
        path = os.pathsep.join([str(ROOT / "benchmarks/timing"), str(ROOT)])
        environment = os.environ | {"PYTHONPATH": path, "SCOFT_TIMING": str(timing)}
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--cores",
            "2",
            "--config",
            "threads=1",
            "--",
            *sys.argv[1:],
        ]
        subprocess.run(command, cwd=work, env=environment, check=True, stdout=sys.stderr)
        reports = [json.loads(path.read_text()) for path in timing.iterdir()]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = used.ru_utime + used.ru_stime
    steps = defaultdict(lambda: {"imports_and_start": 0.0, "work": 0.0, "jobs": 0})
    for report in reports:
        if report["module"] not in ("__main__", "snakemake"):
            step = steps[report["module"]]
            step["imports_and_start"] += report["imports"] + report["start"]
            step["work"] += report["total"] - report["imports"] - report["start"]
            step["jobs"] += 1
    work_seconds = sum(step["work"] for step in steps.values())
    figures = {
        "cpu_seconds": total,
        "work_seconds": work_seconds,
        "imports_and_start_seconds": sum(step["imports_and_start"] for step in steps.values()),
        "overhead": 1 - work_seconds / total,
        "steps": dict(steps),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
