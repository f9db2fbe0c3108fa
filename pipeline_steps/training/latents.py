"""Pictures as the caches hold them: latents of both sides, and which negatives are whose."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from pipeline_steps.artifacts import NEGATIVES_KEPT

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_steps.models.families.family import Family


def largest_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the largest width and the largest height."""
    widest, highest = (max(sides) for sides in zip(*sizes, strict=True))
    return widest, highest


def both_sides(family: "Family", vae: Any, unit: "Tensor") -> "tuple[Tensor, Tensor]":
    """Encode pictures and their mirror images: (n, 3, h, w) to mean and deviation, (n, 2, c, h, w) each."""
    found = family.encode_pictures(vae, torch.stack([unit, unit.flip(-1)], 1).flatten(0, 1))
    mean, std = (value.unflatten(0, (-1, 2)) for value in found)
    return mean, std


def padded(latents: "Tensor", unit: "Tensor", largest: tuple[int, int]) -> "Tensor":
    """Pad latents of pictures (n, 3, h, w) to those of the largest width and height, on the CPU."""
    (height, width), (h, w) = unit.shape[2:], latents.shape[-2:]
    return F.pad(latents.cpu(), (0, largest[0] * w // width - w, 0, largest[1] * h // height - h))


def negatives_of(names: list[str], negatives_kept: Path, another: bool = False) -> "Tensor":
    """Return the rows of each picture's negatives, or of the picture before it: (N, most), −1 for none."""
    members: dict[str, list[int]] = {name: [] for name in names}
    for number, row in enumerate(NEGATIVES_KEPT.rows(negatives_kept, [])):
        members[row["image_id"]].append(number)
    rows = list(members.values())
    if another:
        rows = [*rows[-1:], *rows[:-1]]
    most = max(1, *map(len, rows))
    return torch.tensor([found + [-1] * (most - len(found)) for found in rows])
