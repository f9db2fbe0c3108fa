"""Statistics of rankings: mean ranks, wins, Plackett–Luce, agreement, tests.

A ranking of k variants is one of k! permutations. Mean ranks, win shares and Plackett–Luce worths
depend only on how often each permutation occurs, so that resampling means drawing those counts.
"""

from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import permutations

import numpy as np
from scipy import stats

from pipeline_steps.method.estimate import Estimate, codes

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


def resampled_counts(
    which: np.ndarray,
    k: int,
    participants: Sequence[Hashable] | np.ndarray,
    prompts: Sequence[Hashable] | np.ndarray,
    strata: Sequence[Hashable] | np.ndarray,
    resamples: int,
    seed: int,
) -> np.ndarray:
    """Draw permutation counts under a bootstrap clustered by participant and by prompt.

    Within each stratum (a culture) participants are drawn with replacement, prompts as well, and a
    ranking counts as often as its participant times its prompt (the pigeonhole bootstrap, Owen 2007: it errs
    on the wide side).

    Args:
        which: permutation of each ranking, shape (n,), see :func:`encode`.
        k: number of variants.
        participants: who gave it.
        prompts: for which prompt.
        strata: in which culture.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        Counts, shape (resamples, k!).
    """
    total, rng = np.zeros((resamples, len(orders(k)))), np.random.default_rng(seed)
    stratum, person, prompt = codes(strata), codes(participants), codes(prompts)
    for number in range(stratum.max() + 1):
        rows = stratum == number
        p, q = (np.unique(part[rows], return_inverse=True)[1] for part in (person, prompt))
        sizes = (p.max() + 1, q.max() + 1)
        cells = np.zeros((*sizes, total.shape[1]))
        np.add.at(cells, (p, q, which[rows]), 1)
        drawn_p, drawn_q = (rng.multinomial(size, np.full(size, 1 / size), resamples) for size in sizes)
        by_prompt = (drawn_p @ cells.reshape(sizes[0], -1)).reshape(resamples, sizes[1], -1)
        total += np.einsum("bq,bqc->bc", drawn_q, by_prompt)
    return total


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


def interval(value: float, drawn: np.ndarray, participants: int, prompts: int) -> Estimate:
    """Percentile interval of a figure from its resampled values, shape (resamples,)."""
    drawn = drawn[np.isfinite(drawn)]
    if participants < 2 or prompts < 2 or not len(drawn):
        return Estimate(float(value), None, None, "none: needs two participants and two prompts")
    low, high = np.percentile(drawn, [2.5, 97.5])
    text = f"95%, bootstrap over {participants} participants and {prompts} prompts"
    return Estimate(float(value), float(low), float(high), text)


def kendall_w(scores: np.ndarray) -> float:
    """Kendall's W: how far m participants order k variants alike, 0 (not) to 1 (fully), ties corrected.

    Args:
        scores: each participant's score of each variant, shape (m, k).

    Returns:
        W, or nan where nobody prefers anything. Chance alone gives 1/m on average.
    """
    m, k = scores.shape
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


def friedman(scores: np.ndarray) -> float:
    """Return p of Friedman's test that variants are alike; rows are independent participants, shape (m, k).

    nan for fewer than two participants or three variants, or where nobody prefers anything.
    """
    if scores.shape[0] < 2 or scores.shape[1] < 3:
        return float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(stats.friedmanchisquare(*scores.T).pvalue)


def wilcoxon(first: np.ndarray, second: np.ndarray) -> float:
    """Return p of the signed-rank test that two variants are alike, from participants' mean ranks (m,)."""
    if not (first != second).any():
        return float("nan")
    return float(stats.wilcoxon(first, second).pvalue)


def holm(p: Sequence[float]) -> np.ndarray:
    """Adjust p-values of one family by Holm's method (1979); nan stays nan and does not count."""
    values = np.asarray(p, float)
    adjusted = np.full(values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    ranked = known[np.argsort(values[known], kind="stable")]
    steps = values[ranked] * np.arange(len(ranked), 0, -1)
    adjusted[ranked] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted
