"""The workflow from any folder: what comes with the package, presets, the workflow as a module."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

from pipeline_steps.config import ModelRef
from pipeline_steps.config.checks import over_presets
from pipeline_steps.home import HOME, find, source
from pipeline_steps.models.store import place
from tests import ROOT

PRESETS = sorted(path.stem for path in (ROOT / "config/presets").glob("*.yaml"))
MODULE = """\
configfile: "config.yaml"

module scoft:
    snakefile: {snakefile!r}
    config: config["scoft"]
    prefix: {prefix!r}

use rule * from scoft{called}

rule mine:
    input: "{prefix}results/korea/{file}"
    output: "mine.txt"
    shell: "wc -c {{input}} > {{output}}"
"""


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
        cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip


def test_what_is_not_in_the_working_directory_is_the_packages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wording = "resources/survey/wording.en.yaml"
    assert HOME == ROOT and source() == str(ROOT)
    assert find(wording) == ROOT / wording
    assert place(ModelRef(path="resources/mini/clip")) == ROOT / "resources/mini/clip"
    (tmp_path / wording).parent.mkdir(parents=True)
    (tmp_path / wording).touch()
    assert find(wording) == Path(wording)
    for mine in ("resources/nowhere.txt", "tests/conftest.py", "../resources/survey", "x" * 300):
        assert find(mine) == Path(mine)


def test_models_lie_where_the_variable_says():
    code = (
        "from pipeline_steps.config import ModelRef as R; from pipeline_steps.models.store import place as p;"
    )
    command = [sys.executable, "-c", f"{code} print(p(R(path='someone/something')))"]
    for told, said in (({}, "models"), ({"SCOFT_MODELS": "/mnt/models"}, "/mnt/models")):
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | told, cwd=ROOT)
        assert done.stdout.strip() == f"{said}/someone/something", done.stderr


def config_of(snakefile: Path, folder: Path, settings: ConfigSettings) -> dict:
    with SnakemakeApi(OutputSettings(quiet={"all"})) as api:
        workflow = api.workflow(
            ResourceSettings(cores=1), config_settings=settings, snakefile=snakefile, workdir=folder
        )
        return json.loads(json.dumps(workflow._workflow.config))


def layers(presets: list[str]) -> list[str]:
    """The files of presets, each after those that it names itself."""
    files = []
    for name in presets:
        file = ROOT / f"config/presets/{name}.yaml"
        files += [*layers(yaml.safe_load(file.read_text()).get("presets", [])), str(file)]
    return files


@pytest.mark.parametrize("presets", [*([name] for name in PRESETS), ["sd15", "paper"], ["drawn", "authors"]])
def test_presets_are_laid_as_snakemake_lays_configuration_files(tmp_path, presets):
    """Snakemake's own reading of each file in turn, the configuration last and the command line over it."""
    own = {
        "presets": presets,
        "train": {"updates": 7, "perceptual": {"extractor": "dino", "layers": [-1]}},
        "models": {"oracle": None},
        "cultures": {"korea": {"suffix": ", there", "images": str(ROOT / "resources/mini/ccub/korea")}},
    }
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(own))
    (tmp_path / "more.yaml").write_text(
        "train: {learning_rate: 0.5}\ncultures: {korea: {suffix: ', said'}}\n"
    )
    settings = ConfigSettings(config={"seed": 3}, configfiles=[tmp_path / "more.yaml"])
    files = ["config/config.yaml", *layers(presets)]
    (tmp_path / "Snakefile").write_text(
        "".join(f'configfile: "{file}"\n' for file in [*files, files[0]]) + "rule all:\n    output: 'x'\n"
    )
    by_snakemake = config_of(tmp_path / "Snakefile", tmp_path, settings)
    assert by_snakemake["train"]["learning_rate"] == 0.5 and by_snakemake["train"]["updates"] == 7
    assert config_of(ROOT / "Snakefile", tmp_path, settings) == by_snakemake


def test_a_preset_of_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config/presets").mkdir(parents=True)
    (tmp_path / "config/presets/authors.yaml").write_text("presets: [drawn]\nseed: 5\n")
    laid = over_presets({"presets": "authors", "threads": 2})
    assert (laid["seed"], laid["threads"], len(laid["cultures"])) == (5, 2, 5)


def test_sections_on_the_command_line_keep_their_types():
    arguments = ['train={"batch_size": 3, "learning_rate": 1e-4}', "survey={variants: [sd, ldm]}", "seed=2"]
    laid = over_presets({"train": {"batch_size": "3", "updates": 5}, "seed": 2}, arguments)
    assert laid == {
        "train": {"batch_size": 3, "learning_rate": 1e-4, "updates": 5},
        "survey": {"variants": ["sd", "ldm"]},
        "seed": 2,
    }


def test_a_folder_with_a_configuration_and_nothing_else(tmp_path):
    """From any directory, with --directory elsewhere; a section on the command line holds numbers."""
    (tmp_path / "work/config").mkdir(parents=True)
    (tmp_path / "work/config/config.yaml").write_text("presets: [drawn]\n")
    done = run(tmp_path, "-n", "-p", "--snakefile", str(ROOT / "workflow/Snakefile"), "--directory", "work",
               "--config", "train={batch_size: 3}", "--", "results/korea/lora.safetensors")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"batch_size":3' in re.search(r"training\.train .*", done.stdout)[0]
    assert '"path":"resources/mini/base"' in done.stdout  # where the package lies makes nothing anew


