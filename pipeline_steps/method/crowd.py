"""Simulated participants whose skill and taste are known."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def crowd_skills(people: int, careless: float, adversarial: float) -> np.ndarray:
    """Return skills, shape (people,): 1 attentive, 0 careless, −1 adversarial; shares are rounded."""
    skills = np.ones(people)
    against, without = round(people * adversarial), round(people * careless)
    skills[:against] = -1
    skills[against : against + without] = 0
    return skills


def simulate_ranks(
    strengths: Sequence[float], skills: np.ndarray, answers: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw rankings from Plackett–Luce with log worths skill × strength (by Gumbel noise).

    Args:
        strengths: of the k variants; a larger one is ranked better.
        skills: of the participants, shape (p,).
        answers: rankings of each participant.
        rng: source of chance.

    Returns:
        Ranks, 1 is best, shape (p, answers, k).
    """
    scores = skills[:, None, None] * np.asarray(strengths) + rng.gumbel(
        size=(len(skills), answers, len(strengths))
    )
    ranks: np.ndarray = (-scores).argsort(-1).argsort(-1) + 1
    return ranks


def signed_rank_p(differences: np.ndarray) -> np.ndarray:
    """Return p of Wilcoxon's signed-rank test for many samples at once, by its normal approximation.

    Zeros are left out and ties corrected for; p is no smaller than the exact test's smallest, 2 / 2ⁿ.

    Args:
        differences: of n people in each of many samples, whole numbers, shape (samples, n).

    Returns:
        Two-sided, shape (samples,); 1 where nobody prefers anything.
    """
    size = np.abs(differences)
    zeros = (size == 0).sum(1, keepdims=True)
    ranks = np.where(size > 0, stats.rankdata(size, axis=1) - zeros, 0)
    n = size.shape[1] - zeros[:, 0]
    ties = np.zeros(len(size))
    for value in np.unique(size[size > 0]):
        together = (size == value).sum(1)
        ties += together**3 - together
    spread = n * (n + 1) * (2 * n + 1) / 24 - ties / 48
    lead = (ranks * (differences > 0)).sum(1) - n * (n + 1) / 4
    z = np.divide(np.abs(lead), np.sqrt(spread), out=np.zeros(len(size)), where=spread > 0)
    p: np.ndarray = np.clip(2 * stats.norm.sf(z), 2.0 / 2.0**n, 1)
    return p


def chance_to_see(
    people: int,
    pages: int,
    share: float,
    careless: float,
    alpha: float,
    trials: int,
    rng: np.random.Generator,
) -> float:
    """Return how often the signed-rank test sees that one variant is better than another.

    A person decides once on each page: four answers to one page may all say the same, and then are no more
    than one.

    Args:
        people: asked.
        pages: each decides on.
        share: of the pages on which an attentive person puts the better variant first.
        careless: share of the people who decide by chance.
        alpha: p below which a difference counts as seen.
        trials: simulated surveys.
        rng: source of chance.

    Returns:
        Between 0 and 1.
    """
    right = np.full(people, share)
    right[: round(people * careless)] = 0.5
    wins = rng.binomial(pages, right, (trials, people))
    seen = (signed_rank_p(2 * wins - pages) < alpha) & ((2 * wins - pages).sum(1) > 0)
    return float(seen.mean())
