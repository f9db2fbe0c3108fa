"""Seeds derived from what a random number is for, never from its place in a batch."""

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *parts: str | int) -> int:
    """Hash the run's seed and what the numbers are for, e.g. ``("korea", "img_01", 3)``.

    Returns:
        An integer in [0, 2⁶³), the same on every machine.
    """
    digest = hashlib.sha256(json.dumps([seed, *parts]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *parts: str | int) -> "torch.Generator":
    """Return a CPU generator seeded by :func:`derive_seed`, of which torch uses the last 32 bits."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *parts))
