"""Kernel distances: KID and its CLIP kin CMMD on the full set, with a jackknife interval."""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline_steps.method.estimate import Estimate, codes, from_jackknife

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
    """Squared MMD of all pictures with a jackknife interval.

    KID = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) − 2 mean_{ij} k(x_i, y_j), in float64. It is
    unbiased for independent pictures; those of one prompt resemble one another, and their pairs raise
    it (see :func:`kid_between`). Its bootstrap is biased (a picture drawn twice is a pair of its own, at
    distance zero), so the interval comes from leaving out one group of generated pictures at a time,
    then one reference picture at a time (:func:`~pipeline_steps.method.estimate.from_jackknife`).

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
    left_out = _left_out(x, y, groups)
    whole, without_x, without_y = _moving_part(x, y, left_out, kernel)
    within_y, left_y = _within(y, left_out.y, kernel)
    value = float(whole + within_y)
    paired = groups is not None and len(set(groups)) < len(x)
    note = "; raised by pairs of one prompt, so it misses the models' distance more often" if paired else ""
    return _with_interval(value, without_x + within_y, without_y + left_y, left_out.how + note)


def kid_between(generated: Tensor, reference: Tensor, groups: Sequence[Hashable]) -> Estimate:
    """KID over pairs of generated pictures of different prompts, which clustering does not bias.

    Pictures of different prompts are independent draws, so the mean of k(x_i, x_j) over such pairs is
    unbiased where all prompts have equally many pictures.

    Args:
        generated: features x, shape (n, d).
        reference: features y, shape (m, d), m ≥ 2.
        groups: the prompt of each generated picture; at least two.

    Returns:
        The raw value (may be negative) with its interval; that needs three prompts.

    Raises:
        ValueError: a single prompt, or what :func:`kid` refuses.
    """
    x, y = _checked(generated), _checked(reference)
    labels = codes(groups)
    if labels.max() < 1:
        raise ValueError("pictures of one prompt: KID between prompts needs two")
    rest, y_how = _deletable(len(y), None, "pictures")
    how = f"{labels.max() + 1} prompts and {y_how} of the reference; pairs of different prompts only"
    left_out = _LeftOut(labels, rest, how)
    whole, without_x, without_y = _moving_part(x, y, left_out, polynomial_kernel, between=True)
    within_y, left_y = _within(y, rest, polynomial_kernel)
    return _with_interval(float(whole + within_y), without_x + within_y, without_y + left_y, how)


def kid_difference(
    first: Tensor, second: Tensor, reference: Tensor, groups: Sequence[Hashable] | None = None
) -> Estimate:
    """KID of one model minus KID of another whose pictures have the same prompts and seeds.

    The reference and the prompts are left out of both at once: what is hard for both cancels, so the
    interval is narrower than those of the two KIDs.

    Args:
        first: features of one model's pictures, shape (n, d), n ≥ 2.
        second: of the other's, row by row the same prompts, shape (n, d).
        reference: features of the real pictures, shape (m, d), m ≥ 2.
        groups: the prompt of each row; None: each row is its own group.

    Raises:
        ValueError: unlike numbers of pictures, or what :func:`kid` refuses.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} pictures: need the same prompts and seeds")
    y = _checked(reference)
    left_out = _left_out(_checked(first), y, groups)
    a, b = (_moving_part(_checked(x), y, left_out, polynomial_kernel) for x in (first, second))
    whole, without_x, without_y = (p - q for p, q in zip(a, b, strict=True))
    return _with_interval(float(whole), without_x, without_y, left_out.how)


class _LeftOut(NamedTuple):
    """Which generated and which real pictures are left out together, and in words."""

    x: np.ndarray | None
    y: np.ndarray | None
    how: str


def _left_out(x: Tensor, y: Tensor, groups: Sequence[Hashable] | None) -> _LeftOut:
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features of width {x.shape[1]} and {y.shape[1]} cannot be compared")
    x_labels, x_how = _deletable(len(x), groups, "prompts")
    y_labels, y_how = _deletable(len(y), None, "pictures")
    return _LeftOut(x_labels, y_labels, f"{x_how} and {y_how} of the reference")


def _moving_part(
    x: Tensor, y: Tensor, left_out: _LeftOut, kernel: Kernel, between: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """KID without its term of the reference alone: whole, without each group of x, without each of y."""
    cross_x, cross_y = _row_sums(x, y, kernel), _row_sums(y, x, kernel)
    within, left = _within(x, left_out.x, kernel, between)
    return (
        within - 2 * cross_x.sum() / (len(x) * len(y)),
        left - 2 * _without(cross_x, left_out.x, len(y)),
        within - 2 * _without(cross_y, left_out.y, len(x)),
    )


def _with_interval(value: float, without_x: Tensor, without_y: Tensor, how: str) -> Estimate:
    if not len(without_x) or not len(without_y):
        return Estimate(value, None, None, "none: too few pictures to leave one out")
    return from_jackknife(value, [without_x.numpy(), without_y.numpy()], how)


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
    how = f"± one standard deviation over {SUBSETS} subsets of {size}, which is no 95% interval"
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


def _within(
    x: Tensor, labels: np.ndarray | None, kernel: Kernel, between: bool = False
) -> tuple[Tensor, Tensor]:
    """Mean of k over pairs i ≠ j: of all pictures, and without each group, shape (groups,).

    ``between``: over pairs of different groups only.
    """
    n = len(x)
    itself = torch.cat([kernel(block, block).diagonal() for block in x.split(BLOCK)])
    sums = _row_sums(x, x, kernel) - itself
    total, pairs = sums.sum(), n * (n - 1)
    if labels is None:
        return total / pairs, total.new_empty(0)
    index = torch.from_numpy(labels)
    sizes = torch.bincount(index)
    own = torch.zeros(len(sizes), dtype=x.dtype)
    for group in torch.nonzero(sizes > 1).flatten().tolist():
        members = x[index == group]
        own[group] = _row_sums(members, members, kernel).sum() - itself[index == group].sum()
    own_pairs = sizes * (sizes - 1)
    # Pairs with a picture of the group: its row sums count those inside it twice.
    gone = 2 * torch.zeros_like(own).index_add(0, index, sums) - own
    gone_pairs = 2 * sizes * (n - 1) - own_pairs
    if between:
        total, pairs = total - own.sum(), pairs - int(own_pairs.sum())
        gone, gone_pairs = gone - own, gone_pairs - own_pairs
    return total / pairs, (total - gone) / (pairs - gone_pairs)


def _without(cross: Tensor, labels: np.ndarray | None, others: int) -> Tensor:
    """Mean of k between the sets without each group: shape (groups,)."""
    if labels is None:
        return cross.new_empty(0)
    index = torch.from_numpy(labels)
    sizes = torch.bincount(index)
    removed = torch.zeros(len(sizes), dtype=cross.dtype).index_add(0, index, cross)
    return (cross.sum() - removed) / ((len(cross) - sizes) * others)


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
        Pairs of size and share of samples with the same sign of KID(first) − KID(second); no
        difference counts half.

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
        power.append((size, float(np.mean((1 + np.sign(drawn) * whole) / 2))))
    return power
