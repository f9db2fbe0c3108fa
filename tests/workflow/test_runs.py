"""Named runs as Snakemake plans them."""

import os
import subprocess
import sys

import yaml

from tests import ROOT


def test_a_run_has_its_own_processes_and_its_weights_are_fetched(tmp_path):
    weights = {"path": "https://example.org/lpips.pth"}
    runs = {
        "pair": {"train": {"processes": 2}},
        "lpips": {"train": {"perceptual": {"extractor": "lpips", "model": weights}}},
    }
    (tmp_path / "runs.yaml").write_text(yaml.safe_dump({"runs": runs}))
    loras = [f"results/korea/runs/{run}/scoft_m/lora.safetensors" for run in runs]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "-p", "--cores", "2", "--nolock", "--forceall",
         "--configfile", str(tmp_path / "runs.yaml"), "--", *loras, "models"],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shells = {
        name: next(part for part in (done.stdout + done.stderr).split("\n\n") if mark in part)
        for name, mark in {
            "pair": f"--lora {loras[0]}",
            "lpips": f"--lora {loras[1]}",
            "models": "pipeline_steps.models.fetch_models",
        }.items()
    }  # fmt: skip
    launcher = "python -m pipeline_steps.machine.gpus 2 torchrun --standalone --nproc_per_node 2"
    torchrun = f"{launcher} -m pipeline_steps.training.train"
    assert torchrun in shells["pair"] and "--gpus 2 " in shells["pair"]
    assert "python -m pipeline_steps.training.train" in shells["lpips"] and "--gpus 1 " in shells["lpips"]
    assert shells["models"].count("--extractors ") == 1 and weights["path"] in shells["models"]
