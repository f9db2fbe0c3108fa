"""The embedded pipeline of one culture through a real Slurm, with accidents, against the same run without."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.slurm.mini_slurm import MiniSlurm, missing_programs

ROOT = Path(__file__).parents[2]
TARGET = "korea/lora.safetensors"
COMPARED = (
    "images.parquet", "captions.parquet", "depth.parquet", "negatives.parquet", "negatives_kept.parquet",
    "train_cache.safetensors", "targets.safetensors", "train_log.parquet", "lora.safetensors",
)  # fmt: skip
SETTINGS = {
    "threads": 1,
    "caption": {"captions_per_image": 1, "max_new_tokens": 8},
    "negatives": {"per_positive": 1, "steps": 2},
    "filter": {"min_distance": 0.0},
    "train": {"updates": 4, "batch_size": 2, "perceptual_every": 2, "denoising": {"steps": 2}},
}
PATIENCE = 900  # seconds for a whole run; it takes two minutes on two idle cores


@pytest.fixture(scope="module")
def cluster() -> Iterator[MiniSlurm]:
    if missing := missing_programs():
        pytest.skip(f"needs Slurm (no {missing[0]}): apt-get install slurmctld slurmd slurm-client munge")
    # Not pytest's own folder, which is closed to the users that munged must let in.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, MiniSlurm(Path(folder)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder to run in: the workflow, the embedded family, tiny settings."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("Snakefile", "workflow", "resources", "pipeline_steps", "envs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "config").mkdir()
    culture = {"suffix": ", in korea", "images": "resources/mini/ccub/korea"}
    text = yaml.safe_dump(SETTINGS | {"cultures": {"korea": culture}})
    (folder / "config/config.yaml").write_text(text)
    return folder


def snakemake(work: Path, results: str, *options: str, environment=None) -> subprocess.Popen:
    # Snakemake's plugin can wait for ever for a controller that is gone.
    command = [
        "timeout", "-k", "10", str(PATIENCE), sys.executable, "-m", "snakemake", *options,
        "--config", f"results={results}", "--", f"{results}/{TARGET}",
    ]  # fmt: skip
    environment = (environment or os.environ) | {"PYTHONPATH": str(ROOT)}
    log = (work / f"{results}.txt").open("w")
    return subprocess.Popen(command, cwd=work, env=environment, stdout=log, stderr=log)


def profile(work: Path) -> Path:
    """The shipped profile with a test's patience."""
    settings = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    settings |= {
        "slurm-init-seconds-before-status-checks": 8,
        "max-status-checks-per-second": 10,
        "latency-wait": 15,
    }
    small = {"mem_mb": "1000 * attempt", "runtime": 10}
    settings["default-resources"] |= small
    settings["set-resources"] = {rule: wanted | small for rule, wanted in settings["set-resources"].items()}
    path = work / "profile/config.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(settings))
    return path.parent


def wait_for(cluster: MiniSlurm, run: subprocess.Popen, rule: str, elsewhere: str = "") -> dict[str, str]:
    """Return the Slurm job that runs a rule, as soon as it does so on another node than ``elsewhere``."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and run.poll() is None:
        for job in cluster.jobs():
            if f"rule_{rule}_" in job["comment"] and job["node"] != elsewhere:
                return job
        time.sleep(0.3)
    raise AssertionError(f"no job of rule {rule} ran")


def test_a_node_lost_and_a_job_cancelled(cluster, work):
    run = snakemake(work, "cluster", "--profile", str(profile(work)), environment=cluster.environment)
    try:
        cancelled = wait_for(cluster, run, "caption")
        cluster.run(f"scancel {cancelled['id']}")
        lost = wait_for(cluster, run, "synthesize")
        cluster.kill_node(lost["node"])
        cluster.run(f"scontrol update jobid={lost['id']} starttime=now")  # Slurm would wait two minutes
        again = wait_for(cluster, run, "synthesize", elsewhere=lost["node"])
        assert again["id"] == lost["id"]
        assert run.wait() == 0, (work / "cluster.txt").read_text()
    finally:
        run.terminate()
        run.wait()

    assert "CANCELLED" in (work / "cluster.txt").read_text()
    for stage in ("caption", "synthesize", "train_scoft_mpc"):  # each on a device that Slurm gave it
        assert re.search(r"^INFO GPU [01]$", (work / f"cluster/logs/korea/{stage}.log").read_text(), re.M)
    alone = snakemake(work, "alone", "--cores", "2")
    assert alone.wait() == 0, (work / "alone.txt").read_text()
    different = [
        name
        for name in COMPARED
        if (work / "cluster/korea" / name).read_bytes() != (work / "alone/korea" / name).read_bytes()
    ]
    assert different == []
    assert not list((work / "cluster").rglob("*.part"))
