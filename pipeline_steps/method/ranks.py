"""Statistics of rankings: mean ranks, wins, Plackett–Luce, agreement, tests.

A ranking of k variants is one of k! permutations. Mean ranks, win shares and Plackett–Luce worths
depend only on how often each permutation occurs, so that leaving somebody out is a subtraction.
"""

from collections.abc import Hashable, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import permutations

import numpy as np
from scipy import stats

from pipeline_steps.method.estimate import Estimate, codes, from_jackknife, parts

PRIOR = 1.0
"""Plackett–Luce: weight, in rankings, of a prior under which every order is equally likely. Without
it a variant that is always last has no finite log worth."""


@lru_cache
def orders(k: int) -> np.ndarray:
    """Return all rankings of k variants, shape (k!, k): the rank (1 is best) of each variant."""
    return np.array(list(permutations(range(1, k + 1))))


def encode(ranks: np.ndarray) -> np.ndarray:
    """Return each ranking's row in :func:`orders`.

    Args:
        ranks: permutations of 1…k, shape (n, k).

    Returns:
        Shape (n,).

    Raises:
        ValueError: a row is no permutation.
    """
    ranks = np.asarray(ranks)
    k = ranks.shape[1]
    if not (np.sort(ranks, axis=1) == np.arange(1, k + 1)).all():
        raise ValueError("a ranking is no permutation of 1…k")
    base = (k + 1) ** np.arange(k)
    known = orders(k) @ base
    place = np.argsort(known)
    found: np.ndarray = place[np.searchsorted(known[place], ranks @ base)]
    return found


def mean_ranks(counts: np.ndarray, k: int) -> np.ndarray:
    """Mean rank of each variant from permutation counts, shape (…, k!) to (…, k)."""
    means: np.ndarray = counts @ orders(k) / counts.sum(-1, keepdims=True)
    return means


def win_shares(counts: np.ndarray, k: int) -> np.ndarray:
    """Share of rankings in which a is better than b, shape (…, k!) to (…, k, k)."""
    better = orders(k)[:, :, None] < orders(k)[:, None, :]
    wins = np.tensordot(counts, better.astype(float), axes=1)
    shares: np.ndarray = wins / counts.sum(-1)[..., None, None]
    return shares


def plackett_luce(counts: np.ndarray, k: int, tolerance: float = 1e-9) -> np.ndarray:
    """Worths of the Plackett–Luce model by Hunter's MM algorithm (2004), shape (…, k!) to (…, k).

    A ranking picks the best of all, then the best of the rest, …, each with probability its worth
    over the sum of those left. The worths maximise the posterior under :data:`PRIOR` and sum to 1.
    """
    shape = counts.shape[:-1]
    number = counts.reshape(-1, len(orders(k))) + PRIOR / len(orders(k))
    place = orders(k) - 1
    listed = np.argsort(place, axis=1)
    picked = number @ (place < k - 1)
    stage = np.minimum(place, k - 2)
    worth = np.full((len(number), k), 1 / k)
    for _ in range(10_000):
        left = np.cumsum(worth[:, listed][..., ::-1], axis=-1)[..., ::-1]
        seen = np.cumsum(1 / left[..., : k - 1], axis=-1)
        until = np.take_along_axis(seen, np.broadcast_to(stage, (len(number), *stage.shape)), axis=-1)
        new = picked / np.einsum("bc,bck->bk", number, until)
        new /= new.sum(-1, keepdims=True)
        done = np.abs(new - worth).max() < tolerance
        worth = new
        if done:
            break
    return worth.reshape(*shape, k)


def kendall_w(scores: np.ndarray) -> float:
    """Kendall's W: how far m participants order k variants alike, 0 (not) to 1 (fully), ties corrected.

    Args:
        scores: each participant's score of each variant, shape (m, k).

    Returns:
        W, or nan for one participant and where nobody prefers anything. Chance alone gives 1/m on average.
    """
    m, k = scores.shape
    if m < 2:
        return float("nan")
    ranks = stats.rankdata(scores, axis=1)
    spread = ((ranks.sum(0) - m * (k + 1) / 2) ** 2).sum()
    # A group of n tied variants counts n³ − n: n² − 1 for each of them.
    ties = float(((ranks[:, :, None] == ranks[:, None]).sum(2) ** 2 - 1).sum())
    most = m**2 * (k**3 - k) - m * ties
    return float(12 * spread / most) if most else float("nan")


