"""A project's folder holds what people change; the workflow stays where it is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline_steps.errors import UserError
from pipeline_steps.new_project import new_project
from tests import ROOT

FILES = [
    ".gitignore",
    "Snakefile",
    "config/config.yaml",
    "profiles/default/config.yaml",
    "profiles/slurm/config.yaml",
]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, env=environment
    )


def test_a_new_project_takes_a_new_culture_and_plans_it(tmp_path):
    done = run(tmp_path, "pipeline_steps.new_project", "lab/wales")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "lab/wales"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == FILES
    assert (folder / "data").is_dir()
    done = run(folder, "pipeline_steps.new_culture", "--name", "wales", "--suffix", ", in Wales")
    assert done.returncode == 0, done.stderr
    assert list(yaml.safe_load((folder / "config/config.yaml").read_text())["cultures"]) == ["wales"]
    done = run(folder, "snakemake", "--cores", "1", "-n", "-p", "--config", "sample={steps: 9}",
               "--", "results/wales/lora.safetensors", "results/wales/samples/sd.parquet")  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert "--folder data/wales" in done.stdout and '"steps":9' in done.stdout
    assert "profiles/default" in done.stderr + done.stdout  # Snakemake says which profile it takes


def test_git_leaves_out_what_people_entrusted(tmp_path):
    """Also a survey's codes as a sheet, and the archive of one contributor."""
    new_project(tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    entrusted = ["data/wales/a.jpg", "data/wales.collection/collection.sqlite", "answers/a.json"]
    entrusted += ["survey.sqlite", "codes.txt", "codes.html", "one.zip", "results/report.html"]
    left = subprocess.run(["git", "check-ignore", *entrusted], cwd=tmp_path, capture_output=True, text=True)
    assert left.stdout.split() == entrusted


def test_what_is_there_is_not_written_over(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("mine\n")
    with pytest.raises(UserError, match=r"config/config\.yaml: is there already; name another folder"):
        new_project(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config"]


def test_what_is_said_to_be_next_can_be_pasted(tmp_path):
    done = run(tmp_path, "pipeline_steps.new_project", "mein Projekt ä")
    command = done.stderr.partition("now: ")[2].strip().replace("python", sys.executable)
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0 and "--suffix" in done.stdout


def test_a_culture_is_added_in_a_projects_folder(tmp_path):
    done = run(tmp_path, "pipeline_steps.new_culture", "--name", "wales", "--suffix", ", in Wales")
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert (
        "config/config.yaml: no such file; go into your project's folder, or make one with: " in done.stderr
    )
