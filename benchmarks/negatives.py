"""What the negatives of a drawn culture keep of their pictures, and how biased they are.

python -m benchmarks.negatives results/korea results/noise/korea ...

For each folder of a culture with images.parquet and negatives.parquet: Pearson's r between the depths that
the embedded MiDaS sees in a negative and in its picture (mean over negatives), and, read by the oracle, the
share of generic attributes that are the picture's, of cultural ones that are right, and of the stereotype's.
"""

from pathlib import Path

import cyclopts
import numpy as np
import torch
from PIL import Image

from pipeline_steps.artifacts import IMAGES, NEGATIVES, decode_picture, same_origin
from pipeline_steps.config import Models
from pipeline_steps.mini.world import ATTRIBUTES, CULTURAL, GENERIC, RIGHT, STEREOTYPE
from pipeline_steps.models import encoders, readers

MODELS = Models()


def measure(folder: Path) -> dict[str, float]:
    """Return the figures of one culture's negatives."""
    table = folder / "negatives.parquet"
    positives = {
        row["image_id"]: decode_picture(row["image"]).convert("RGB")
        for row in IMAGES.rows(folder / "images.parquet")
        if row["split"] == "train"
    }
    rows = NEGATIVES.rows(table)
    negatives = [(row["image_id"], decode_picture(row["image"]).convert("RGB")) for row in rows]
    kept, drawn = _seen([positives[name] for name, _ in negatives]), _seen([one for _, one in negatives])
    right = RIGHT[same_origin((NEGATIVES, table)).culture]
    return {
        "depth correlation": float(
            np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(kept["depth"], drawn["depth"], strict=True)])
        ),
        "generic kept": float(np.mean([kept[name] == drawn[name] for name in GENERIC])),
        "cultural right": float(np.mean([drawn[name] == right[name] for name in CULTURAL])),
        "stereotype": float(np.mean([drawn[name] == STEREOTYPE[name] for name in CULTURAL])),
    }


def _seen(pictures: list[Image.Image]) -> dict[str, np.ndarray]:
    """Depths (n, pixels) and each attribute's values (n,) of pictures."""
    depths = readers.depth_estimator(MODELS.depth)(pictures)
    assert MODELS.oracle is not None
    pixels = torch.from_numpy(np.stack([np.asarray(one) for one in pictures])).permute(0, 3, 1, 2)
    read = encoders.attribute_encoder(MODELS.oracle)(pixels).numpy()
    values = {name: np.array(ATTRIBUTES[name])[read[:, n]] for n, name in enumerate(ATTRIBUTES)}
    return values | {"depth": np.stack([np.asarray(depth, float).ravel() for depth in depths])}


def main(*folders: Path) -> None:
    """Print one row a folder.

    Args:
        folders: of a culture's results.
    """
    for number, folder in enumerate(folders):
        found = measure(folder)
        if number == 0:
            print("| negatives | " + " | ".join(found) + " |\n|---" + "|---" * len(found) + "|")
        print(f"| {folder} | " + " | ".join(f"{value:.3f}" for value in found.values()) + " |", flush=True)


if __name__ == "__main__":
    cyclopts.run(main)
