"""The workflow as users run it: lint, plan, a real tiny run, and what a changed setting runs again."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from pipeline_steps.artifacts import CAPTIONS, DEPTH, IMAGES, LORA, NEGATIVES, NEGATIVES_KEPT, SAMPLES, SCORES
from pipeline_steps.config import BaseRef
from pipeline_steps.models.families import family_of
from tests import ROOT

pytestmark = pytest.mark.usefixtures("warm")
PICTURES, K = 6, 2
TINY = {
    "caption": {"captions_per_image": K},
    "negatives": {"per_positive": 2, "steps": 2},
    "filter": {"min_distance": 0.0},
    "train": {"updates": 3, "perceptual_every": 2, "denoising": {"steps": 2}},
    "watch": {"tensorboard": False},
    "sample": {"images_per_prompt": 2, "steps": 4},
    "score": {"neighbours": 1},
}


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the project's Snakefile over the folder's configuration, writing into the folder."""
    return subprocess.run(
        ["snakemake", "--cores", "2", "--directory", str(folder),
         "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(folder / "config.yaml"), *arguments],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def planned(folder: Path, *arguments: str) -> dict[str, int]:
    """Rules and numbers of jobs of a dry run."""
    done = snakemake(folder, "-n", *arguments)
    assert done.returncode == 0, done.stderr
    table = re.search(
        r"^job +count\n-+ +-+\n(.*?)^total", done.stderr + done.stdout, re.MULTILINE | re.DOTALL
    )
    jobs = dict(line.split() for line in table.group(1).splitlines()) if table else {}
    return {name: int(count) for name, count in jobs.items() if name != "default"}


def changed(folder: Path, **settings) -> Path:
    """Write another configuration beside the folder's own and return its path."""
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, warm):
    """A folder in which the chain ran from a few drawn pictures to scores."""
    folder = tmp_path_factory.mktemp("run")
    for name in ("resources", "pipeline_steps"):
        (folder / name).symlink_to(ROOT / name)
    for culture in ("korea", "india"):
        source = ROOT / "resources/mini/ccub" / culture
        rows = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
        kept = [row for row in rows if row["split"] == "train"][:PICTURES]
        kept += [row for row in rows if row["split"] == "test"][:PICTURES]
        (folder / culture / "images").mkdir(parents=True)
        for row in kept:
            shutil.copy(source / row["file_name"], folder / culture / row["file_name"])
        (folder / culture / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    (folder / "prompts.txt").write_text("a red house\na jar\n")
    cultures = {
        name: {"suffix": f", in {name}", "images": name, "prompts": "prompts.txt"}
        for name in ("korea", "india")
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(TINY | {"cultures": cultures}))
    done = snakemake(
        folder,
        "--",
        "results/korea/scores.parquet",
        "results/korea/model_card.md",
        "results/korea/figures/samples.png",
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


LINT = {
    "Mixed rules and functions in same snakefile.": "a helper with one user stands at the head of its file",
    # it may be missing: what is there is added to
    "Environment variable APPTAINER_BIND used but not asserted with envvars directive": "",
}
"""What Snakemake's linter says and is not followed, and why."""


def test_lint_is_clean(tmp_path):
    done = subprocess.run(
        ["snakemake", "--lint"],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said = set(re.findall(r"^    \* (.*?)(?: in line \d+\.)?:?$", done.stdout + done.stderr, re.MULTILINE))
    assert said <= set(LINT), done.stderr


AT_HOME_ELSEWHERE = {
    "models": ("models.fetch_models",),
    "merge_shards": ("merge_shards",),
    "study": ("report.study",),
    "curves": ("report.curves",),
}


def test_every_rule_has_a_log_and_with_an_output_a_benchmark():
    """A benchmark counts as output: a rule that only does something would be done once for all."""
    names = []
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for rule in re.split(r"^(?=rule )", path.read_text(), flags=re.MULTILINE)[1:]:
            name = rule.splitlines()[0].removeprefix("rule ").rstrip(":")
            names.append(name)
            if "shell:" in rule:
                assert "    log:" in rule, f"{path.name}: {name}"
                assert ("    benchmark:" in rule) == ("    output:" in rule), f"{path.name}: {name}"
                # A step's file has its rule's name, and lies in the folder of its phase.
                step = re.search(r"pipeline_steps\.([\w.]+) ", rule)[1]
                assert step in (f"{path.stem}.{name}", *AT_HOME_ELSEWHERE.get(name, ())), step
    assert len(names) <= 50


def test_the_default_plan_is_a_lora_of_every_culture(run):
    jobs = planned(run, "--forceall")
    stages = ("ingest", "data_card", "caption", "depth", "synthesize", "filter", "cache", "targets", "train")
    assert jobs == dict.fromkeys(stages, 2)


def test_each_stage_leaves_what_the_next_one_reads(run):
    korea = run / "results/korea"
    assert IMAGES.count(korea / "images.parquet") == 2 * PICTURES
    assert CAPTIONS.count(korea / "captions.parquet") == PICTURES * K
    assert DEPTH.count(korea / "depth.parquet") == PICTURES
    assert NEGATIVES.count(korea / "negatives.parquet") == PICTURES * 2
    assert NEGATIVES_KEPT.count(korea / "negatives_kept.parquet") == PICTURES * 2
    samples = SAMPLES.read(korea / "samples/scoft_mpc.parquet", ["prompt", "seed"])
    assert [row["prompt"] for row in samples] == ["a red house, in korea"] * 2 + ["a jar, in korea"] * 2
    assert [row["seed"] for row in samples] == [
        row["seed"] for row in SAMPLES.rows(korea / "samples/sd.parquet", ["seed"])
    ]
    metrics = {row["metric"] for row in SCORES.rows(korea / "scores.parquet")}
    assert {"kid", "clip_score", "attribute_accuracy"} <= metrics
    fingerprints = {
        kind.note(korea / name)["fingerprint"]
        for kind, name in ((IMAGES, "images.parquet"), (LORA, "lora.safetensors"), (SCORES, "scores.parquet"))
    }
    assert len(fingerprints) == 1
    assert fingerprints.pop() in (korea / "model_card.md").read_text()
    for log in ("caption", "depth", "synthesize", "train", "sample_sd"):
        assert "%|" in (run / f"results/logs/korea/{log}.log").read_text(), f"no progress bar in {log}.log"


def test_diffusers_loads_the_lora_and_the_picture_changes(run, monkeypatch):
    monkeypatch.chdir(ROOT)
    base = BaseRef(path="resources/mini/base")

    def draw(lora):
        pipeline = family_of(base).text_to_image(lora)
        noise = torch.Generator().manual_seed(0)
        return pipeline("a jar, in korea", generator=noise, num_inference_steps=4, output_type="pt").images

    plain, tuned = draw(None), draw(run / "results/korea/lora.safetensors")
    assert (plain - tuned).abs().mean() > 1e-4


def test_one_stage_of_one_culture_can_be_run_again(run):
    assert planned(run, "--", "results/korea/captions.parquet") == {}
    assert planned(run, "-R", "caption", "--", "results/korea/captions.parquet") == {"caption": 1}


def test_a_changed_setting_reruns_what_reads_it_and_what_follows(run):
    lora = "results/korea/lora.safetensors"
    assert planned(run, "--", lora) == {}
    config = str(run / "config.yaml")
    faster = changed(run, train={**TINY["train"], "learning_rate": 1e-3})
    assert planned(run, "--configfile", config, str(faster), "--", lora) == {"train": 1}
    nucleus = changed(run, caption={**TINY["caption"], "top_p": 0.5})
    after = dict.fromkeys(("caption", "synthesize", "filter", "cache", "targets", "train"), 1)
    assert planned(run, "--configfile", config, str(nucleus), "--", lora) == after


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["seed=many"], "seed: a whole number must stand here"),
        (["sede=1"], "sede: no such setting"),
        (["threads=0"], "threads: input should be greater than or equal to 1"),
        (
            ["cultures={'korea': {'images': 'nowhere'}}"],
            "cultures.korea.images: no such folder or file: nowhere",
        ),
    ],
)
def test_a_wrong_setting_ends_before_any_job_with_one_line(run, settings, message):
    done = snakemake(run, "--config", *settings, "--", "results/korea/lora.safetensors")
    output = done.stdout + done.stderr
    assert done.returncode != 0 and message in output
    assert "Traceback" not in output and "rule " not in output


def test_an_unknown_culture_is_named_with_the_mend(run):
    done = snakemake(run, "--", "results/atlantis/lora.safetensors")
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "cultures.atlantis: no such culture in the configuration (there are: india, korea)" in output
    assert "Traceback (most recent call last)" not in output


def test_what_the_configuration_says_itself_wins_over_its_presets(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/presets").symlink_to(ROOT / "config/presets")
    (tmp_path / "resources").symlink_to(ROOT / "resources")
    (tmp_path / "wales").mkdir()
    wales, drawn = (
        {"suffix": ", there", "images": images} for images in ("wales", "resources/mini/ccub/india")
    )
    settings = {
        "presets": ["sd15", "paper"],
        "train": {"updates": 7},
        "cultures": {"wales": wales, "drawn": drawn},
    }
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(settings))

    def plan(target: str) -> subprocess.CompletedProcess:
        command = ["snakemake", "-n", "-p", "--directory", str(tmp_path), target]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)

    done = plan("results/wales/lora.safetensors")
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    trained = re.search(r"pipeline_steps.training.train .*--config '([^']*)'", text).group(1)
    config = json.loads(trained)
    # of the configuration, of sd15, of paper, and of real, which sd15 names
    assert config["updates"] == 7
    assert "stable-diffusion-v1-5/stable-diffusion-v1-5" in text
    assert config["memorisation_captions"] == "all"
    assert "Salesforce/blip-image-captioning-large" in text
    refused = plan("results/drawn/lora.safetensors")
    assert refused.returncode != 0
    assert "cultures.drawn.images: 'resources/mini/ccub/india' belongs to the drawn world" in (
        refused.stdout + refused.stderr
    )
    refused = plan("results/reference/coco/images.parquet")
    assert re.search(
        r"evaluation.coco: 'resources/mini/coco' belongs .*; Table 1 .* wants MS-COCO: .* name it",
        refused.stdout + refused.stderr,
    )
    # the other way round nothing is refused, since one may want to try, but it is said
    assert "meet" not in text
    settings["presets"] = ["drawn"]
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(settings))
    done = plan("results/wales/lora.safetensors")
    said = done.stdout + done.stderr  # Snakemake logs a dry run to stdout
    assert said.count("cultures.wales: its pictures meet the embedded models") == 1
    assert "cultures.drawn:" not in said and "cultures.korea:" not in said
