"""Which pictures are the same or look the same: small versions of them, compared with one another."""

from collections.abc import Sequence

import numpy as np

SIDE = 16
"""Of the small versions in pixels."""
UNLIKE = 0.25
"""Of two pictures that look the same, the differences are at most this share of the contrast, ..."""
NOISE = 1.0
"""... and so many levels more, which encoding and scaling change."""
CHUNK = 1024
"""Pictures asked for at once."""


def same_looking(keys: Sequence[str], smalls: Sequence[np.ndarray], difference: float) -> dict[int, int]:
    """Map each picture that looks like an earlier one to that one (indices).

    Only pictures whose quarters have about the same colours are compared: the mean difference of two
    pictures is never less than that of their quarters, so that nothing is missed.

    Args:
        keys: equal for pictures that are the same pixel by pixel.
        smalls: small versions, uint8 of shape (16, 16, 3).
        difference: mean difference (0–255) up to which pictures may look the same; 0: only identical ones.
    """
    exact: dict[str, int] = {}
    first = {i: exact[key] for i, key in enumerate(keys) if exact.setdefault(key, i) != i}
    if difference <= 0 or len(exact) < 2:
        return first
    from scipy.spatial import cKDTree

    small = np.stack(smalls)
    half = SIDE // 2
    quarters = small.reshape(-1, 2, half, 2, half, 3).mean((2, 4)).reshape(-1, 12)
    tree = cKDTree(quarters)
    for start in range(0, len(small), CHUNK):
        near = tree.query_ball_point(quarters[start : start + CHUNK], 12 * difference + 1e-6, p=1)
        for i, found in enumerate(near, start):
            if i in first:
                first[i] = first.get(first[i], first[i])
                continue
            leaders = [j for j in sorted(found) if j < i and j not in first]
            alike = np.flatnonzero(_alike(small[i], small[leaders], difference)) if leaders else ()
            if len(alike):
                first[i] = leaders[alike[0]]
    return first


def _alike(one: np.ndarray, others: np.ndarray, difference: float) -> np.ndarray:
    """Tell which of the others look like one.

    The mean alone would call two small things on the same ground the same; so the difference is also held
    against the contrast, after brightness and tint are taken off.

    Args:
        one: (16, 16, 3).
        others: (n, 16, 16, 3).
        difference: largest mean.

    Returns:
        (n,) bool.
    """
    a, b = one.astype(np.float32), others.astype(np.float32)
    close = np.abs(a - b).mean((1, 2, 3)) <= difference
    a, b = a - a.mean((0, 1)), b - b.mean((1, 2), keepdims=True)
    contrast = np.maximum(_rms(a[None]), _rms(b))
    return close & (_rms(a - b) <= UNLIKE * contrast + NOISE)


def _rms(values: np.ndarray) -> np.ndarray:
    return np.sqrt((values**2).mean((1, 2, 3)))