@pytest.fixture
def module(tmp_path):
    """A function that writes a folder with a Snakefile that uses the workflow as a module."""

    def write(prefix: str, file: str, called: str = "") -> Path:
        (tmp_path / "config.yaml").write_text(
            "scoft:\n  presets: [drawn]\n  data: {resolution: 32}\n  shards: 2\n"
        )
        names = {"prefix": prefix, "file": file, "called": called}
        snakefile = MODULE.format(snakefile=str(ROOT / "workflow/Snakefile"), **names)
        (tmp_path / "Snakefile").write_text(snakefile)
        return tmp_path

    return write


@pytest.mark.parametrize(("prefix", "name"), [("", "scoft_"), ("sub/", "")])
def test_a_module_plans_every_kind_of_file(module, prefix, name):
    targets = (
        "report.html",
        "survey/answers.parquet",
        "sbom.cdx.json",
        "survey/korea/survey.html",
        "korea/data_report.html",
        "table1.csv",
    )
    rules = ("plan", "models", "withdraw_report", "purge_negatives")
    folder = module(prefix, "lora.safetensors", f" as {name}*" if name else "")
    (folder / "answers").mkdir()
    (folder / "answers/ann.json").write_text("[]")
    done = run(folder, "-n", "-p", "--", "mine", *(f"{prefix}results/{file}" for file in targets),
               *(f"{name}{rule}" for rule in rules))  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    commands = re.findall(r"^ +python -m (pipeline_steps\..*?)$", done.stdout, re.MULTILINE)
    words = [word for command in commands for word in shlex.split(command)]
    assert any(word.startswith(f"{prefix}results/") for word in words)
    assert not prefix or not [word for word in words if word.startswith("results")]
    assert not [word for word in words if word.startswith((f"{prefix}resources", f"{prefix}envs"))]
    assert {"rule mine:", f"rule {name}merge_shards:"} <= set(done.stdout.splitlines())


def test_the_slurm_profile_knows_the_rules_of_a_module(module):
    profile = str(ROOT / "workflow/profiles/slurm")
    done = run(module("", "lora.safetensors"), "-n", "--profile", profile, "--", "mine")
    assert done.returncode == 0, done.stderr + done.stdout
    train = done.stdout[done.stdout.index("rule train:") :].partition("\n\n")[0]
    assert "slurm_partition=gpu" in train


def test_a_module_runs(module):
    folder = module("sub/", "data_card.md")
    done = run(folder, "mine")
    assert done.returncode == 0, done.stderr
    assert (folder / "sub/results/korea/data_sets").is_dir()
    assert int((folder / "mine.txt").read_text().split()[0]) > 500
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == [
        "Snakefile", "config.yaml", "mine.txt", "sub",
    ]  # fmt: skip


def test_a_wrong_setting_of_a_module_is_said_on_one_line(module):
    folder = module("", "data_card.md")
    (folder / "config.yaml").write_text("scoft: {presets: [drown]}\n")
    done = run(folder, "-n", "mine")
    assert done.returncode != 0
    assert "presets: no such preset: 'drown' (there are: authors, drawn," in done.stdout + done.stderr


def test_paths_of_a_module_are_not_replaced_one_by_one(module):
    folder = module("", "data_card.md")
    file = folder / "Snakefile"
    file.write_text(file.read_text().replace("prefix: ''", 'replace_prefix: {"results/": "made/"}'))
    done = run(folder, "-n", "mine")
    assert (
        done.returncode != 0
        and "replace_prefix: give prefix:, or the setting 'results'" in done.stdout + done.stderr
    )


APPTAINER = """\
#!/bin/sh
# Runs here what it is asked to run in an image, and notes what it is given.
[ "$1" = --version ] && { echo "apptainer version 1.4.0"; exit; }
echo "$APPTAINER_BIND $*" >> "$NOTES"
for last; do :; done
exec bash -c "$last"
"""


def test_one_setting_names_the_image_of_every_job(tmp_path):
    """With a stand-in for Apptainer: what is asked of it, not what an image does."""
    (tmp_path / "bin").mkdir()
    for name in ("apptainer", "singularity"):
        (tmp_path / "bin" / name).write_text(APPTAINER)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("presets: [drawn]\ncontainer: scoft.sif\n")
    (tmp_path / "scoft.sif").touch()
    done = run(tmp_path, "-s", str(ROOT / "workflow/Snakefile"), "--sdm", "apptainer", "--",
               "results/korea/images.parquet", PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
               NOTES=str(tmp_path / "notes"))  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    (note,) = (tmp_path / "notes").read_text().splitlines()[:1]
    assert note.startswith(f"{ROOT} exec --home") and "scoft.sif" in note
    assert (tmp_path / "results/korea/images.parquet").is_file()


def test_a_missing_package_is_named(tmp_path):
    """The workflow's files alone are not enough: its steps are a Python package."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("presets: [drawn]\n")
    missing = "raise ModuleNotFoundError(name='pipeline_steps')"
    (tmp_path / "pipeline_steps.py").write_text(missing)
    done = run(tmp_path, "-n", "-s", str(ROOT / "workflow/Snakefile"), PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert (
        "pipeline_steps is not installed beside Snakemake; run: python -m pip install"
        in done.stdout + done.stderr
    )
