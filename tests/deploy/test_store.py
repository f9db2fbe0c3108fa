"""Results in an object store, and jobs on machines that share nothing but it: a real protocol, moto's server.

A node is an empty folder of its own for each job, which sees of the run what the store brings it.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from tests import ROOT
from tests.deploy.test_deploy import TINY
from tests.warm_python import WarmPython

SETTINGS = TINY | {
    "presets": ["own"],
    "cache": {"generic_captions": "data/captions.txt"},
    "cultures": {"korea": {"suffix": ", in Korea", "images": "data/korea", "prompts": "data/prompts.txt"}},
    "train": TINY["train"] | {"updates": 24},
    "sample": {"images_per_prompt": 2, "steps": 1},
    "score": {"variants": ["sd", "scoft_mpc"], "neighbours": 1},
    "watch": {"tensorboard": False, "checkpoint_every": 1, "checkpoints": "s3://checkpoints/here"},
}
LORA, SCORES = "results/korea/lora.safetensors", "results/korea/scores.parquet"
STORE = ("--default-storage-provider", "s3", "--default-storage-prefix", "s3://bucket/scoft")
PATIENCE = 600
"""Seconds after which a run counts as hanging."""
SUBMIT = """\
#!/bin/bash
# A node of its own for each job: an empty folder; its name is the job's.
node=$(mktemp -d "$NODES/XXXXXX")
cd "$node"
set -m # a process group of its own
bash -c 'bash "$0" && touch succeeded || touch failed' "$1" > log 2>&1 < /dev/null &
echo $! > pid
echo "$node"
"""
STATUS = """\
#!/bin/bash
if [ -e "$1/succeeded" ]; then echo success; elif [ -e "$1/failed" ]; then echo failed; else echo running; fi
"""


@pytest.fixture(scope="module")
def store():
    """The address of an S3 server on the loopback."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="module")
def environment(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm")
    variables = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "AWS_ENDPOINT_URL": store,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NODES": str(folder / "nodes"),
    }
    (folder / "nodes").mkdir()
    with WarmPython(folder / "python", variables) as warm:
        yield variables | {"PATH": f"{warm.path}{os.pathsep}{variables['PATH']}"}


