"""Does the generated set cover the real one, and with how much variety? Density, coverage, Vendi score."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from torch import Tensor

from pipeline_steps.method.estimate import Estimate, from_jackknife, parts


def density_and_coverage(
    generated: Tensor, reference: Tensor, clusters: Sequence[Hashable], neighbours: int
) -> tuple[Estimate, Estimate]:
    """Density and coverage (Naeem et al. 2020, Eq. 4 and 5), jackknifed over prompts and real pictures.

    A real picture's ball reaches to its k-th nearest real neighbour. Density is the number of balls a
    generated picture lies in, over k, on average (1 for a perfect model); coverage the share of balls
    that hold a generated picture. Leaving out a real picture takes its ball away and widens each ball
    whose k nearest it was among to the next neighbour.

    Args:
        generated: features, shape (n, d).
        reference: features of real pictures, shape (m, d), m > neighbours.
        clusters: the prompt of each generated picture.
        neighbours: k.

    Raises:
        ValueError: fewer than k + 1 real pictures.
    """
    m = len(reference)
    inside, wider, near = _balls(generated, reference, neighbours)
    scale = neighbours * len(generated)
    (part,) = parts(clusters)
    # Of each prompt's pictures, how many lie in each ball: n × m once, and not for every prompt.
    others = len(part) - np.bincount(part)
    held = np.stack([inside[part == number].sum(0) for number in range(len(others))])[others > 0]
    how = f"{len(set(clusters))} prompts and {m} pictures of the reference"

    def without_real(counts: np.ndarray, widened: np.ndarray) -> np.ndarray:
        remaining: np.ndarray = counts.sum() - counts + (widened - counts) @ near
        return remaining

    density = [
        (inside.sum() - held.sum(1)) / (neighbours * others[others > 0]),
        without_real(inside.sum(0), wider.sum(0)) / scale,
    ]
    coverage = [
        (inside.sum(0) > held).mean(1),
        without_real(inside.any(0).astype(int), wider.any(0).astype(int)) / (m - 1),
    ]
    return (
        from_jackknife(float(inside.sum() / scale), density, how, (0, np.inf)),
        from_jackknife(float(inside.any(0).mean()), coverage, how, (0, 1)),
    )


def _balls(
    generated: Tensor, reference: Tensor, neighbours: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who lies in whose ball, who would if it reached to the next neighbour, who is among whose k nearest.

    Shapes (n, m), (n, m) and (m, m). Where k + 1 pictures are all there is no next neighbour, and the
    ball stays as it is.
    """
    if len(reference) <= neighbours:
        raise ValueError(
            f"{len(reference)} real pictures, but their {neighbours} nearest neighbours are needed"
        )
    x, y = generated.double().numpy(), reference.double().numpy()
    # Not torch.cdist: by its matrix product a copy of a real picture lies some way off it.
    between, among = cdist(x, y), cdist(y, y)
    np.fill_diagonal(among, np.inf)
    order = np.argsort(among, axis=1, kind="stable")
    rows = np.arange(len(y))
    radius = among[rows, order[:, neighbours - 1]]
    after = among[rows, order[:, min(neighbours, len(y) - 2)]]
    near = np.zeros(among.shape, bool)
    np.put_along_axis(near, order[:, :neighbours], 1, axis=1)
    return between < radius, between < after, near


def vendi(features: Tensor) -> float:
    """Vendi score: effective number of different pictures (Friedman & Dieng 2023, Eq. 1).

    The exponential of the entropy of the eigenvalues of K/n, K the cosine kernel; K/n and the
    smaller feature covariance share their eigenvalues other than zero.

    Args:
        features: shape (n, d).

    Returns:
        In [1, min(n, d)].
    """
    unit = F.normalize(features.double(), dim=-1)
    gram = unit.T @ unit if unit.shape[1] < len(unit) else unit @ unit.T
    values = torch.linalg.eigvalsh(gram / len(unit)).clamp(min=0)
    return float(torch.exp(torch.special.entr(values).sum()))
