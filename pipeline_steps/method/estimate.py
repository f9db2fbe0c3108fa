"""A figure with its 95% interval: the jackknife over clusters, on one side or several."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

GROUPS = 50
"""Most parts of a jackknife: each costs the statistic once more, and more hardly better the interval."""
FEW, FEWEST = "few, so nearer 90% where they are skewed", 10
"""What is said of an interval with fewer degrees of freedom (measured by benchmarks/coverage.py)."""
ROUNDING = 1e-20
"""A smaller variance of a share is rounding."""


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


def parts(clusters: Sequence[Hashable], strata: Sequence[Hashable] | None = None) -> list[np.ndarray]:
    """Number what to leave out together: within each stratum its clusters, or ``GROUPS`` groups of them.

    A cluster that is alone in its stratum joins the largest stratum: left out alone it would show no
    spread (collapsed strata, Wolter 2007, §2.5).

    Args:
        clusters: of each row, shape (n,); a cluster lies in one stratum.
        strata: of each row; None: all are one.

    Returns:
        One array per stratum, shape (n,): the part of each row, −1 for rows of other strata.
    """
    cluster = codes(clusters)
    _, first = np.unique(cluster, return_index=True)
    home = codes([0] * len(cluster) if strata is None else strata)[first]
    sizes = np.bincount(home)
    home = np.where(sizes[home] == 1, sizes.argmax(), home)
    found = []
    for stratum in np.unique(home):
        number = np.where(home == stratum, np.cumsum(home == stratum) - 1, -1)
        found.append(np.where(number < 0, -1, number % GROUPS)[cluster])
    return found


def from_jackknife(
    value: float, without: Sequence[np.ndarray], how: str, within: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """The interval of a statistic that was computed again without each part of each side.

    A side (prompts, real pictures, a culture's participants) varies on its own: the variances of the
    sides add, and Welch's degrees of freedom give Student's quantile t. Noise that two sides share is
    counted in both, which errs on the wide side. Between two finite ends the interval is Wilson's, as
    for a share of value·(1 − value)/variance draws (Dean & Pagano 2015): it stays within them, and
    where nothing varies it is that of as many draws as the smallest side has parts.

    Args:
        value: the statistic of everything.
        without: for each side the statistic without each of its parts, shape (parts,).
        how: what was left out, in words.
        within: least and largest value that the statistic can have.
    """
    if min(map(len, without)) < 2 or not all(np.isfinite(side).all() for side in without):
        return Estimate(value, None, None, "none: too few to leave one out")
    variances = np.array([(len(side) - 1) * np.var(side) for side in without])
    freedoms = np.array([len(side) - 1 for side in without])
    variance = float(variances.sum())
    freedom = variance**2 / (variances**2 / freedoms).sum() if variance else freedoms.min()
    t = float(stats.t.ppf(0.975, freedom))
    (low, high), text = within, f"95%, jackknife over {how}" + (f"; {FEW}" if freedom < FEWEST else "")
    if not np.isfinite(within).all():
        reach = t * variance**0.5
        return Estimate(value, max(value - reach, low), min(value + reach, high), text)
    share, spread = (value - low) / (high - low), variance / (high - low) ** 2
    varies = spread > ROUNDING and 0 < share < 1
    draws = share * (1 - share) / spread if varies else freedoms.min() + 1
    middle = (share + t**2 / draws / 2) / (1 + t**2 / draws)
    reach = t * (share * (1 - share) / draws + (t / draws / 2) ** 2) ** 0.5 / (1 + t**2 / draws)
    lower, upper = (
        low + (high - low) * float(np.clip(end, 0, 1)) for end in (middle - reach, middle + reach)
    )
    return Estimate(value, lower, upper, text)


def clustered_mean(
    values: Sequence[float] | np.ndarray,
    clusters: Sequence[Hashable],
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Mean of all values with the interval of leaving out one cluster at a time.

    Pictures of one prompt resemble one another, so a prompt is left out with all its pictures. Where
    prompts have as many pictures each this is Student's t over the prompts' means.

    Args:
        values: one per picture, shape (n,).
        clusters: the prompt of each picture.
        within: see :func:`from_jackknife`.

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
        return Estimate(mean, None, None, "none: one prompt cannot be left out")
    without = (sums.sum() - sums) / (counts.sum() - counts)
    return from_jackknife(mean, [without], f"{len(counts)} prompts", within)


def jackknife(
    statistic: Callable[[np.ndarray], float],
    clusters: Sequence[Hashable],
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """A statistic of the whole set with the interval of leaving out one cluster at a time.

    For statistics that depend on how many different pictures there are, which resampling with
    repeats would bias. More clusters than ``GROUPS`` are left out in groups (Kott 2001).

    Args:
        statistic: takes a boolean mask of the pictures to use, shape (n,).
        clusters: the prompt of each picture.
        within: see :func:`from_jackknife`.
    """
    (part,) = parts(clusters)
    value = float(statistic(np.ones(len(part), bool)))
    count = len(set(clusters))
    if count < 2:
        return Estimate(value, None, None, "none: one prompt cannot be left out")
    without = np.array([statistic(part != number) for number in range(part.max() + 1)])
    how = f"{count} prompts" if count <= GROUPS else f"{GROUPS} groups of {count} prompts"
    return from_jackknife(value, [without], how, within)


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
