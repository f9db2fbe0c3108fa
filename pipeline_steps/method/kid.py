"""Kernel distances: KID and its CLIP kin CMMD, unbiased, on the full set, with a jackknife interval."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from pipeline_steps.method.estimate import Estimate, codes

BLOCK = 1024
"""Rows of a kernel matrix held at once."""
SUBSETS = 100
"""Subsets of torch-fidelity's estimate (its default)."""
LARGEST_SUBSET = 1000
"""Their size where there are enough pictures (its default)."""
UNIT = "MMD² (the paper prints 1000 times this)"

Kernel = Callable[[Tensor, Tensor], Tensor]


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Cubic kernel k(x, y) = (x·y / d + 1)³ (Bińkowski et al. 2018, §4).

    Args:
        x: features, shape (n, d).
        y: features, shape (m, d).

    Returns:
        Kernel matrix, shape (n, m).
    """
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Gaussian kernel of width 10 on the unit sphere, as CMMD has it (Jayasumana et al. 2024, §4).

    Args:
        x: features, shape (n, d).
        y: features, shape (m, d).

    Returns:
        Kernel matrix, shape (n, m).
    """
    cosines = F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).T
    return torch.exp((cosines - 1) / 10**2)


def kid(
    generated: Tensor,
    reference: Tensor,
    groups: Sequence[Hashable] | None = None,
    kernel: Kernel = polynomial_kernel,
) -> Estimate:
    """Unbiased squared MMD of all pictures with a jackknife interval.

    KID = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) − 2 mean_{ij} k(x_i, y_j), in float64. Its
    bootstrap is biased (a picture drawn twice is a pair of its own, at distance zero), so the
    interval comes from leaving out one group of generated pictures at a time, then one reference
    picture at a time; the two variances add, and Welch's degrees of freedom give the t quantile.

    Args:
        generated: features x, shape (n, d), n ≥ 2.
        reference: features y, shape (m, d), m ≥ 2.
        groups: the prompt of each generated picture; None: each picture is its own group.
        kernel: the cubic one for KID, the Gaussian one on CLIP embeddings for CMMD.

    Returns:
        The raw value (may be slightly negative) with its interval.

    Raises:
        ValueError: too few pictures, unlike widths, or features that are not finite.
    """
    x, y = _checked(generated), _checked(reference)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features of width {x.shape[1]} and {y.shape[1]} cannot be compared")
    x_labels, x_how = _deletable(len(x), groups, "prompts")
    y_labels, y_how = _deletable(len(y), None, "pictures")
    cross_x, cross_y = _row_sums(x, y, kernel), _row_sums(y, x, kernel)
    within_x, left_x = _within(x, x_labels, kernel)
    within_y, left_y = _within(y, y_labels, kernel)
    value = float(within_x + within_y - 2 * cross_x.sum() / (len(x) * len(y)))
    if x_labels is None or y_labels is None:
        return Estimate(value, None, None, "none: too few pictures to leave one out")
    without_x = left_x + within_y - 2 * _without(cross_x, x_labels, len(y))
    without_y = within_x + left_y - 2 * _without(cross_y, y_labels, len(x))
    parts = [_jackknife_variance(without_x), _jackknife_variance(without_y)]
    spread = sum(parts)
    if spread == 0:
        return Estimate(value, value, value, "95%, jackknife without spread")
    freedom = spread**2 / sum(v**2 / (len(w) - 1) for v, w in zip(parts, (without_x, without_y), strict=True))
    reach = float(stats.t.ppf(0.975, freedom) * spread**0.5)
    how = f"95%, jackknife over {x_how} and {y_how} of the reference"
    return Estimate(value, value - reach, value + reach, how)


