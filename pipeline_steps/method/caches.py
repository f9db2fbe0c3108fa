"""Puts a training cache together from what was computed of some pictures at a time."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pipeline_steps.method.denoising import aligned

OUTER = {"text": 1, "text_blip": 2, "text_null": 0, "text_held_out": 1, "text_generic": 1}
"""Dimensions before a prompt's own, in each group of a cache's conditions."""
SAME_IN_ALL = ("text_null", "text_generic")
"""Groups that do not depend on the pictures, so that every shard has the same."""


def join(columns: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """Join the parts of each tensor; prompts that are shorter than others are padded with zeros behind.

    Args:
        columns: parts in order, by name; of a group of :data:`SAME_IN_ALL` the first is
            taken.
    """
    prompts: dict[str, list[tuple[str, Tensor, int]]] = {}
    joined = {}
    for column, parts in columns.items():
        group, _, name = column.partition(".")
        if group in OUTER:
            prompts.setdefault(name, []).extend((column, part, OUTER[group]) for part in parts)
        else:
            joined[column] = torch.cat(list(parts))
    for found in prompts.values():
        rows = aligned([part for _, part, _ in found], [outer for *_, outer in found])
        groups: dict[str, list[Tensor]] = {}
        for (column, *_), row in zip(found, rows, strict=True):
            groups.setdefault(column, []).append(row)
        for column, parts in groups.items():
            joined[column] = parts[0] if column.partition(".")[0] in SAME_IN_ALL else torch.cat(parts)
    return joined
