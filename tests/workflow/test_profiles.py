"""The shipped profiles keep up with the rules."""

import os
import re
import subprocess
import sys

import yaml

from tests import ROOT

PROFILE = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())


def rules() -> dict[str, bool]:
    """Every rule, and whether it takes a GPU."""
    text = "".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    parts = re.split(r"^rule (\w+):", text, flags=re.MULTILINE)[1:]
    return {
        name: re.search(r"^        gpu=", body, re.MULTILINE) is not None
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def test_every_job_with_a_gpu_has_its_place_in_the_profile():
    known, placed = rules(), PROFILE["set-resources"]
    assert {name for name, asked in placed.items() if asked.get("slurm_partition") == "gpu"} == {
        name for name, gpu in known.items() if gpu
    }
    assert placed.keys() <= known.keys()


def test_groups_are_of_rules_without_a_gpu():
    known = rules()
    assert all(known[name] is False for name in PROFILE["groups"])
    assert set(PROFILE["group-components"]) == set(PROFILE["groups"].values())
    assert all("{culture}" in group for group in PROFILE["groups"].values()), "one's mistake ends the others'"


def test_the_default_profile_is_found_without_being_named():
    """Without it a kill between a file's appearance and Snakemake's note of it needs another command."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "all", "--cores", "1", "models"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert "Using workflow specific profile profiles/default" in done.stderr
    default = yaml.safe_load((ROOT / "workflow/profiles/default/config.yaml").read_text())
    assert default["rerun-incomplete"]


def test_a_dry_run_says_how_many_gpu_hours_are_asked_for(tmp_path):
    for name in ("Snakefile", "workflow", "profiles", "config", "resources"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [
        "snakemake",
        "--dry-run",
        "--profile",
        "workflow/profiles/slurm",
        "results/korea/lora.safetensors",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # this code, whatever is installed beside it
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    asked = PROFILE["set-resources"]
    rules_with_a_gpu = ("caption", "depth", "cache", "synthesize", "filter", "targets", "train")
    minutes = sum(eval(asked[rule]["runtime"], {"attempt": 1}) for rule in rules_with_a_gpu)
    assert f"GPU hours: at most {minutes / 60:.1f}, by what 7 jobs ask" in done.stdout + done.stderr


def test_what_needs_the_network_runs_where_snakemake_runs():
    steps = {
        path.stem for path in (ROOT / "pipeline_steps").rglob("*.py") if "network=True" in path.read_text()
    }
    steps.add("download")  # with a client of its own
    text = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    bodies = re.split(r"^rule ", text, flags=re.MULTILINE)[1:]
    found = {
        step: body
        for step in steps
        for body in bodies
        if re.search(rf"-m pipeline_steps\.\w+\.{step} ", body)
    }
    assert found.keys() == steps == {"download", "fetch_data_set", "fetch_models", "fetch_prompt_set"}
    assert all("    localrule: True" in body for body in found.values())
