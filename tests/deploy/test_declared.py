"""Each step in a folder that holds what its rule declares as inputs, and nothing else."""

import os
import subprocess
import sys

import yaml

from tests import ROOT
from tests.deploy.test_deploy import TINY
from tests.deploy.test_store import project
from tests.warm_python import WarmPython

SHADOWS = """
for declared in workflow.rules:
    if declared.output:
        declared.shadow_depth = "minimal"
"""
"""Snakemake's own word for such a folder; outputs are moved out of it afterwards."""
TARGETS = (
    "korea/data_report.html",
    "korea/lora_kohya.safetensors",
    "korea/ablations/dpo/lora.safetensors",
    "korea/figures/samples.png",
    "korea/figures/fig8.png",
    "report.html",
    "table2.csv",
    "bleed.csv",
    "survey/korea/survey.html",
    "survey/simulated/report.html",
)


def test_nothing_is_read_that_was_not_declared(tmp_path):
    folder = project(tmp_path / "project")
    config = yaml.safe_load((folder / "config/config.yaml").read_text()) | {
        "watch": TINY["watch"],
        "train": TINY["train"],
        "survey": {
            "pages": 4,
            "pages_per_participant": 2,
            "simulation": {"participants": 4, "power_trials": 2, "power_participants": [5]},
        },
    }
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    with (folder / "Snakefile").open("a") as file:
        file.write(SHADOWS)
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    targets = [f"results/{name}" for name in TARGETS]
    with WarmPython(tmp_path / "python", variables) as warm:
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", "--", *targets],
            cwd=folder, env=variables | {"PATH": f"{warm.path}{os.pathsep}{variables['PATH']}"},
            capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    assert all((folder / name).is_file() for name in targets)
