"""What the filter of negatives keeps, with the embedded DreamSim."""

import numpy as np
import pytest
from PIL import Image

from pipeline_steps.artifacts import (
    DISTANCES,
    IMAGES,
    NEGATIVES,
    NEGATIVES_KEPT,
    Origin,
    encode_picture,
    is_blank,
)
from pipeline_steps.config import FilterConfig, Models
from pipeline_steps.negatives.filter import filter_negatives

KOREA = Origin("korea", "f" * 64)


def noise(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("picture", "blank"),
    [
        (Image.new("RGB", (8, 8), "teal"), True),
        (Image.new("L", (8, 8), 3), True),
        (Image.new("RGBA", (8, 8)), True),
        (noise(0), False),
        (Image.linear_gradient("L"), False),
    ],
)
def test_a_picture_of_one_colour_is_blank(picture, blank):
    assert is_blank(picture) is blank


def test_blank_and_too_similar_negatives_are_dropped(tmp_path, caplog):
    about = dict.fromkeys(IMAGES.schema.names) | {"crop": [0, 0, 9, 9], "source_width": 9, "source_height": 9}
    about |= {"image_id": "a", "caption": "c", "split": "train", "source_sha256": "0"}
    IMAGES.write(tmp_path / "i.parquet", [about | {"image": encode_picture(noise(0), "a.png")}], KOREA)
    drawn = [noise(0), Image.new("RGB", (64, 64)), noise(1)]
    rows = [
        {"image_id": "a", "index": n, "prompt": "p", "seed": n, "image": encode_picture(picture, f"{n}.png")}
        for n, picture in enumerate(drawn)
    ]
    NEGATIVES.write(tmp_path / "n.parquet", rows, KOREA)
    kept, distances = tmp_path / "k.parquet", tmp_path / "d.parquet"
    filter_negatives(
        tmp_path / "i.parquet", tmp_path / "n.parquet", kept, distances, "korea",
        Models().dreamsim, FilterConfig(min_distance=1e-4),
    )  # fmt: skip
    found = DISTANCES.read(distances)
    assert found[1]["distance"] > 1e-4  # far from its positive, and no negative all the same
    assert [row["kept"] for row in found] == [False, False, True]
    assert [row["index"] for row in NEGATIVES_KEPT.rows(kept)] == [2]
    assert "1 of 3 negatives are blank and dropped" in caplog.text