def krippendorff_ordinal(counts: np.ndarray) -> float:
    """Ordinal Krippendorff α: agreement on units (pictures), 1 full, 0 as by chance, below 0 worse.

    Args:
        counts: how many participants gave each unit each value, values in order, shape (units, values).

    Returns:
        α, or nan where no unit has two values or only one value was ever given.
    """
    # The library krippendorff (0.9.0) gives the same on 2,000 random tables, but is under the GPL.
    counts = counts[counts.sum(1) > 1].astype(float)
    if not len(counts):
        return float("nan")
    size = counts.sum(1)
    together = (counts / (size - 1)[:, None]).T @ counts - np.diag((counts / (size - 1)[:, None]).sum(0))
    n = together.sum(0)
    # Between two values: everything given from one to the other, these two by half.
    middle = np.cumsum(n) - n / 2
    distance = (middle[:, None] - middle[None]) ** 2
    expected = (np.outer(n, n) * distance).sum() / (n.sum() - 1)
    return float(1 - (together * distance).sum() / expected) if expected else float("nan")


def estimates(
    ranks: np.ndarray,
    shown: np.ndarray,
    participants: Sequence[Hashable],
    prompts: Sequence[Hashable],
    units: Sequence[Hashable],
    strata: Sequence[Hashable],
) -> list[Estimate]:
    """A survey's figures, in the order of :func:`figures`, jackknifed over participants and prompts.

    Args:
        ranks: rank of each variant, shape (n, k).
        shown: the same in the order in which the page showed the variants.
        participants: who gave each ranking.
        prompts: for which prompt.
        units: what was ranked: the same pictures, the same question.
        strata: in which culture; a participant and a prompt belong to one.
    """
    k, pairs = ranks.shape[1], ranks.shape[1] * (ranks.shape[1] - 1) // 2
    ends = [(1.0, float(k))] * (2 * k) + [(0.0, 1.0)] * (k + pairs + 1) + [(-np.inf, 1.0)]
    sides = [side for who in (participants, prompts) for side in parts(who, strata)]
    values, without = figures(ranks, shown, participants, units, sides)
    counts = len(set(participants)), len(set(prompts))
    if min(counts) < 2:
        return [Estimate(v, None, None, "none: needs two participants and two prompts") for v in values]
    how = f"{counts[0]} participants and {counts[1]} prompts"
    # Whoever is left out takes weight from their culture, so what is left of it moves the whole by less
    # than it should: a stratified jackknife gives that weight to the others of the stratum.
    shares, numbers = [(side >= 0).mean() for side in sides], [side.max() + 1 for side in sides]
    stretched = [
        values + (side - values) * (1 - share / number) / (1 - 1 / number)
        for side, share, number in zip(without, shares, numbers, strict=True)
    ]
    return [
        from_jackknife(value, [side[:, number] for side in stretched], how, within)
        for number, (value, within) in enumerate(zip(values, ends, strict=True))
    ]


