"""How many pictures KID needs to order two models whose order is known, in the drawn world.

OMP_NUM_THREADS=1 python -m benchmarks.kid_power [--pool 1000] [--draws 300]

A "model" here draws a culture's pictures and gets each cultural attribute right with a known
probability. The reference is the culture's held-out pictures, the network that of the embedded family.
"""

import json
from pathlib import Path

import cyclopts
import numpy as np
import torch
from PIL import Image

from pipeline_steps.config import Models
from pipeline_steps.method.kid import kid, ordering_power
from pipeline_steps.mini.world import ATTRIBUTES, CULTURAL, RIGHT, draw_attributes, render
from pipeline_steps.models import encoders

CULTURE, SIZES = "korea", (10, 20, 50, 100, 200, 500)
PAIRS = ((0.25, 0.5), (0.5, 0.6), (0.6, 0.65))
"""Shares of right attributes: before and after fine-tuning; two variants; two that are nearly alike."""


def run(pool: int = 1000, draws: int = 300) -> dict[str, object]:
    """Return, for each pair of models, KID of both and the share of right orders by sample size."""
    look = encoders.kid_encoder(Models().inception)
    real = look(
        _pixels(
            [
                Image.open(path)
                for path in sorted(Path(f"resources/mini/ccub/{CULTURE}/images").glob("test_*"))
            ]
        )
    )
    seen = {right: look(_drawn(pool, right)) for right in sorted({share for pair in PAIRS for share in pair})}
    found = {}
    for worse, better in PAIRS:
        a, b = kid(seen[worse], real), kid(seen[better], real)
        sizes = [size for size in SIZES if size <= pool]
        power = ordering_power(seen[worse], seen[better], real, sizes, draws, seed=0)
        found[f"{worse} against {better}"] = {
            "kid_x1000": [round(a.value * 1000, 1), round(b.value * 1000, 1)],
            "half_width_x1000": round((a.high - a.value) * 1000, 1),
            "share of right orders": dict(power),
        }
    return found | {"reference": len(real)}


def _drawn(count: int, right: float) -> torch.Tensor:
    """Draw pictures with each cultural attribute right with the given probability."""
    rng = np.random.default_rng(round(right * 1000))
    pictures = []
    for _ in range(count):
        chosen = {
            name: RIGHT[CULTURE][name]
            if rng.random() < right
            else rng.choice([value for value in ATTRIBUTES[name] if value != RIGHT[CULTURE][name]])
            for name in CULTURAL
        }
        pictures.append(render(draw_attributes(rng, chosen))[0])
    return _pixels(pictures)


def _pixels(pictures: list[Image.Image]) -> torch.Tensor:
    """Stack RGB pictures, uint8 (n, 3, h, w)."""
    return torch.from_numpy(np.stack([np.asarray(p.convert("RGB")) for p in pictures])).permute(0, 3, 1, 2)


if __name__ == "__main__":
    app = cyclopts.App()
    app.default(run)
    print(json.dumps(app(result_action="return_value"), indent=1))
