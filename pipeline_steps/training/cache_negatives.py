"""The latents of the kept negatives, for the baselines that train on the noise of both (L_DPO, MaPO)."""

import json
from collections import defaultdict
from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import IMAGES, NEGATIVE_CACHE, NEGATIVES_KEPT, WHOLE
from pipeline_steps.cli import run_step
from pipeline_steps.config import BaseRef, CacheConfig


def cache_negatives(
    images: Path,
    negatives_kept: Path,
    negative_cache: Path,
    culture: str,
    base: BaseRef,
    config: CacheConfig,
) -> None:
    """Encode the kept negatives, plain and flipped.

    The file holds, for N training pictures with M negatives in all: ``latents_mean`` and ``latents_std``
    (M, 2, c, h, w), padded to the largest picture's where sizes differ, as the training cache's are; and
    ``negatives_of`` (N, most negatives), rows of these, −1 for none.

    Args:
        images: table of pictures, whose ``train`` rows the negatives belong to.
        negatives_kept: the negatives.
        negative_cache: file to write.
        culture: its name.
        base: the model to be mended.
        config: batch size.
    """
    import torch

    from pipeline_steps.method.caches import join
    from pipeline_steps.method.pictures import to_unit
    from pipeline_steps.models.families import family_of
    from pipeline_steps.training.latents import both_sides, largest_size, negatives_of, padded
    from pipeline_steps.training.made_with import made_with

    origin = artifacts.same_origin((IMAGES, images), (NEGATIVES_KEPT, negatives_kept), culture=culture)
    sizes = {
        row["image_id"]: artifacts.picture_size(row["image"])
        for row in IMAGES.rows(images, ["split", "image"])
        if row["split"] == "train"
    }
    largest = largest_size(list(sizes.values()))
    family = family_of(base)
    vae = family.vae()
    found: dict[str, list[torch.Tensor]] = defaultdict(list)
    count = NEGATIVES_KEPT.count(negatives_kept)
    rows = NEGATIVES_KEPT.rows(negatives_kept)
    with torch.inference_mode():
        for batch in artifacts.one_size(
            artifacts.shard_batches(rows, count, config.batch_size, WHOLE, "negatives")
        ):
            unit = to_unit([artifacts.decode_picture(row["image"]) for row in batch])
            for name, value in zip(
                ("latents_mean", "latents_std"), both_sides(family, vae, unit), strict=True
            ):
                found[name].append(padded(value, unit, largest))
    tensors = join(found)
    if not tensors:  # the filter kept none at all
        tensors = {name: torch.zeros(0, 2, 1, 1, 1) for name in ("latents_mean", "latents_std")}
    tensors["negatives_of"] = negatives_of(list(sizes), negatives_kept)
    about = {"image_ids": json.dumps(list(sizes))} | made_with(base)
    NEGATIVE_CACHE.write(negative_cache, tensors, origin, about)


if __name__ == "__main__":
    run_step(cache_negatives, lever="lower cache.batch_size, or set models.base.vae_slicing: true")
