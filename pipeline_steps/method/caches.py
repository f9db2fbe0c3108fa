"""Puts a training cache together from what was computed of some pictures at a time."""

from collections.abc import Sequence

from torch import Tensor

OUTER = {"text": 1, "text_blip": 2, "text_null": 0, "text_held_out": 1, "text_generic": 1}
"""Dimensions before a prompt's own, in each group of a cache's conditions."""
SAME_IN_ALL = ("text_null", "text_generic")
"""Groups that do not depend on the pictures, so that every shard has the same."""


def join(columns: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """Join the parts of each tensor; prompts that are shorter than others are padded with zeros behind.

    Args:
        columns: parts in order, by name; of a group of :data:`SAME_IN_ALL` the first is taken. The lists
            are emptied as their parts are copied, so that a collection is in memory once and not twice.
    """
    longest: dict[str, tuple[int, ...]] = {}
    for column, parts in columns.items():
        group, _, name = column.partition(".")
        for part in parts if group in OUTER else ():
            sizes = part.shape[OUTER[group] :]
            longest[name] = tuple(map(max, longest.get(name, sizes), sizes))
    joined = {}
    for column, parts in columns.items():
        group, _, name = column.partition(".")
        outer = OUTER.get(group, 1)
        row = longest[name] if group in OUTER else parts[0].shape[1:]
        if group in SAME_IN_ALL:
            del parts[1:]
        joined[column] = _filled(parts.pop(), row) if outer == 0 else _joined(parts, outer, row)
    return joined


def _joined(parts: list[Tensor], outer: int, row: Sequence[int]) -> Tensor:
    """Concatenate along the first dimension and let each part go."""
    # Memory that nothing was written to yet is not taken: it grows as the parts' falls.
    whole = parts[0].new_empty((sum(map(len, parts)), *parts[0].shape[1:outer], *row))
    done = 0
    parts.reverse()
    while parts:
        part = parts.pop()
        place = whole[done : done + len(part)]
        if place.shape != part.shape:
            place.zero_()
        place[(slice(None), *map(slice, part.shape[1:]))] = part
        done += len(part)
    return whole


def _filled(part: Tensor, row: Sequence[int]) -> Tensor:
    """Pad a single row."""
    return _joined([part[None]], 1, row)[0]
