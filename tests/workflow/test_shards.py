"""Shards: the bytes of one job whatever their number; a lost one is made again alone."""

import os
import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS
from pipeline_steps.config import (
    CacheConfig,
    CaptionConfig,
    DataConfig,
    DepthConfig,
    Models,
    NegativesConfig,
    SampleConfig,
)
from pipeline_steps.data.ingest import ingest
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.sample import sample
from pipeline_steps.merge_shards import merge_shards
from pipeline_steps.negatives.caption import caption
from pipeline_steps.negatives.depth import depth
from pipeline_steps.negatives.synthesize import synthesize
from pipeline_steps.training.cache import cache
from tests import ROOT

MODELS = Models()
PICTURES = 3
KINDS = ("captions", "depth", "negatives", "train_cache", "samples")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """The first pictures of an embedded culture, all for training."""
    folder = tmp_path_factory.mktemp("shards")
    source = ROOT / "resources/mini/ccub/korea"
    for line in (source / "metadata.jsonl").read_text().splitlines()[:PICTURES]:
        name = Path(re.search(r'"file_name": "([^"]+)"', line)[1])
        (folder / "in").mkdir(exist_ok=True)
        (folder / "in" / name.name).write_bytes((source / name).read_bytes())
        (folder / "in" / f"{name.stem}.txt").write_text(f"a {name.stem}")
    config = DataConfig(test_share=0)
    ingest(folder / "in", folder / "images.parquet", "korea", ", in korea", 1, config)
    return folder / "images.parquet"


def ending(kind):
    return "safetensors" if kind == "train_cache" else "parquet"


