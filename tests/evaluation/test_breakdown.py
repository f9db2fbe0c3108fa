"""Scores by category, era and prompt, against the same scores of the pictures alone."""

import json

import numpy as np
import pytest
import torch

from pipeline_steps.artifacts import BREAKDOWN, FEATURES, SCORES
from pipeline_steps.config import PromptSet, ScoreConfig
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.breakdown import breakdown
from pipeline_steps.evaluation.score import score
from tests.evaluation.test_score import KOREA, NETWORKS, images, samples, seen

PROMPTS = ["a jar", "a modern robe", "a robe", "a lantern"]
TABLE = (
    "prompt,category,era\na jar,utensils_and_tools,\na modern robe,clothing,modern\na robe,clothing,\n"
    "a lantern,,\n"
)


@pytest.fixture
def world(tmp_path):
    """Two variants' pictures of four prompts, four each, two of them blank."""
    (tmp_path / "samples").mkdir()
    m = images(tmp_path / "images.parquet", ["a jar, in korea", "other"], 4)
    FEATURES.write(tmp_path / "y.safetensors", seen(m, 1), KOREA, {"networks": json.dumps(NETWORKS)})
    (tmp_path / "features").mkdir()
    for number, variant in enumerate(("sd", "scoft_mpc")):
        n = samples(tmp_path / f"samples/{variant}.parquet", [f"{p}, in korea" for p in PROMPTS], 4)
        tensors = seen(n, 10 + number, blank=(0, 5))
        path = tmp_path / f"features/{variant}.safetensors"
        FEATURES.write(path, tensors, KOREA, {"networks": json.dumps(NETWORKS)})
    (tmp_path / "prompts.csv").write_text(TABLE)
    return tmp_path


def broken_down(world, prompts="prompts.csv", **settings):
    breakdown(
        [world / f"samples/{variant}.parquet" for variant in ("sd", "scoft_mpc")],
        [world / f"features/{variant}.safetensors" for variant in ("sd", "scoft_mpc")],
        world / "images.parquet", world / "y.safetensors", world / prompts, world / "b.parquet", **settings,
    )  # fmt: skip
    rows = BREAKDOWN.read(world / "b.parquet")
    return {(row["by"], row["group"], row["variant"], row["metric"]): row for row in rows}


def test_each_group_is_scored_as_if_it_were_alone(world):
    rows = broken_down(world)
    tensors = FEATURES.read(world / "features/sd.safetensors")
    keep = np.array([4, 6, 7, 8, 9, 10, 11])  # the two robes without the blank one
    n = samples(world / "alone.parquet", [f"{p}, in korea" for p in PROMPTS], 4)
    blank = torch.tensor([number not in keep for number in range(n)])
    FEATURES.write(
        world / "alone.safetensors", tensors | {"blank": blank}, KOREA, {"networks": json.dumps(NETWORKS)}
    )
    files = [
        world / name for name in ("alone.parquet", "alone.safetensors", "images.parquet", "y.safetensors")
    ]
    score(*files, world / "scores.parquet", "sd", ScoreConfig(neighbours=2))
    alone = {row["metric"]: row for row in SCORES.rows(world / "scores.parquet")}
    own = {key[3]: row for key, row in rows.items() if key[:3] == ("category", "clothing", "sd")}
    assert set(own) == {
        "kid",
        "cmmd",
        "clip_score",
        "div",
        "nearest_train",
        "clip_i",
        "dino",
        "dreamsim",
    } & set(alone)
    for metric, row in own.items():
        for column in ("value", "low", "high", "interval", "generated"):
            assert row[column] == alone[metric][column], (metric, column)
        assert row["prompts"] == 2


def test_groups_are_what_the_table_says_and_what_it_does_not(world):
    rows = broken_down(world)
    groups = {}
    for by, group, *_ in rows:
        groups.setdefault(by, set()).add(group)
    assert groups == {
        "category": {"clothing", "utensils and tools", "not stated"},
        "era": {"modern", "not stated"},
        "prompt": {f"{p}, in korea" for p in PROMPTS},
    }
    counts = {key[1]: row["generated"] for key, row in rows.items() if key[0] == "prompt" and key[3] == "kid"}
    assert counts == {
        "a jar, in korea": 3,
        "a modern robe, in korea": 3,
        "a robe, in korea": 4,
        "a lantern, in korea": 4,
    }
    (world / "prompts.txt").write_text("\n".join(PROMPTS))
    assert {key[0] for key in broken_down(world, "prompts.txt")} == {"prompt"}, "nothing is told apart"


def test_a_further_set_is_read_as_it_was_drawn(world):
    lines = [f"{text},{n},korea\n" for n, text in enumerate(PROMPTS)]
    (world / "set.csv").write_text("text,kind,land\n" + "".join([*lines, "a tower,9,wales\n"]))
    named = PromptSet(path="set.csv", columns={"prompt": "text", "category": "kind", "country": "land"})
    rows = broken_down(world, "set.csv", prompt_set=named, country=["Korea"])
    assert {key[1] for key in rows if key[0] == "category"} == {"0", "1", "2", "3"}


def test_prompts_that_changed_since_are_refused(world):
    (world / "prompts.csv").write_text(TABLE.replace("a jar", "a house"))
    with pytest.raises(UserError, match=r"'a jar, in korea' is none of the prompts any more; delete "):
        broken_down(world)
    (world / "prompts.csv").write_text(TABLE.replace("a lantern,,\n", ""))
    with pytest.raises(UserError, match="none of the prompts any more"):
        broken_down(world)
