"""Which pictures are the same or look the same: small versions of them, compared with one another."""

from collections.abc import Sequence

import numpy as np

SIDE = 16
"""Of the small versions in pixels."""
UNLIKE = 0.2
"""Of two pictures that look the same, the differences are at most this share of the contrast, ..."""
NOISE = 2.0
"""... and so many levels more, which encoding and scaling change."""
SLACK = 1e-6
"""What rounding may add to a bound."""
CHUNK = 1024
"""Pictures asked for at once."""


def same_looking(keys: Sequence[str], smalls: Sequence[np.ndarray], difference: float) -> dict[int, int]:
    """Map each picture that looks like an earlier one to that one (indices).

    Averaging never makes a difference larger. So pictures whose quarters have unlike colours, or whose
    sixteenths differ too much for their contrast, need not be compared, and nothing is missed.

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
    quarters, sixteenths = _averaged(small, 2).reshape(-1, 12), _averaged(small, 4)
    sixteenths -= sixteenths.mean((1, 2), keepdims=True)
    parts = np.array_split(small, len(small) // CHUNK + 1)
    contrast = np.concatenate([_rms(_centred(part)) for part in parts])
    tree = cKDTree(quarters)
    for start in range(0, len(small), CHUNK):
        near = tree.query_ball_point(quarters[start : start + CHUNK], 12 * difference + SLACK, p=1)
        for i, found in enumerate(near, start):
            if i in first:
                first[i] = first.get(first[i], first[i])
                continue
            leaders = np.array([j for j in sorted(found) if j < i and j not in first], dtype=int)
            apart = _rms(sixteenths[leaders] - sixteenths[i])
            allowed = UNLIKE * np.maximum(contrast[leaders], contrast[i]) + NOISE
            leaders = leaders[apart <= allowed + SLACK]
            alike = leaders[_alike(small[i], small[leaders], difference)]
            if len(alike):
                first[i] = int(alike[0])
    return first


def _averaged(small: np.ndarray, parts: int) -> np.ndarray:
    """Return the mean colours of parts × parts fields, (n, parts, parts, 3)."""
    side = SIDE // parts
    return small.reshape(-1, parts, side, parts, side, 3).mean((2, 4))


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
    close = np.abs(others.astype(np.int16) - one).mean((1, 2, 3)) <= difference
    a, b = _centred(one[None]), _centred(others)
    return close & (_rms(a - b) <= UNLIKE * np.maximum(_rms(a), _rms(b)) + NOISE)


def _centred(small: np.ndarray) -> np.ndarray:
    return small - small.mean((1, 2), keepdims=True)


def _rms(values: np.ndarray) -> np.ndarray:
    return np.sqrt((values**2).mean((1, 2, 3)))
