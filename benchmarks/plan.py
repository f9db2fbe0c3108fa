"""How long and with how much memory Snakemake plans a large project.

    python benchmarks/plan.py [CULTURES]

Plans all scores of that many cultures, the paper's five variants and three seeds from nothing; prints JSON.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from pipeline_steps.config import PAPER
from tests import ROOT

SEEDS = ("seed2", "seed3")  # beside the default run


def main() -> None:
    """Plan, and report what it took."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    names = [f"c{number:03d}" for number in range(count)]
    culture = {"suffix": ", in c", "images": "resources/mini/ccub/korea"}
    config = {
        "cultures": dict.fromkeys(names, culture),
        "runs": {run: {"seed": number} for number, run in enumerate(SEEDS)},
    }
    folders = ["scores", *(f"runs/{run}/scores" for run in SEEDS)]
    targets = [f"results/{n}/{f}/{v}.parquet" for n in names for f in folders for v in PAPER]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in ("Snakefile", "workflow", "profiles", "resources", "pipeline_steps", "envs"):
            (work / name).symlink_to(ROOT / name)
        (work / "config").mkdir()
        (work / "config/config.yaml").write_text(yaml.safe_dump(config))
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "-n",
            "--quiet",
            "rules",
            "--cores",
            "8",
            "--",
            *targets,
        ]
        begun = time.monotonic()
        done = subprocess.run(
            command, cwd=work, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        )
    seconds, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    jobs = re.search(r"^total +(\d+)", done.stdout + done.stderr, re.MULTILINE)
    figures = {
        "cultures": count,
        "jobs": int(jobs[1]),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "megabytes": round(used.ru_maxrss / 1024),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
