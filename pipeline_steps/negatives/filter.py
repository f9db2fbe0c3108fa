"""Drop false negatives: those too similar to their positive (paper §4.4)."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline_steps import artifacts
from pipeline_steps.artifacts import DISTANCES, IMAGES, NEGATIVES, NEGATIVES_KEPT, Row
from pipeline_steps.cli import run_step
from pipeline_steps.config import FilterConfig, ModelRef

LOG = logging.getLogger(__name__)


def filter_negatives(
    images: Path,
    negatives: Path,
    negatives_kept: Path,
    distances: Path,
    culture: str,
    dreamsim: ModelRef,
    config: FilterConfig,
) -> None:
    """Keep the negatives whose DreamSim distance to their positive is at least ``min_distance``.

    Pictures of one colour are far from every positive and show nothing: they are dropped. A positive
    that keeps no negative still trains L_P; how many there are is logged.

    Args:
        images: table of pictures.
        negatives: all negatives.
        negatives_kept: table to write: those that are kept, with their distance.
        distances: table to write: the distance of every negative, kept or not.
        culture: its name.
        dreamsim: DreamSim.
        config: threshold and batch size.
    """
    origin = artifacts.same_origin((IMAGES, images), (NEGATIVES, negatives), culture=culture)
    embed = _embedding(dreamsim)
    positives: dict[str, np.ndarray] = {}
    for batch in artifacts.train_batches(images, config.batch_size, "embed positives"):
        positives |= {row["image_id"]: vector for row, vector in zip(batch, embed(batch), strict=True)}

    kept_of, blank = dict.fromkeys(positives, 0), 0
    rows, total = NEGATIVES.rows(negatives), NEGATIVES.count(negatives)
    with (
        NEGATIVES_KEPT.writer(negatives_kept, origin) as kept_table,
        DISTANCES.writer(distances, origin) as table,
    ):
        for batch in artifacts.shard_batches(rows, total, config.batch_size, artifacts.WHOLE, "filter"):
            for row, vector in zip(batch, embed(batch), strict=True):
                distance = float(1 - vector @ positives[row["image_id"]])
                shows_nothing = artifacts.is_blank(artifacts.decode_picture(row["image"]))
                blank += shows_nothing
                kept = distance >= config.min_distance and not shows_nothing
                table.add(
                    {"image_id": row["image_id"], "index": row["index"], "distance": distance, "kept": kept}
                )
                if kept:
                    kept_table.add({**row, "distance": distance})
                    kept_of[row["image_id"]] += 1
    if blank:
        LOG.warning("%d of %d negatives are blank and dropped (in float16 a VAE may overflow)", blank, total)
    LOG.info(
        "kept %d of %d negatives; %d of %d positives keep none",
        sum(kept_of.values()),
        NEGATIVES.count(negatives),
        sum(count == 0 for count in kept_of.values()),
        len(kept_of),
    )


def _embedding(dreamsim: ModelRef) -> Callable[[list[Row]], np.ndarray]:
    """Return what embeds rows of pictures, (n, channels), of length 1: one less their product is DreamSim."""
    import torch

    from pipeline_steps.method.pictures import resize, to_unit
    from pipeline_steps.models import extractors, loading

    embed_pictures, side = extractors.dreamsim(dreamsim)

    @torch.inference_mode()
    def embed(rows: list[Row]) -> np.ndarray:
        pictures = [
            [artifacts.decode_picture(row["image"]) for row in run] for run in artifacts.one_size([rows])
        ]
        unit = torch.cat([resize(to_unit(run).to(loading.device()), side) for run in pictures])
        found: np.ndarray = torch.nn.functional.normalize(embed_pictures(unit).float()).cpu().numpy()
        return found

    return embed


if __name__ == "__main__":
    run_step(filter_negatives, lever="lower filter.batch_size")
