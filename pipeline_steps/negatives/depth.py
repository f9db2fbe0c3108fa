"""Depth of the training pictures (paper §4.4)."""

from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import DEPTH, IMAGES, WHOLE, Shard
from pipeline_steps.cli import run_step
from pipeline_steps.config import DepthConfig, ModelRef


def depth(
    images: Path,
    depth: Path,
    culture: str,
    depth_model: ModelRef,
    config: DepthConfig,
    shard: Shard = WHOLE,
) -> None:
    """Estimate the inverse depth D(x⁺) of every training picture with MiDaS.

    Args:
        images: table of pictures; its ``train`` rows are used.
        depth: table to write: 8-bit grey, 255 near, as large as the picture.
        culture: its name.
        depth_model: MiDaS.
        config: batch size.
        shard: which share of the pictures.
    """
    from pipeline_steps.models import readers

    origin = artifacts.same_origin((IMAGES, images), culture=culture)
    estimate = readers.depth_estimator(depth_model)
    with DEPTH.writer(depth, origin) as table:
        for batch in artifacts.train_batches(images, config.batch_size, "depth", shard):
            maps = estimate([artifacts.decode_picture(row["image"]) for row in batch])
            for row, found in zip(batch, maps, strict=True):
                name = f"{row['image_id']}_depth.png"
                table.add({"image_id": row["image_id"], "image": artifacts.encode_picture(found, name)})


if __name__ == "__main__":
    run_step(depth, lever="lower depth.batch_size")
