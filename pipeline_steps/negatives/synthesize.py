"""Negatives: the un-tuned model's own pictures of the training scenes (paper §4.4)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS, DEPTH, NEGATIVES, WHOLE, Row, Shard
from pipeline_steps.cli import run_step
from pipeline_steps.config import BaseRef, ModelRef, NegativesConfig
from pipeline_steps.seeds import derive_seed


def synthesize(
    captions: Path,
    depth: Path,
    negatives: Path,
    culture: str,
    suffix: str,
    seed: int,
    base: BaseRef,
    controlnet: ModelRef,
    config: NegativesConfig,
    shard: Shard = WHOLE,
) -> None:
    """Draw x⁻ = Θ_c(D(x⁺), c_blip + suffix) with depth ControlNet on the un-tuned model.

    Each negative has its own noise, bound to (seed, culture, image id, index), so that pictures do
    not depend on the batch size beyond rounding.

    Args:
        captions: BLIP captions; negative ``i`` takes caption ``i mod k``.
        depth: depth maps.
        negatives: table to write, ``per_positive`` rows per training picture.
        culture: its name.
        suffix: of the culture, appended to the caption.
        seed: the run's seed.
        base: the model to be mended.
        controlnet: depth ControlNet for it.
        config: how many, steps, guidance.
        shard: which share of them.

    Raises:
        UserError: there is no depth control for this kind of model.
    """
    import torch

    from pipeline_steps.models.families import family_of

    origin = artifacts.same_origin((CAPTIONS, captions), (DEPTH, depth), culture=culture)
    wanted = _wanted(captions, depth, culture, suffix, seed, config.per_positive)
    total = DEPTH.count(depth) * config.per_positive
    pipeline = family_of(base).depth_to_image(controlnet)
    with NEGATIVES.writer(negatives, origin) as table:
        batches = artifacts.shard_batches(wanted, total, config.batch_size, shard, "synthesize")
        for batch in artifacts.one_size(batches, lambda row: row["depth"].size):
            pictures = pipeline(
                prompt=[row["prompt"] for row in batch],
                image=[row["depth"] for row in batch],
                generator=[torch.Generator().manual_seed(row["seed"]) for row in batch],
                num_inference_steps=config.steps,
                guidance_scale=config.guidance_scale,
                controlnet_conditioning_scale=config.controlnet_scale,
            ).images
            for row, picture in zip(batch, pictures, strict=True):
                name = f"{row['image_id']}_negative{row['index']}.png"
                cell = artifacts.encode_picture(picture, name)
                table.add({**{k: row[k] for k in ("image_id", "index", "prompt", "seed")}, "image": cell})


def _wanted(
    captions: Path, depth: Path, culture: str, suffix: str, seed: int, per_positive: int
) -> Iterator[Row]:
    """Stream prompt, depth picture and seed of every negative, in key order."""
    blip: dict[str, list[str]] = {}
    for row in CAPTIONS.rows(captions):
        blip.setdefault(row["image_id"], []).append(row["caption"])
    for row in DEPTH.rows(depth):
        image_id = row["image_id"]
        picture: Any = artifacts.decode_picture(row["image"]).convert("RGB")
        for index in range(per_positive):
            yield {
                "image_id": image_id,
                "index": index,
                "prompt": blip[image_id][index % len(blip[image_id])] + suffix,
                "seed": derive_seed(seed, "negative", culture, image_id, index),
                "depth": picture,
            }


if __name__ == "__main__":
    run_step(synthesize, lever="lower negatives.batch_size, or set models.base.vae_slicing: true")
