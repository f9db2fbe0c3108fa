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

from tests import ROOT
from tests.slurm.mini_slurm import MiniSlurm, missing_programs

LORA = "{results}/{culture}/lora.safetensors"
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
PATIENCE = 1800  # seconds for a whole run; on two idle cores it takes two minutes


@pytest.fixture(scope="module")
def cluster() -> Iterator[MiniSlurm]:
    if missing := missing_programs():
        pytest.skip(f"needs Slurm (no {missing[0]}): apt-get install slurmctld slurmd slurm-client munge")
    # Not pytest's own folder, which is closed to the users that munged must let in.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, MiniSlurm(Path(folder)) as cluster:
        yield cluster


@pytest.fixture
def work(tmp_path) -> Path:
    """A folder to run in: the workflow and the embedded family."""
    for name in ("Snakefile", "workflow", "profiles", "resources", "pipeline_steps", "envs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "config").mkdir()
    return tmp_path


def configure(work: Path, cultures: list[str]) -> None:
    entries = {name: {"suffix": ", in korea", "images": "resources/mini/ccub/korea"} for name in cultures}
    (work / "config/config.yaml").write_text(yaml.safe_dump(SETTINGS | {"cultures": entries}))


def snakemake(work: Path, results: str, cultures: list[str], *options: str, environment=os.environ):
    """Start Snakemake for the LoRAs of some cultures."""
    configure(work, cultures)
    targets = [LORA.format(results=results, culture=name) for name in cultures]
    # Snakemake's plugin can wait for ever for a controller that is gone.
    command = [
        "timeout", "-k", "10", str(PATIENCE), sys.executable, "-m", "snakemake", *options,
        "--config", f"results={results}", "--", *targets,
    ]  # fmt: skip
    log = (work / f"{results}.txt").open("w")
    environment = environment | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=work, env=environment, stdout=log, stderr=log)


def profile(work: Path, minutes: int = 10) -> Path:
    """The shipped profile with a test's patience; a group's time is the sum of its jobs'."""
    settings = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    settings |= {
        "slurm-init-seconds-before-status-checks": 8,
        "max-status-checks-per-second": 10,
        "latency-wait": 15,
    }
    small = {"mem_mb": "1000 * attempt", "runtime": minutes}
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
    options = ("--profile", str(profile(work)))
    run = snakemake(work, "cluster", ["korea"], *options, environment=cluster.environment)
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
    for stage in ("caption", "synthesize", "train"):  # each on a device that Slurm gave it
        assert re.search(r"^INFO GPU [01]$", (work / f"cluster/logs/korea/{stage}.log").read_text(), re.M)
    alone = snakemake(work, "alone", ["korea"], "--cores", "2")
    assert alone.wait() == 0, (work / "alone.txt").read_text()
    different = [
        name
        for name in COMPARED
        if (work / "cluster/korea" / name).read_bytes() != (work / "alone/korea" / name).read_bytes()
    ]
    assert different == []
    assert not list((work / "cluster").rglob("*.part"))


# Makes every file that a step was told of and that is not there: its outputs.
DUMMY = """#!/bin/sh
for word; do
    case $word in many/*) [ -e "$word" ] || : > "$word" ;; esac
done
"""


def with_dummy(cluster: MiniSlurm, work: Path, text: str) -> dict[str, str]:
    """The cluster's environment with another "python" for the steps."""
    dummy = work / "bin/python"
    dummy.parent.mkdir()
    dummy.write_text(text)
    dummy.chmod(0o755)
    return cluster.environment | {"PATH": f"{dummy.parent}:{cluster.environment['PATH']}"}


def test_one_cultures_mistake_takes_no_other_along(cluster, work):
    """In one group with it, the others' files would be deleted: a group fails as a whole."""
    mistaken = DUMMY.replace("for word", 'case "$*" in *data.ingest*c01*) exit 1 ;; esac\nfor word', 1)
    environment = with_dummy(cluster, work, mistaken)
    cultures = ["c00", "c01", "c02"]
    options = ("--profile", str(profile(work)), "--retries", "0", "--until", "ingest")
    run = snakemake(work, "many", cultures, *options, environment=environment)
    assert run.wait() != 0
    made = [name for name in cultures if (work / f"many/{name}/images.parquet").exists()]
    assert made == ["c00", "c02"], (work / "many.txt").read_text()


def test_twenty_cultures_of_dummy_steps_in_groups(cluster, work):
    """180 jobs share twelve places in the queue; each group's jobs take its one GPU in turn."""
    environment = with_dummy(cluster, work, DUMMY)
    cultures = [f"c{number:02d}" for number in range(20)]
    stages = ("caption", "depth", "synthesize", "filter", "cache", "targets")
    options = (
        "--profile", str(profile(work, minutes=5)), "--group-components", "data=5", "prepare=5", "train=5",
        "--groups", "ingest=data", "data_card=data", *(f"{stage}=prepare" for stage in stages), "train=train",
        "--resources", "gpu=1", "mem_mb=2000", "--set-resource-scopes", "gpu=local", "mem_mb=local",
    )  # fmt: skip
    run = snakemake(work, "many", cultures, *options, environment=environment)
    assert run.wait() == 0, (work / "many.txt").read_text()
    text = (work / "many.txt").read_text()
    assert len(re.findall("has been submitted with SLURM jobid", text)) == 12
    assert all((work / LORA.format(results="many", culture=name)).exists() for name in cultures)
