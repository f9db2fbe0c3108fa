"""Every step refuses a damaged, foreign or old input before it writes anything."""

import json
import shlex
from pathlib import Path

import pytest
import torch

from pipeline_steps import artifacts
from pipeline_steps.artifacts import (
    ANSWERS,
    CAPTIONS,
    DEPTH,
    DISTANCES,
    FEATURES,
    FINDINGS,
    IMAGES,
    LORA,
    NEGATIVES,
    NEGATIVES_KEPT,
    SAMPLES,
    SCORES,
    TARGETS,
    TRAIN_CACHE,
    Origin,
    Table,
)
from pipeline_steps.config import Models, PerceptualConfig, PipelineConfig, SurveyConfig
from pipeline_steps.data.data_card import data_card
from pipeline_steps.data.data_report import data_report
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.features import features
from pipeline_steps.evaluation.merge_scores import merge_scores
from pipeline_steps.evaluation.sample import sample
from pipeline_steps.evaluation.score import score
from pipeline_steps.evaluation.train_prompts import train_prompts
from pipeline_steps.negatives.caption import caption
from pipeline_steps.negatives.depth import depth
from pipeline_steps.negatives.filter import filter_negatives
from pipeline_steps.negatives.synthesize import synthesize
from pipeline_steps.report.report import report
from pipeline_steps.survey.survey_aggregate import survey_aggregate
from pipeline_steps.survey.survey_pages import survey_pages
from pipeline_steps.training.cache import cache
from pipeline_steps.training.cache_negatives import cache_negatives
from pipeline_steps.training.export import export
from pipeline_steps.training.targets import targets
from pipeline_steps.training.train import train
from tests.artifacts import test_artifacts as damages
from tests.report.test_report import STYLE, TEMPLATE, culture_files

ORIGIN = Origin("korea", "korea" * 8)
MODELS, SETTINGS = Models(), PipelineConfig(cultures={"korea": {"suffix": ", in korea", "images": "."}})

