"""Every step's command line, with the very arguments that Snakemake prints for it."""

import importlib
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline_steps.cli import command_line
from pipeline_steps.config import Section
from tests import ROOT

BY_HAND = {
    "pipeline_steps.data.collection.__main__",
    "pipeline_steps.data.collection.contributor",
    "pipeline_steps.evaluation.try_page",
    "pipeline_steps.new_culture",
    "pipeline_steps.new_project",
    "pipeline_steps.survey.server.__main__",
    "pipeline_steps.survey.survey_codes",
}
"""Steps that no rule runs."""
TARGETS = (
    "models",
    "plan",
    "withdraw_report",
    "purge_negatives",
    "results/sbom.cdx.json",
    "results/report.html",
    "results/table1.csv",
    "results/bleed.csv",
    "results/table2.csv",
    "results/embedded_world.csv",
    "results/figures/curves.html",
    "results/figures/fig5.svg",
    "results/figures/fig7.svg",
    "results/korea/figures/fig6.png",
    "results/korea/figures/fig8.png",
    "results/korea/figures/samples.png",
    "results/korea/figures/kid_power.svg",
    "results/korea/data_report.html",
    "results/korea/lora_kohya.safetensors",
    "results/korea/hub",
    "results/korea/ablations/dpo/lora.safetensors",
    "results/korea/runs/second/scores/scoft_mpc.parquet",
    "results/links/images.parquet",
    "results/hub/images.parquet",
    "results/survey/korea/survey.html",
    "results/survey/people.html",
    "results/survey/simulated/report.html",
    "results/survey/simulated/agreement.html",
    "results/korea/runs/fetched/scores/sd.parquet",
)


def configuration(folder: Path, **settings: object) -> Path:
    """Write a configuration that needs every step; names and texts hold what a shell would misread."""
    (folder / "links.csv").write_text("url,caption,country_code\nhttps://example.org/a.png,a,KR\n")
    korea = {"suffix": ", in 'Korea' $HOME", "images": str(ROOT / "resources/mini/ccub/korea")}
    whole = {
        "cultures": {
            "korea": korea,
            "links": {"suffix": ", there", "images": "links.csv", "country": "KR"},
            "hub": {"suffix": ", there", "images": "hub:someone/something"},
        },
        "runs": {"second": {"seed": 2, "filter": {"min_distance": 0.2}}},
        "study": {
            "seeds": ["second"],
            "controls": {"second": {"variant": "dpo"}},
            "lengths": ["second"],
            "length_cultures": ["korea"],
        },
        "report": {"include": ["table1", "fig7"]},
        "evaluation": {
            "prompt_sets": {"fetched": {"path": "hub:someone/something/prompts.csv", "cultures": ["korea"]}}
        },
        "survey": {"cultures": ["korea"]},
    } | settings
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(whole))
    return path


def printed(folder: Path, *targets: str, **settings: object) -> list[list[str]]:
    """The words of every step's command of a dry run, as a shell would split them."""
    (folder / "resources").symlink_to(ROOT / "resources")
    (folder / "envs").symlink_to(ROOT / "envs")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "-n", "-p", "--directory", str(folder),
         "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(configuration(folder, **settings)),
         "--", *targets],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    found = re.findall(
        r"^ +python -m (pipeline_steps\.[\w.]+ .*?)2>&1 \|", done.stdout, re.MULTILINE | re.DOTALL
    )
    return [shlex.split(text) for text in found]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """One command of each rule of a whole run, with and without shards, by its step's module."""
    whole = printed(tmp_path_factory.mktemp("whole"), *TARGETS)
    shards = printed(tmp_path_factory.mktemp("shards"), "results/korea/lora.safetensors", shards=2)
    found: dict[str, list[list[str]]] = {}
    for module, *words in (*whole, *shards):
        found.setdefault(module, []).append(words)
    return found


def steps():
    """Every module that is a step, by the function it runs."""
    for path in sorted((ROOT / "pipeline_steps").rglob("*.py")):
        if name := re.search(r'^if __name__ == "__main__":\n    run_step\(\s*(\w+)', path.read_text(), re.M):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), name[1]


def test_every_step_is_run_by_a_rule_or_by_hand(commands):
    assert {module for module, _ in steps()} - BY_HAND == commands.keys()


@pytest.mark.parametrize(("module", "name"), [step for step in steps() if step[0] not in BY_HAND])
def test_a_step_takes_what_its_rule_hands_it(commands, module, name):
    step = getattr(importlib.import_module(module), name)
    for words in commands[module]:
        for flag in ("--threads", "--gpus"):  # run_step's own
            if flag in words:
                at = words.index(flag)
                assert words[at + 1].isdigit()
                del words[at : at + 2]
        _, bound, _ = command_line(step).parse_args(words, exit_on_error=False, print_error=False)
        given = dict(itertools.pairwise(words))
        for parameter, value in bound.arguments.items():
            if isinstance(value, Section):  # what it holds now is what was handed over, type by type
                read = type(value).model_validate_json(given[f"--{parameter.replace('_', '-')}"])
                assert value == read
        # What is not named has a default; every word that begins with -- was some parameter's.
        flags = {word.removeprefix("--").replace("-", "_") for word in words if word.startswith("--")}
        assert flags == bound.arguments.keys()
