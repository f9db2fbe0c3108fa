"""What a card reached in training when ``python -m benchmarks.gpu`` was last run on one like it."""

import json
from typing import Any

from pipeline_steps.config import PipelineConfig
from pipeline_steps.home import find
from pipeline_steps.models import blueprints
from pipeline_steps.planning.cards import CARDS

FILE = "resources/measured/gpu.json"
"""The working directory's own, or the package's."""
MODELS = {"StableDiffusionPipeline": "sd15", "StableDiffusionXLPipeline": "sdxl", "ZImagePipeline": "zimage"}
"""Which measured model has the networks of a pipeline."""


def training_share(settings: PipelineConfig) -> tuple[float, str] | None:
    """Return the share of the card's published peak that an update of scoft_mpc reached, and where.

    Taken from the update of the same kind of networks whose batch is nearest to the configured one; None
    where this card, such networks or such an update were not measured.
    """
    path = find(FILE)
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    machine, card = found["machine"]["gpu"], settings.plan.gpu
    index = blueprints.lookup(settings.models.base, "model_index") or {}
    model = MODELS.get(str(index.get("_class_name")))
    rows = [row for row in found["updates"] if _is_like(row, model, settings)]
    if not rows or card not in machine.lower().replace(" ", "_"):
        return None
    nearest = min(rows, key=lambda row: abs(row["batch"] - settings.train.batch_size))
    share = nearest["tflops"] / CARDS[card].tflops
    return share, f"training reached on {machine}, {nearest['batch']} pictures at a time"


def _is_like(row: dict[str, Any], model: str | None, settings: PipelineConfig) -> bool:
    return (
        "tflops" in row
        and (row["model"], row["variant"], row["arrangement"]) == (model, "scoft_mpc", "trainer")
        and row.get("gradient_checkpointing", False) == settings.train.gradient_checkpointing
    )