def kid_subsets(generated: Tensor, reference: Tensor) -> Estimate | None:
    """torch-fidelity's own estimate: mean over subsets of min(1000, n/2) pictures.

    Returns:
        Mean ± one standard deviation over the subsets; None where a subset would hold fewer than 2
        pictures.
    """
    size = min(LARGEST_SUBSET, len(generated) // 2, len(reference) // 2)
    if size < 2:
        return None
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    result = kid_features_to_metric(
        generated.double(),
        reference.double(),
        kid_subsets=SUBSETS,
        kid_subset_size=size,
        verbose=False,
    )
    mean, deviation = result[KEY_METRIC_KID_MEAN], result[KEY_METRIC_KID_STD]
    how = f"± one standard deviation over {SUBSETS} subsets of {size}"
    return Estimate(mean, mean - deviation, mean + deviation, how)


def _checked(features: Tensor) -> Tensor:
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features of shape {tuple(features.shape)}: KID needs (n, d) with n of at least 2")
    if not features.isfinite().all():
        raise ValueError("features hold values that are not finite")
    return features.double()


def _deletable(count: int, groups: Sequence[Hashable] | None, word: str) -> tuple[np.ndarray | None, str]:
    """Labels of groups such that any one can be left out and a pair remains; else singles; else None."""
    if groups is not None:
        labels = codes(groups)
        sizes = np.bincount(labels)
        if len(sizes) > 1 and count - sizes.max() >= 2:
            return labels, f"{len(sizes)} {word}"
    return (np.arange(count), f"{count} pictures") if count > 2 else (None, "")


def _row_sums(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """Σ_j k(x_i, y_j) for every i, block by block: shape (n,)."""
    return torch.cat([kernel(block, y).sum(1) for block in x.split(BLOCK)])


def _within(x: Tensor, labels: np.ndarray | None, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Mean of k over pairs i ≠ j: of all pictures, and without each group, shape (groups,)."""
    n = len(x)
    itself = torch.cat([kernel(block, block).diagonal() for block in x.split(BLOCK)])
    sums = _row_sums(x, x, kernel) - itself
    total = sums.sum()
    if labels is None:
        return total / (n * (n - 1)), total.new_empty(0)
    index = torch.from_numpy(labels)
    sizes = torch.bincount(index)
    own = torch.zeros(len(sizes), dtype=x.dtype)
    for group in torch.nonzero(sizes > 1).flatten().tolist():
        members = x[index == group]
        own[group] = _row_sums(members, members, kernel).sum() - itself[index == group].sum()
    left = n - sizes
    without = total - 2 * torch.zeros_like(own).index_add(0, index, sums) + own
    return total / (n * (n - 1)), without / (left * (left - 1))


def _without(cross: Tensor, labels: np.ndarray, others: int) -> Tensor:
    """Mean of k between the sets without each group: shape (groups,)."""
    index = torch.from_numpy(labels)
    sizes = torch.bincount(index)
    removed = torch.zeros(len(sizes), dtype=cross.dtype).index_add(0, index, cross)
    return (cross.sum() - removed) / ((len(cross) - sizes) * others)


def _jackknife_variance(values: Tensor) -> float:
    return float((len(values) - 1) * values.var(correction=0))


def ordering_power(
    first: Tensor, second: Tensor, reference: Tensor, sizes: Sequence[int], draws: int, seed: int
) -> list[tuple[int, float]]:
    """How often a small sample puts two models in the order in which the whole sets stand.

    Args:
        first: features of one model's pictures, shape (n, d).
        second: of the other's, same prompts and seeds, shape (n, d).
        reference: features of the real pictures, shape (m, d).
        sizes: numbers of generated pictures to try; of the reference at most as many are drawn.
        draws: samples per size, without repeats within a sample.
        seed: of the drawing.

    Returns:
        Pairs of size and share of samples with the same sign of KID(first) − KID(second).

    Raises:
        ValueError: the two models have unlike numbers of pictures.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} pictures: need the same prompts and seeds")
    own, cross = [], []
    for x in (_checked(first), _checked(second)):
        kernel = polynomial_kernel(x, x)
        own.append((kernel - torch.diag(kernel.diagonal())).numpy())
        cross.append(polynomial_kernel(x, _checked(reference)).numpy())

    def difference(rows: np.ndarray, columns: np.ndarray) -> float:
        n = len(rows)
        a, b = (
            k[np.ix_(rows, rows)].sum() / (n * (n - 1)) - 2 * c[np.ix_(rows, columns)].mean()
            for k, c in zip(own, cross, strict=True)
        )
        return float(a - b)

    n, m = cross[0].shape
    random = np.random.default_rng(seed)
    whole = np.sign(difference(np.arange(n), np.arange(m)))
    power = []
    for size in sizes:
        drawn = [
            difference(random.choice(n, size, replace=False), random.choice(m, min(size, m), replace=False))
            for _ in range(draws)
        ]
        power.append((size, float(np.mean(np.sign(drawn) == whole))))
    return power
