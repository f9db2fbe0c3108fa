"""Puts a training cache together from what was computed of some pictures at a time."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pipeline_steps.method.denoising import aligned

OUTER = {"text": 1, "text_blip": 2, "text_null": 0, "text_held_out": 1}
"""Dimensions before a prompt's own, in each group of a cache's conditions."""


def join(columns: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """Join the parts of each tensor; prompts that are shorter than others are padded with zeros behind.

    Args:
        columns: parts in order, by name; of a null prompt, which is the same in all, the first is taken.
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
        joined |= {c: p[0] if c.startswith("text_null") else torch.cat(p) for c, p in groups.items()}
    return joined