@pytest.fixture(scope="module")
def work(images):
    """A function that does one shard of a stage."""
    folder = images.parent
    captions, depths = folder / "captions.parquet", folder / "depth.parquet"
    (folder / "prompts.txt").write_text("a house\na bowl\na robe\n")
    culture = {"culture": "korea"}
    seed = culture | {"seed": 7}

    def do(kind, path, shard):
        if kind == "captions":
            config = CaptionConfig(captions_per_image=2, batch_size=2)
            caption(images, path, captioner=MODELS.captioner, config=config, shard=shard, **seed)
        elif kind == "depth":
            config = DepthConfig(batch_size=2)
            depth(images, path, depth_model=MODELS.depth, config=config, shard=shard, **culture)
        elif kind == "negatives":
            config = NegativesConfig(per_positive=1, steps=1, batch_size=2)
            networks = {"base": MODELS.base, "controlnet": MODELS.controlnet}
            synthesize(
                captions, depths, path, suffix=", in korea", config=config, shard=shard, **networks, **seed
            )
        elif kind == "train_cache":
            config = CacheConfig(batch_size=2)
            cache(images, captions, path, base=MODELS.base, config=config, shard=shard, **culture)
        else:
            config = SampleConfig(images_per_prompt=1, steps=1, batch_size=2)
            prompts = folder / "prompts.txt"
            sample(images, prompts, path, base=MODELS.base, config=config, shard=shard, **seed)

    for kind in KINDS:
        do(kind, folder / f"{kind}.{ending(kind)}", (1, 1))
    return do


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 3])
def test_bytes_do_not_depend_on_the_number_of_shards(images, work, kind, count, tmp_path):
    """With three shards there are more shards than batches: one is empty."""
    paths = [tmp_path / f"{number}.{ending(kind)}" for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        work(kind, path, (number, count))
    merged = tmp_path / f"merged.{ending(kind)}"
    merge_shards(kind, paths, merged, "korea")
    assert merged.read_bytes() == (images.parent / f"{kind}.{ending(kind)}").read_bytes()


def test_shards_in_the_wrong_order_or_of_other_pictures_are_refused(images, work, tmp_path):
    paths = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    for number, path in enumerate(paths, 1):
        work("captions", path, (number, 2))
    with pytest.raises(UserError, match="out of order"):
        merge_shards("captions", paths[::-1], tmp_path / "merged.parquet", "korea")
    CAPTIONS.write(paths[1], [], artifacts.Origin("korea", "0" * 64))
    with pytest.raises(UserError, match="other pictures"):
        merge_shards("captions", paths, tmp_path / "merged.parquet", "korea")
    assert not (tmp_path / "merged.parquet").exists()


@pytest.mark.parametrize("total", [0, 1, 9, 10, 23])
@pytest.mark.parametrize("shards", [1, 2, 3, 8])
def test_every_batch_goes_to_one_shard(total, shards):
    whole = list(artifacts.batches(range(total), 3))
    shares = [
        list(artifacts.shard_batches(range(total), total, 3, (k, shards), "")) for k in range(1, shards + 1)
    ]
    assert list(chain(*shares)) == whole
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def planned(tmp_path, shards, *targets):
    """The jobs that Snakemake plans, by rule, looking at files alone."""
    command = [
        sys.executable, "-m", "snakemake", "--cores", "1", "-n", "--rerun-triggers", "input",
        "--config", f"shards={shards}", f"results={tmp_path}", "--", *map(str, targets),
    ]  # fmt: skip
    plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr
    text = plan.stdout + plan.stderr
    assert "Traceback" not in text, (
        "a rule that makes the file in one piece, or in shards, is passed over quietly"
    )
    return re.findall(r"^(?:local)?rule (\w+):", text, re.MULTILINE), text


@pytest.fixture
def korea(images, work, tmp_path):
    """Files by hand instead of by jobs: what is planned follows from which are there."""
    korea = tmp_path / "korea"
    for kind in ("captions", "depth", "negatives"):
        whole = images.parent / f"{kind}.parquet"
        for number in (1, 2, 3):
            shard = korea / f"shards/{number}_of_3/{kind}.parquet"
            shard.parent.mkdir(parents=True, exist_ok=True)
            shard.write_bytes(whole.read_bytes())
        (korea / f"{kind}.parquet").write_bytes(whole.read_bytes())
        (korea / "merged").mkdir(exist_ok=True)
        (korea / f"merged/{kind}.parquet.txt").write_text("3\n")
    return korea


def test_a_lost_shard_is_planned_alone(korea, tmp_path):
    (korea / "negatives.parquet").unlink()
    (korea / "shards/2_of_3/negatives.parquet").unlink()
    rules, text = planned(tmp_path, 3, korea / "negatives.parquet")
    assert rules == ["synthesize", "merge_shards"]
    assert "shard=shards/2_of_3/" in text


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_file_that_is_there_stays_whatever_becomes_of_the_setting(korea, tmp_path, shards):
    assert planned(tmp_path, shards, korea / "negatives.parquet")[0] == []
    (korea / "depth.parquet").unlink()
    jobs = {1: ["ingest", "depth"], 2: ["ingest", "depth", "depth", "merge_shards"], 3: ["merge_shards"]}
    assert planned(tmp_path, shards, korea / "depth.parquet")[0] == jobs[shards]  # the pictures are not there


@pytest.mark.parametrize("shards", [1, 2])
def test_shards_may_be_deleted_once_they_are_merged(korea, tmp_path, shards):
    shutil.rmtree(korea / "shards")
    assert planned(tmp_path, shards, korea / "negatives.parquet")[0] == []


@pytest.mark.parametrize("merged", [True, False])
def test_shards_of_a_run_that_was_broken_off_change_nothing(korea, tmp_path, merged):
    for number in (2, 8):
        left = korea / f"shards/1_of_{number}/negatives.parquet"
        left.parent.mkdir()
        left.write_bytes((korea / "negatives.parquet").read_bytes())
    if not merged:  # deleted, and made again in one piece
        (korea / "negatives.parquet").touch()
        for note in korea.glob("merged/*.txt"):
            os.utime(note, (1, 1))
    rules = planned(tmp_path, 2, korea / "negatives.parquet")[0]
    assert rules == [] if merged else "merge_shards" not in rules
