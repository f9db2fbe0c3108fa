"""Each LoRA on the prompts of each culture, against the un-tuned model."""

import csv
import json

import numpy as np
import pytest
import torch

from pipeline_steps.artifacts import FEATURES, SAMPLES, Origin
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.bleed import bleed
from pipeline_steps.mini.world import ATTRIBUTES, CULTURAL, RIGHT, STEREOTYPE
from tests.evaluation.test_score import picture

PROMPTS = ("a house", "a house", "a jar", "a jar")


def attributes(values):
    """A row of the oracle's readings with these cultural attributes."""
    return [ATTRIBUTES[name].index(values[name]) if name in CULTURAL else 0 for name in ATTRIBUTES]


def written(folder, culture, embeddings, shown, blank=(False,) * 4, networks=None):
    folder.mkdir(parents=True, exist_ok=True)
    origin = Origin(culture, "f" * 64)
    rows = [
        {"prompt_id": f"{n // 2:03d}", "index": n % 2, "prompt": text, "seed": n, "image": picture(n)}
        for n, text in enumerate(PROMPTS)
    ]
    SAMPLES.write(folder / "samples.parquet", rows, origin)
    tensors = {
        "dreamsim": torch.tensor(embeddings, dtype=torch.float32),
        "attributes": torch.tensor([attributes(values) for values in shown]),
        "blank": torch.tensor(blank),
    }
    FEATURES.write(folder / "f.safetensors", tensors, origin, {"networks": json.dumps(networks or {})})
    return folder / "samples.parquet", folder / "f.safetensors"


def turned(degrees):
    return [[float(np.cos(np.radians(a))), float(np.sin(np.radians(a)))] for a in degrees]


def test_changes_by_hand(tmp_path):
    right = RIGHT["korea"]
    half = {**STEREOTYPE, "shape": right["shape"]}
    _, plain = written(tmp_path / "sd", "korea", turned([0] * 4), [STEREOTYPE] * 4)
    at_home, tuned = written(tmp_path / "own", "korea", turned([60, 60, 90, 90]), [right] * 4)
    abroad, other = written(
        tmp_path / "abroad", "korea", turned([0, 0, 60, 180]), [half] * 4, blank=(False, False, False, True)
    )
    bleed([at_home, abroad], [tuned, other], [plain, plain], ["korea", "no culture"], tmp_path / "b.csv")
    rows = {row["measure"]: row for row in csv.DictReader((tmp_path / "b.csv").read_text().splitlines())}
    change = rows["change"]
    # 1 − cos of 60°, 60°, 90° and 90°; over the two prompts t with one degree of freedom.
    assert float(change["korea"]) == pytest.approx(0.75)
    assert change["lora"] == "korea" and float(change["korea_low"]) < 0.5 < 0.99 < float(change["korea_high"])
    # the blank picture, turned by 180°, is left out: (0 + 0 + .5) / 3
    assert float(change["no culture"]) == pytest.approx(0.1667, abs=1e-4)
    before, after = (rows[f"own attributes shown {when}"] for when in ("before", "after"))
    assert (float(before["korea"]), float(after["korea"])) == (0, 1)
    assert float(after["no culture"]) == pytest.approx(1 / 3, abs=1e-4)


def test_pictures_seen_by_other_networks_are_refused(tmp_path):
    _, plain = written(tmp_path / "sd", "korea", turned([0] * 4), [STEREOTYPE] * 4, networks={"a": {}})
    drawn, tuned = written(tmp_path / "own", "korea", turned([0] * 4), [STEREOTYPE] * 4)
    with pytest.raises(UserError, match="seen by different networks"):
        bleed([drawn], [tuned], [plain], ["korea"], tmp_path / "b.csv")


def test_files_of_two_cultures_are_refused(tmp_path):
    _, plain = written(tmp_path / "sd", "india", turned([0] * 4), [STEREOTYPE] * 4)
    drawn, tuned = written(tmp_path / "own", "korea", turned([0] * 4), [STEREOTYPE] * 4)
    with pytest.raises(UserError, match="made from other pictures"):
        bleed([drawn], [tuned], [plain], ["korea"], tmp_path / "b.csv")