STEPS = {
    "caption": lambda at, out: caption(
        at("images"), out, "korea", 1, MODELS.captioner, SETTINGS.caption
    ),
    "depth": lambda at, out: depth(at("images"), out, "korea", MODELS.depth, SETTINGS.depth),
    "synthesize": lambda at, out: synthesize(
        at("captions"), at("depth"), out, "korea", ", in korea", 1,
        MODELS.base, MODELS.controlnet, SETTINGS.negatives,
    ),
    "filter": lambda at, out: filter_negatives(
        at("images"), at("negatives"), out, out.with_name("distances"), "korea",
        MODELS.dreamsim, SETTINGS.filter,
    ),
    "cache": lambda at, out: cache(at("images"), at("captions"), out, "korea", MODELS.base, SETTINGS.cache),
    "targets": lambda at, out: targets(
        at("images"), at("negatives_kept"), out, "korea", 1, MODELS.clip, PerceptualConfig(), SETTINGS.targets
    ),
    "cache_negatives": lambda at, out: cache_negatives(
        at("images"), at("negatives_kept"), out, "korea", MODELS.base, SETTINGS.cache
    ),
    "train": lambda at, out: train(
        at("train_cache"), out, out.with_name("log"), "korea", "scoft_mpc", 1, MODELS.base,
        SETTINGS.train, at("targets"), extractor=MODELS.clip,
    ),
    "export": lambda at, out: export(
        at("lora"), at("images"), out, out.with_name("kohya"), out.with_name("card"), "korea", ", in korea",
        SETTINGS.export,
    ),
    "sample": lambda at, out: sample(
        at("images"), SETTINGS.evaluation.prompts, out, "korea", 1, MODELS.base,
        SETTINGS.sample, lora=at("lora"),
    ),
    "features": lambda at, out: features(
        at("samples"), out, "samples", MODELS.clip, MODELS.inception, MODELS.dino, MODELS.dreamsim,
        SETTINGS.features,
    ),
    "score": lambda at, out: score(
        at("samples"), at("features"), at("images"), at("reference"), out, "sd", SETTINGS.score
    ),
    "merge_scores": lambda at, out: merge_scores([at("scores")], out),
    "data_report": lambda at, out: data_report(at("images"), at("findings"), out, "korea", MODELS.base),
    "data_card": lambda at, out: data_card(at("images"), out, "korea", ", in korea"),
    "train_prompts": lambda at, out: train_prompts(at("images"), out, "korea", 2, 1),
    "survey_pages": lambda at, out: survey_pages(
        [at("samples"), at("samples_2")], out, out.with_name("forms"), "korea", 1,
        SurveyConfig(variants=("sd", "scoft_mpc")),
    ),
    "survey_aggregate": lambda at, out: survey_aggregate(
        at("answers"), out, *(out.with_name(name) for name in ("c", "s", "t")), 1
    ),
}  # fmt: skip
KINDS = {
    "images": IMAGES, "captions": CAPTIONS, "depth": DEPTH, "negatives": NEGATIVES,
    "negatives_kept": NEGATIVES_KEPT, "train_cache": TRAIN_CACHE, "targets": TARGETS, "lora": LORA,
    "samples": SAMPLES, "samples_2": SAMPLES, "features": FEATURES, "reference": FEATURES,
    "scores": SCORES, "findings": FINDINGS, "answers": ANSWERS, "distances": DISTANCES,
}  # fmt: skip
READS = {
    "caption": ["images"], "depth": ["images"], "synthesize": ["captions", "depth"],
    "filter": ["images", "negatives"], "cache": ["images", "captions"],
    "targets": ["images", "negatives_kept"], "cache_negatives": ["images", "negatives_kept"],
    "train": ["train_cache", "targets"], "export": ["lora"],
    "sample": ["images", "lora"], "features": ["samples"],
    "score": ["samples", "features", "images", "reference"], "merge_scores": ["scores"],
    "data_report": ["images", "findings"], "data_card": ["images"], "train_prompts": ["images"],
    "survey_pages": ["samples", "samples_2"], "survey_aggregate": ["answers"],
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Sound artifacts of one culture, as small as may be."""
    folder = tmp_path_factory.mktemp("world")
    culture_files(folder, "korea")
    origin = Origin(**{k: IMAGES.note(folder / "images.parquet")[k] for k in ("culture", "fingerprint")})
    ids = [
        row["image_id"]
        for row in IMAGES.rows(folder / "images.parquet", ["split"])
        if row["split"] == "train"
    ]
    CAPTIONS.write(
        folder / "captions.parquet",
        ({"image_id": image_id, "index": i, "caption": "a house"} for image_id in ids for i in range(2)),
        origin,
    )
    negatives = NEGATIVES.read(folder / "negatives.parquet")
    NEGATIVES_KEPT.write(
        folder / "negatives_kept.parquet", [r | {"distance": 0.5} for r in negatives], origin
    )
    FINDINGS.write(folder / "findings.parquet", [], origin)
    ANSWERS.write(folder / "answers.parquet", [], origin)
    for name, kind in (("train_cache", TRAIN_CACHE), ("targets", TARGETS), ("lora", LORA)):
        kind.write(
            folder / f"{name}.safetensors", {"a": torch.zeros(3)}, origin, {"image_ids": json.dumps(ids)}
        )
    places = {
        name: folder / f"{name}.{'parquet' if isinstance(kind, Table) else 'safetensors'}"
        for name, kind in KINDS.items()
    }
    return places | {
        "samples": folder / "samples/sd.parquet",
        "samples_2": folder / "samples/scoft_mpc.parquet",
        "features": folder / "features/sd.safetensors",
        "reference": folder / "features/images.safetensors",
    }  # fmt: skip


def of_another_culture(path, artifact):
    """The same file, but of another culture's pictures."""
    damages.write(artifact, path, Origin("wales", "wales" * 8))


DAMAGES = [
    damages.cut, damages.emptied, damages.gone, damages.a_pickle, damages.of_another_kind,
    damages.of_an_older_version, damages.with_an_older_schema, of_another_culture,
]  # fmt: skip
ALONE = {"merge_scores", "features", "survey_aggregate"}
"""Steps that read one file and are told no culture: whose it is, they pass on."""
CASES = [
    (step, name, damage)
    for step, names in READS.items()
    for name in names
    for damage in DAMAGES
    if not (damage is of_another_culture and step in ALONE)
]


@pytest.mark.parametrize(("step", "name", "damage"), CASES, ids=lambda part: getattr(part, "__name__", part))
def test_the_step_refuses_it_and_writes_nothing(step, name, damage, world, tmp_path):
    spoilt, kind = tmp_path / world[name].name, KINDS[name]
    spoilt.write_bytes(world[name].read_bytes())
    damage(spoilt, kind)
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(UserError) as error:
        STEPS[step](lambda asked: spoilt if asked == name else world[asked], folder / "result")
    line = str(error.value)
    assert "\n" not in line and str(spoilt) in line
    mend, _, same = line.rpartition("; ")[2].partition("give ")
    assert same == "Snakemake the same command again"
    assert (str(spoilt) in shlex.split(mend)) == spoilt.exists(), "there is something to delete, or nothing"
    assert list(folder.iterdir()) == []


def test_enough_cases():
    assert len(CASES) >= 200
    assert {name for names in READS.values() for name in names} >= {
        "images", "captions", "depth", "negatives", "negatives_kept", "train_cache", "targets", "lora",
        "samples", "features", "scores", "answers",
    }  # fmt: skip
    assert artifacts.rebuild(Path("a b")).startswith("delete 'a b' and ")


def test_the_page_takes_no_file_of_other_pictures(world, tmp_path):
    """One culture's depth made from an earlier set of its pictures."""
    older = damages.write(DEPTH, tmp_path / "depth.parquet", Origin("korea", "older"))
    with pytest.raises(UserError, match=r"was made from other pictures than .*; delete "):
        page(world, tmp_path, depth=[older])
    foreign = damages.write(DEPTH, tmp_path / "depth.parquet", Origin("wales", "older"))
    with pytest.raises(UserError, match="belongs to culture 'wales', which is not shown; delete "):
        page(world, tmp_path, depth=[foreign])


def page(world, folder, **changes):
    names = ("depth", "negatives", "distances", "samples", "features")
    sources = {name: [world[name]] for name in names} | {"images": [world["images"]]} | changes
    report(
        folder / "report.html", TEMPLATE, STYLE, references=[world["reference"]], scores=[world["scores"]],
        train_logs=[], settings=SETTINGS, **sources,
    )  # fmt: skip
