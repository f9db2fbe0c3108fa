"""How far rankings agree: one rater with people, people with one another.

Two rankings of the same k pictures agree in the share of the k(k − 1)/2 pairs that both order alike;
Kendall's τ is twice that share less one, 0 by chance.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline_steps.method.estimate import Estimate, from_jackknife
from pipeline_steps.method.ranks import krippendorff_ordinal

CHANCE = 0.5
"""Share of pairs that rankings drawn at random order alike."""


class Comparisons(NamedTuple):
    """Pairs of rankings of the same pictures by the same question.

    Attributes:
        first: ranks given by the one, permutations of 1…k, shape (n, k).
        second: by the other, a person.
        people: numbers of the persons whose rankings they are, one or two arrays of shape (n,).
        prompts: number of the prompt, shape (n,).
    """

    first: np.ndarray
    second: np.ndarray
    people: tuple[np.ndarray, ...]
    prompts: np.ndarray

    def where(self, mask: np.ndarray) -> "Comparisons":
        """Keep those where the mask is true."""
        people = tuple(column[mask] for column in self.people)
        return Comparisons(self.first[mask], self.second[mask], people, self.prompts[mask])


def between(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of every pair of one row of each side that have the same label.

    Args:
        one: label of each row, shape (a,).
        other: shape (b,).
    """
    pairs = [
        np.array(np.meshgrid(np.flatnonzero(one == label), np.flatnonzero(other == label))).reshape(2, -1)
        for label in np.intersect1d(one, other)
    ]
    first, second = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int64)
    return first, second


def shares_alike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Share of the pairs that two rankings order alike, shapes (n, k) to (n,)."""
    a, b = np.triu_indices(first.shape[1], 1)
    alike: np.ndarray = ((first[:, a] < first[:, b]) == (second[:, a] < second[:, b])).mean(1)
    return alike


def agreement(found: Comparisons) -> Estimate:
    """Mean share of pairs ordered alike; its interval leaves out one person, then one prompt, at a time.

    Args:
        found: at least one comparison.
    """
    shares = shares_alike(found.first, found.second)
    value = float(shares.mean())
    sides = [_without(shares, side) for side in (found.people, (found.prompts,))]
    if any(side is None for side in sides):
        return Estimate(value, None, None, "none: needs two people and two prompts")
    people, prompts = (len(np.unique(np.concatenate(side))) for side in (found.people, (found.prompts,)))
    how = f"{people} people and {prompts} prompts"
    return from_jackknife(value, [side for side in sides if side is not None], how, (0, 1))


def _without(shares: np.ndarray, columns: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the mean without each label's comparisons, or None where nothing would be left of one."""
    labels, numbers = np.unique(np.concatenate(columns), return_inverse=True)
    sums, counts = np.zeros(len(labels)), np.zeros(len(labels))
    for column in numbers.reshape(len(columns), -1):
        sums += np.bincount(column, shares, len(labels))
        counts += np.bincount(column, minlength=len(labels))
    left = len(shares) - counts
    if len(labels) < 2 or not left.all():
        return None
    means: np.ndarray = (shares.sum() - sums) / left
    return means


def alpha(found: Comparisons) -> float:
    """Ordinal Krippendorff α of two raters: a unit is a picture that both ranked; 1 full, 0 as by chance."""
    n, k = found.first.shape
    counts = np.zeros((n * k, k))
    for ranks in (found.first, found.second):
        counts[np.arange(n * k), ranks.ravel() - 1] += 1
    return krippendorff_ordinal(counts)


def pairs_in_order(found: Comparisons) -> int:
    """Return how many pairs of variants the mean ranks of both sides put in the same order; a tie is none."""
    a, b = np.triu_indices(found.first.shape[1], 1)
    sides = [np.sign(ranks.mean(0)[a] - ranks.mean(0)[b]) for ranks in (found.first, found.second)]
    return int((sides[0] * sides[1] > 0).sum())
