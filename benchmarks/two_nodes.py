"""Does a second node help? Synthesis of one culture's negatives by one job, then by two on two nodes.

    python -m benchmarks.two_nodes [PER_POSITIVE]

Starts the tests' Slurm on this machine, so that both nodes share its cores; one thread a job. Prints
JSON: wall seconds from submission to the merged table, waiting in the queue included.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tests import ROOT
from tests.slurm.mini_slurm import MiniSlurm
from tests.slurm.test_slurm import profile


def main() -> None:
    """Prepare captions and depth here, then time the synthesis on the cluster."""
    per_positive = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, MiniSlurm(Path(folder)) as cluster:
        work = Path(folder, "work")
        (work / "config").mkdir(parents=True)
        for name in ("Snakefile", "workflow", "profiles", "resources", "pipeline_steps", "envs"):
            (work / name).symlink_to(ROOT / name)
        config = {
            "threads": 1,
            "cultures": {"korea": {"suffix": ", in korea", "images": "resources/mini/ccub/korea"}},
            "negatives": {"per_positive": per_positive},
        }
        (work / "config/config.yaml").write_text(yaml.safe_dump(config))
        environment = cluster.environment | {"PYTHONPATH": str(ROOT)}
        options = ("--profile", str(profile(work)), "--rerun-triggers", "mtime")

        def snakemake(*arguments: str) -> float:
            begun = time.monotonic()
            command = [sys.executable, "-m", "snakemake", *arguments]
            subprocess.run(command, cwd=work, env=environment, check=True, stdout=sys.stderr)
            return time.monotonic() - begun

        korea = work / "results/korea"
        snakemake("--cores", "2", "--", "results/korea/captions.parquet", "results/korea/depth.parquet")
        seconds, tables = {}, set()
        for shards in (1, 2):
            (korea / "negatives.parquet").unlink(missing_ok=True)
            # Only synthesis is to be split: what is there already counts as made.
            for name in ("captions", "depth"):
                os.utime(korea / f"{name}.parquet")
            until = ("--allowed-rules", "synthesize", "merge_shards")
            seconds[shards] = snakemake(
                *options, *until, "--config", f"shards={shards}", "--", "results/korea/negatives.parquet"
            )
            tables.add((korea / "negatives.parquet").read_bytes())
    figures = {
        "pictures": 48 * per_positive,
        "seconds_one_job": round(seconds[1], 1),
        "seconds_two_nodes": round(seconds[2], 1),
        "speed_up": round(seconds[1] / seconds[2], 2),
        "same_bytes": len(tables) == 1,
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
