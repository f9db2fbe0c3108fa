"""Streams of rows, cut into batches and shards."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from pipeline_steps.artifacts.cells import picture_size
from pipeline_steps.artifacts.contracts import IMAGES
from pipeline_steps.artifacts.origin import Row
from pipeline_steps.artifacts.tables import Table
from pipeline_steps.errors import UserError

Item = TypeVar("Item")


def batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Cut a stream of rows into lists of at most ``size``."""
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


def one_size(
    batches: Iterable[list[Row]],
    size: Callable[[Row], tuple[int, int]] = lambda row: picture_size(row["image"]),
) -> Iterator[list[Row]]:
    """Cut batches where the pictures' size changes: networks take pictures of one size at a time."""
    for batch in batches:
        for _, run in groupby(batch, size):
            yield list(run)


Shard = tuple[int, int]
"""The k-th of n jobs that share a stage's work, from 1."""
WHOLE: Shard = (1, 1)


def progress(rows: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """Pass rows, or whatever holds pictures, through behind a progress bar."""
    yield from tqdm(rows, total=total, desc=label, unit="picture", mininterval=1)


def shard_batches(
    rows: Iterable[Row], total: int, size: int, shard: Shard, label: str
) -> Iterator[list[Row]]:
    """Cut a stream of rows into batches and pass on the shard's share, behind a progress bar.

    A share is a run of whole batches: a network sees the same batches however many shards there are,
    so that their results are the same to the last bit.

    Args:
        rows: of the whole stage, in key order.
        total: their number.
        size: of a batch, which is the last one's at most.
        shard: whose share.
        label: of the progress bar.
    """
    number, shards = shard
    count = -(-total // size)
    first, last = (count * place // shards for place in (number - 1, number))
    with tqdm(total=min(total, last * size) - first * size, desc=label, unit="picture", mininterval=1) as bar:
        for batch in islice(batches(rows, size), first, last):
            yield batch
            bar.update(len(batch))


def train_batches(images: Path, size: int, label: str, shard: Shard = WHOLE) -> Iterator[list[Row]]:
    """Stream the shard's training pictures in batches behind a progress bar."""
    count = sum(row["split"] == "train" for row in IMAGES.rows(images, ["split"]))
    if count == 0:
        raise UserError(f"{images}: no training picture; add pictures to the culture's folder")
    train = (row for row in IMAGES.rows(images) if row["split"] == "train")
    yield from shard_batches(train, count, size, shard, label)


def seen_size(table: Table, path: Path) -> tuple[int, int]:
    """Return the width and height at which the pictures of a table with rows are seen."""
    side = table.note(path).get("resolution")
    width, height = picture_size(next(table.rows(path, ["image"]))["image"])
    return (side, side) if side and width != height else (width, height)
