"""Does the generated set cover the real one, and with how much variety? Density, coverage, Vendi score."""

import torch
import torch.nn.functional as F
from torch import Tensor


def in_reach(generated: Tensor, reference: Tensor, neighbours: int) -> Tensor:
    """Say which generated pictures lie in the k-nearest-neighbour ball of which real ones.

    Args:
        generated: features, shape (n, d).
        reference: features of real pictures, shape (m, d), m > neighbours.
        neighbours: k; a ball reaches to its centre's k-th nearest real neighbour.

    Returns:
        Boolean, shape (n, m).

    Raises:
        ValueError: fewer than k + 1 real pictures.
    """
    if len(reference) <= neighbours:
        raise ValueError(
            f"{len(reference)} real pictures, but their {neighbours} nearest neighbours are needed"
        )
    x, y = generated.double(), reference.double()
    radius = torch.cdist(y, y).kthvalue(neighbours + 1, dim=1).values  # the nearest is the picture itself
    return torch.cdist(x, y) < radius


def density(reached: Tensor, neighbours: int) -> Tensor:
    """Density of each generated picture; its mean is Naeem et al. 2020, Eq. 4.

    Args:
        reached: what :func:`in_reach` returned, (n, m).
        neighbours: k.

    Returns:
        Shape (n,): number of real balls it lies in over k; 1 on average for a perfect model.
    """
    return reached.double().sum(1) / neighbours


def coverage(reached: Tensor) -> float:
    """Share of real pictures with a generated one in their ball (Naeem et al. 2020, Eq. 5)."""
    return float(reached.any(0).double().mean())


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
