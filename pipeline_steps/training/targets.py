"""Perceptual features of positives and negatives: computed once per view, read by every update."""

import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline_steps import artifacts
from pipeline_steps.artifacts import IMAGES, NEGATIVES_KEPT, TARGETS, Row
from pipeline_steps.cli import run_step
from pipeline_steps.config import ModelRef, PerceptualConfig, TargetsConfig
from pipeline_steps.errors import UserError
from pipeline_steps.seeds import generator

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pipeline_steps.method.perceptual import Extractor


def targets(
    images: Path,
    negatives_kept: Path,
    targets: Path,
    culture: str,
    seed: int,
    extractor: ModelRef,
    perceptual: PerceptualConfig,
    config: TargetsConfig,
) -> None:
    """Extract the features of x⁺ and x⁻ under the fixed views, plain and flipped (paper §4.3-4.4).

    The file holds, for N pictures, M kept negatives, V views and each compared layer l: ``views`` (N, V, 4);
    ``positive.l`` (N, 2, V, positions, channels); ``negative.l`` (M, 2, V, positions, channels);
    ``negatives_of`` (N, most negatives), rows of the latter, −1 for none. Features are stored in the
    precision the extractor computes in. A negative is seen under the views and flips of the picture
    that it is compared with: its positive or, with ``negatives: another``, the picture after that.

    Args:
        images: table of pictures; its ``train`` rows are the positives.
        negatives_kept: the negatives.
        targets: file to write.
        culture: its name.
        seed: the run's seed.
        extractor: weights of the feature extractor.
        perceptual: which extractor, layers and how many views.
        config: batch size.

    Raises:
        UserError: there is not enough room on the disk.
    """
    import torch

    from pipeline_steps.models import extractors
    from pipeline_steps.training.latents import negatives_of
    from pipeline_steps.training.made_with import made_with

    origin = artifacts.same_origin((IMAGES, images), (NEGATIVES_KEPT, negatives_kept), culture=culture)
    extract = extractors.feature_extractor(extractor, perceptual)
    features = partial(_features, extract, extractors.feature_dtype(extractor, perceptual), targets)
    views = _views(images, culture, seed, perceptual.views)
    another = perceptual.negatives == "another"
    positives = artifacts.train_batches(images, config.batch_size, "positives")
    positive = features(positives, len(views), views)
    count, drawn = NEGATIVES_KEPT.count(negatives_kept), NEGATIVES_KEPT.rows(negatives_kept)
    negatives = artifacts.shard_batches(drawn, count, config.batch_size, artifacts.WHOLE, "negatives")
    negative = features(negatives, count, _of_the_next(views) if another else views)
    members = negatives_of(list(views), negatives_kept, another)
    tensors = {"views": torch.stack(list(views.values())), "negatives_of": members}
    for layer, found in enumerate(positive):
        tensors[f"positive.{layer}"] = found
        tensors[f"negative.{layer}"] = negative[layer] if negative else found[:0]
    about = {"image_ids": json.dumps(list(views))} | made_with(extractor, perceptual)
    TARGETS.write(targets, tensors, origin, about)


def _views(images: Path, culture: str, seed: int, count: int) -> "dict[str, Tensor]":
    """Draw each training picture's views."""
    from pipeline_steps.method.pictures import draw_views

    names = [row["image_id"] for row in IMAGES.rows(images, ["split"]) if row["split"] == "train"]
    return {name: draw_views(count, generator(seed, "views", culture, name)) for name in names}


def _of_the_next(views: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Give each picture the views of the one after it."""
    return dict(zip(views, [*list(views.values())[1:], *list(views.values())[:1]], strict=True))


def _features(
    extract: "Extractor",
    dtype: "torch.dtype",
    beside: Path,
    batches: Iterable[list[Row]],
    count: int,
    views: "Mapping[str, Tensor]",
) -> "list[Tensor]":
    """One tensor (count, 2, V, positions, channels) per layer, filled batch by batch, on the disk.

    Args:
        extract: the extractor.
        dtype: precision in which features are kept.
        beside: file on whose disk they lie meanwhile.
        batches: rows of pictures.
        count: of the rows.
        views: under which pictures are seen, by image id.
    """
    import torch

    from pipeline_steps.method.perceptual import view_features
    from pipeline_steps.method.pictures import to_unit
    from pipeline_steps.models import loading

    whole: list[Tensor] = []
    done = 0
    for batch in artifacts.one_size(batches):
        unit = to_unit([artifacts.decode_picture(row["image"]) for row in batch]).to(loading.device())
        boxes = torch.stack([views[row["image_id"]] for row in batch])
        with torch.inference_mode():
            plain, flipped = (view_features(extract, x, boxes) for x in (unit, unit.flip(-1)))
        layers = [torch.stack(pair, 1).to("cpu", dtype) for pair in zip(plain, flipped, strict=True)]
        if not whole:
            whole = [_on_disk(beside, (count, *layer.shape[1:]), dtype) for layer in layers]
        for place, layer in zip(whole, layers, strict=True):
            place[done : done + len(batch)] = layer
        done += len(batch)
    return whole


def _on_disk(beside: Path, shape: tuple[int, ...], dtype: "torch.dtype") -> "Tensor":
    """A tensor in a nameless file, which ends with the process: hundreds of pictures' features are gigabytes.

    Raises:
        UserError: the disk has no room for it.
    """
    import torch

    size = math.prod(shape) * dtype.itemsize
    beside.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=beside.parent) as file:
        try:
            # A full disk while it is filled would be a signal. macOS cannot reserve, and leaves a hole.
            reserve = getattr(os, "posix_fallocate", lambda number, _, length: os.ftruncate(number, length))
            reserve(file.fileno(), 0, size)
        except OSError as error:
            raise UserError(
                f"{beside}: one layer's features need twice {size / 1e9:.2g} GB of disk ({error.strerror}); "
                "make room, or name fewer train.perceptual.layers or views, or another extractor"
            ) from error
        mapped = np.memmap(file, np.uint8, "r+", shape=(size,))
    return torch.from_numpy(mapped).view(dtype).view(shape)


if __name__ == "__main__":
    run_step(targets, lever="lower targets.batch_size")