def figures(
    ranks: np.ndarray,
    shown: np.ndarray,
    participants: Sequence[Hashable],
    units: Sequence[Hashable],
    sides: Sequence[np.ndarray],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A survey's figures of all rankings, and without each part of each side.

    Args:
        ranks: rank of each variant, shape (n, k).
        shown: the same in the order in which the page showed the variants.
        participants: who gave each ranking.
        units: what was ranked: the same pictures, the same question.
        sides: part of each ranking, shape (n,), see :func:`~pipeline_steps.method.estimate.parts`.

    Returns:
        Shapes (s,) and, for each side, (parts, s): mean ranks (k), mean ranks by position (k),
        Plackett–Luce worths (k), win shares of b over each a < b, Kendall's W over participants' mean
        ranks, Krippendorff's α over units.
    """
    k = ranks.shape[1]
    person, unit, one = codes(participants), codes(units), np.ones((len(ranks), 1))
    # Cells that each ranking counts in, by how much, and the table they make. Tables add up, so that
    # leaving somebody out is a subtraction.
    tables = (
        (encode(ranks)[:, None], one, (len(orders(k)),)),
        (encode(shown)[:, None], one, (len(orders(k)),)),
        (person[:, None] * (k + 1) + np.arange(k + 1), np.hstack([ranks, one]), (person.max() + 1, k + 1)),
        ((unit[:, None] * k + np.arange(k)) * k + ranks - 1, one.repeat(k, 1), ((unit.max() + 1) * k, k)),
    )
    everyone = np.zeros(len(ranks), np.int64)
    whole = [_counted(table, everyone) for table in tables]
    without = [
        [total - _counted(table, side) for total, table in zip(whole, tables, strict=True)] for side in sides
    ]
    return _figures(whole, k)[0], [_figures(counts, k) for counts in without]


def _counted(table: tuple[np.ndarray, np.ndarray, tuple[int, ...]], side: np.ndarray) -> np.ndarray:
    """Sum the weights in each cell of a table, one table for each part: shape (parts, …)."""
    cells, weights, shape = table
    own, number, size = side >= 0, side.max() + 1, int(np.prod(shape))
    flat = side[own, None] * size + cells[own]
    counts = np.bincount(flat.ravel(), weights[own].ravel(), number * size)
    return counts.reshape(number, *shape)


def _figures(counts: Sequence[np.ndarray], k: int) -> np.ndarray:
    """The figures of :func:`figures` from stacked tables, shape (stack, s)."""
    given, placed, people, units = counts
    means = [person[person[:, k] > 0] for person in people]
    return np.column_stack(
        [
            mean_ranks(given, k),
            mean_ranks(placed, k),
            plackett_luce(given, k),
            win_shares(given, k)[:, *np.tril_indices(k, -1)],
            [kendall_w(person[:, :k] / person[:, k:]) for person in means],
            [krippendorff_ordinal(unit) for unit in units],
        ]
    )


def friedman(scores: np.ndarray) -> float:
    """Return p of Friedman's test that variants are alike; rows are independent participants, shape (m, k).

    nan for fewer than two participants or three variants, or where nobody prefers anything.
    """
    if scores.shape[0] < 2 or scores.shape[1] < 3:
        return float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(stats.friedmanchisquare(*scores.T).pvalue)


FEW = 13
"""Most people for whom the signed-rank test tries all choices of signs."""


def wilcoxon(first: np.ndarray, second: np.ndarray, answers: np.ndarray) -> float:
    """Return p of the signed-rank test that two variants are alike; a participant is one observation.

    Differences of mean ranks are compared as fractions: as floats, equal ones differ in their last
    bits, and the test would take a tie for an order. Who prefers neither does not count. Where at most
    :data:`FEW` are left, p is exact, ties or not: the share of all 2^m choices of signs that are as extreme.

    Args:
        first: sum of the ranks each participant gave one variant, whole numbers, shape (m,).
        second: of the other.
        answers: how many rankings each sum is of.
    """
    difference = [Fraction(int(a) - int(b), int(n)) for a, b, n in zip(first, second, answers, strict=True)]
    difference = [d for d in difference if d]
    if not difference:
        return float("nan")
    place = {size: number for number, size in enumerate(sorted(set(map(abs, difference))), 1)}
    # The test knows sizes by their order alone: the n-th smallest may as well be n.
    signed = stats.rankdata([place[abs(d)] for d in difference]) * [-1 if d < 0 else 1 for d in difference]
    if 1 < len(signed) <= FEW:  # as stats.wilcoxon does where there are ties, but all choices at once
        tried = {"permutation_type": "samples", "vectorized": True, "n_resamples": 2**FEW}
        return float(stats.permutation_test((signed,), np.sum, **tried).pvalue)
    return float(stats.wilcoxon(signed).pvalue)


def holm(p: Sequence[float]) -> np.ndarray:
    """Adjust p-values of one family by Holm's method (1979); nan stays nan and does not count."""
    values = np.asarray(p, float)
    adjusted = np.full(values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    ranked = known[np.argsort(values[known], kind="stable")]
    steps = values[ranked] * np.arange(len(ranked), 0, -1)
    adjusted[ranked] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted
