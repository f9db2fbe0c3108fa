"""One file from the shards of a stage."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS, DEPTH, NEGATIVES, SAMPLES, TRAIN_CACHE, Origin
from pipeline_steps.cli import run_step

if TYPE_CHECKING:
    from torch import Tensor

TABLES = {table.name: table for table in (CAPTIONS, DEPTH, NEGATIVES, SAMPLES)}


def merge_shards(
    kind: Literal["captions", "depth", "negatives", "samples", "train_cache"],
    shards: list[Path],
    merged: Path,
    culture: str,
) -> None:
    """Merge shards into the very bytes that a single job would have written.

    Args:
        kind: what they are.
        shards: the files, in order: each one's keys are greater than those before.
        merged: file to write.
        culture: its name.
    """
    artifact = TABLES.get(kind, TRAIN_CACHE)
    origin = artifacts.same_origin(*((artifact, shard) for shard in shards), culture=culture)
    if kind == "train_cache":
        _merge_caches(shards, merged, origin)
    else:
        TABLES[kind].write(merged, (row for shard in shards for row in TABLES[kind].rows(shard)), origin)


def _merge_caches(shards: list[Path], merged: Path, origin: Origin) -> None:
    """Join what belongs to pictures; prompts that belong to none are the same in all."""
    from pipeline_steps.method.caches import join

    columns: dict[str, list[Tensor]] = {}
    image_ids: list[str] = []
    about = TRAIN_CACHE.metadata(shards[-1])
    for shard in shards:
        image_ids += json.loads(TRAIN_CACHE.metadata(shard)["image_ids"])
        for name, tensor in TRAIN_CACHE.read(shard).items():
            columns.setdefault(name, []).append(tensor)
    tensors = join(columns)
    kept = {name: line for name, line in about.items() if name != "scoft"}
    TRAIN_CACHE.write(merged, tensors, origin, kept | {"image_ids": json.dumps(image_ids)})


if __name__ == "__main__":
    run_step(merge_shards)
