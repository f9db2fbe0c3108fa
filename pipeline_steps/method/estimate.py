"""A figure with its 95% interval: bootstrap over clusters, and jackknife."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

GROUPS = 50
"""Most parts of a jackknife: each costs the statistic once more, and more hardly better the interval."""


@dataclass(frozen=True)
class Estimate:
    """A figure, its 95% interval where one can be had, and how the interval was got.

    Attributes:
        value: the figure.
        low: lower end, or None.
        high: upper end, or None.
        interval: how the interval was got, or why there is none.
    """

    value: float
    low: float | None
    high: float | None
    interval: str


def codes(labels: Sequence[Hashable] | np.ndarray) -> np.ndarray:
    """Number labels 0, 1, … in the order of their first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def clustered_mean(
    values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable], resamples: int, seed: int
) -> Estimate:
    """Mean of all values with a percentile bootstrap over whole clusters.

    Pictures of one prompt resemble one another: resampling them one by one would make the interval
    too narrow, so prompts are drawn with all their pictures (Davison & Hinkley 1997, §3.8).

    Args:
        values: one per picture, shape (n,).
        clusters: the prompt of each picture.
        resamples: bootstrap resamples.
        seed: of the resampling; the same seed pairs the resamples of two variants.

    Raises:
        ValueError: there are no values, one is not finite, or the lengths differ.
    """
    data, group = np.asarray(values, np.float64), codes(clusters)
    if data.shape != group.shape or not data.size or not np.isfinite(data).all():
        raise ValueError(
            f"{data.shape} values for {group.shape} clusters: need finite values and as many labels"
        )
    sums, counts = np.bincount(group, data), np.bincount(group)
    mean = float(data.mean())
    if len(counts) < 2:
        return Estimate(mean, None, None, "none: one prompt cannot be resampled")
    drawn = np.random.default_rng(seed).integers(len(counts), size=(resamples, len(counts)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(mean, float(low), float(high), f"95%, bootstrap over {len(counts)} prompts")


def jackknife(statistic: Callable[[np.ndarray], float], clusters: Sequence[Hashable]) -> Estimate:
    """A statistic of the whole set with the interval of leaving out one cluster at a time.

    For statistics that depend on how many different pictures there are, which resampling with
    repeats would bias. More clusters than ``GROUPS`` are left out in groups (Kott 2001).

    Args:
        statistic: takes a boolean mask of the pictures to use, shape (n,).
        clusters: the prompt of each picture.
    """
    group = codes(clusters)
    value = float(statistic(np.ones(len(group), bool)))
    count = int(group.max()) + 1
    if count < 2:
        return Estimate(value, None, None, "none: one prompt cannot be left out")
    parts, what = min(count, GROUPS), f"{count} prompts"
    if parts < count:
        group, what = group % parts, f"{parts} groups of {what}"
    without = np.array([statistic(group != number) for number in range(parts)])
    reach = float(stats.t.ppf(0.975, parts - 1) * ((parts - 1) * without.var()) ** 0.5)
    return Estimate(value, value - reach, value + reach, f"95%, jackknife over {what}")


def mean_with_t(values: Sequence[float], unit: str) -> Estimate:
    """Mean with Student's t interval over independent values.

    Args:
        values: shape (n,).
        unit: what each value is of, in the plural.
    """
    data = np.asarray(values, np.float64)
    if len(data) < 2:
        return Estimate(float(data.mean()), None, None, f"none: {len(data)} of {unit}")
    value = float(data.mean())
    reach = float(stats.t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / len(data) ** 0.5)
    return Estimate(value, value - reach, value + reach, f"95%, t over {len(data)} {unit}")


def mean_of(estimates: Sequence[Estimate], independent: bool = True) -> Estimate:
    """Mean of estimates; half-widths of independent ones add in squares, of others at full size.

    Args:
        estimates: what to take the mean of.
        independent: no pictures shared; otherwise the interval is the widest that sharing allows.

    Raises:
        ValueError: there are none.
    """
    if not estimates:
        raise ValueError("no estimates to take the mean of")
    count = len(estimates)
    value = float(np.mean([e.value for e in estimates]))
    ends = [(e.value, e.low, e.high) for e in estimates if e.low is not None and e.high is not None]
    if len(ends) < count:
        return Estimate(value, None, None, "none: a part has none")
    power = 2 if independent else 1
    below = float(sum((middle - low) ** power for middle, low, _ in ends) ** (1 / power) / count)
    above = float(sum((high - middle) ** power for middle, _, high in ends) ** (1 / power) / count)
    kind = "independent estimates" if independent else "estimates that share their reference"
    return Estimate(value, value - below, value + above, f"95%, mean of {count} {kind}")