@pytest.fixture(scope="module")
def bucket(store):
    """A function that returns the keys and bytes of a bucket."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.resource("s3", endpoint_url=store, **keys)

    def held(name: str) -> dict[str, bytes]:
        there = client.Bucket(name)
        if there not in client.buckets.all():
            return {}
        found = {}
        for item in there.objects.all():
            with contextlib.suppress(client.meta.client.exceptions.NoSuchKey):  # deleted since it was listed
                found[item.key] = item.get()["Body"].read()
        return found

    client.create_bucket(Bucket="checkpoints")
    return held


def project(folder: Path) -> Path:
    """A project with a few pictures, and prompts and a preset of its own."""
    command = [sys.executable, "-m", "pipeline_steps.new_project", str(folder)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    (folder / "config/presets").mkdir()
    (folder / "config/presets/own.yaml").write_text("data: {resolution: 32}\n")
    (folder / "config/config.yaml").write_text(yaml.safe_dump(SETTINGS))
    source, target = ROOT / "resources/mini/ccub/korea", folder / "data/korea"
    rows = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    kept = [row for split in ("train", "test") for row in [r for r in rows if r["split"] == split][:4]]
    (target / "images").mkdir(parents=True)
    for row in kept:
        shutil.copy(source / row["file_name"], target / row["file_name"])
    (target / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    (folder / "data/prompts.txt").write_text("a red house\na jar\n")
    (folder / "data/captions.txt").write_text("a robe at night\na lantern on the left\n")
    return folder


def start(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        ["python", "-m", "snakemake", *arguments], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0,
    )  # fmt: skip


def said(process: subprocess.Popen) -> str:
    """What it says to its end; it must succeed."""
    try:
        output = process.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, output[-6000:]
    return output


def on_nodes(folder: Path) -> list[str]:
    """The words of a run whose jobs go to nodes that share nothing with it."""
    for name, text in (("submit", SUBMIT), ("status", STATUS)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return [
        "--executor", "cluster-generic", "--jobs", "2", "--retries", "1",
        "--seconds-between-status-checks", "1",
        "--cluster-generic-submit-cmd", str(folder / "submit"),
        "--cluster-generic-status-cmd", str(folder / "status"),
        *STORE, "--shared-fs-usage", "none", "--job-deploy-sources", "--",
    ]  # fmt: skip


def lose_the_node_in_training(nodes: Path, bucket, run: subprocess.Popen) -> None:
    """Kill all of the job that trains, as soon as it has left a checkpoint."""
    while not any(key.endswith(".safetensors") for key in bucket("checkpoints")):
        assert run.poll() is None, run.communicate()[0][-6000:]
        time.sleep(0.05)
    (node,) = (log.parent for log in nodes.glob("*/log") if "training.train " in log.read_text())
    os.killpg(int((node / "pid").read_text()), signal.SIGKILL)
    (node / "failed").touch()


def test_the_main_job_on_machines_that_share_nothing(tmp_path, environment, bucket):
    """A node that is lost in training costs what came after its last checkpoint, and no byte."""
    nodes = Path(environment["NODES"])
    folder = project(tmp_path / "project")
    words = on_nodes(folder)
    run = start(folder, environment, *words, SCORES)
    lose_the_node_in_training(nodes, bucket, run)
    assert f"scoft/{LORA}" not in bucket("bucket")
    said(run)
    held = bucket("bucket")
    log = held["scoft/results/logs/korea/train.log"].decode()
    assert "going on from" in log and f"scoft/{SCORES}" in held
    assert not bucket("checkpoints")

    ran = [re.findall(r"python -m pipeline_steps\.(\S+)", log.read_text()) for log in nodes.glob("*/log")]
    steps = [step for steps in ran for step in set(steps)]
    assert all(len(set(steps)) == 1 for steps in ran) and steps.count("training.train") == 2
    # What reads files that people hand in runs where these lie.
    assert {"negatives.synthesize", "training.cache", "evaluation.sample"} < set(steps)
    assert "data.ingest" not in steps
    assert not [*nodes.glob("*/data"), *nodes.glob("*/results")]
    assert "Nothing to be done" in said(start(folder, environment, *words, SCORES))

    whole = project(tmp_path / "whole")
    settings = SETTINGS | {"watch": {"tensorboard": False}}
    (whole / "config/config.yaml").write_text(yaml.safe_dump(settings))
    said(start(whole, environment, "--cores", "2", "--", LORA))
    assert (whole / LORA).read_bytes() == held[f"scoft/{LORA}"]


def test_a_run_here_whose_results_lie_in_a_store(tmp_path, environment, bucket):
    folder = project(tmp_path / "project")
    local = ("--cores", "2", *STORE[:-1], "s3://bucket/local", "--")
    card = "results/korea/data_card.md"
    said(start(folder, environment, *local, card, "results/korea/data_report.html"))
    assert f"local/{card}" in bucket("bucket") and not (folder / card).exists()
    refused = start(folder, environment, *local, "purge_negatives")
    assert "results lie in the storage (s3)" in refused.communicate(timeout=PATIENCE)[0]
    assert refused.returncode != 0


def test_pages_tables_and_the_survey_are_planned_in_a_store(tmp_path, environment):
    folder = project(tmp_path / "project")
    targets = ("plan", "results/report.html", "results/table1.csv", "results/survey/simulated/report.html")
    # A place in the store that no other test has filled: every step is planned.
    empty = (*STORE[:-1], "s3://bucket/planned")
    planned = said(start(folder, environment, "-n", "--cores", "2", *empty, "--", *targets))
    assert "rule report:" in planned and "rule ingest:" in planned
    # No path of a result but of what stays here: the fingerprints, the rounds of the survey, and the plan.
    assert set(re.findall(r"--(\S+) results/", planned)) == {"data-sets", "rounds", "survey", "plan"}
