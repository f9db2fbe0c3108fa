"""Simulated participants whose skill and taste are known."""

from collections.abc import Sequence

import numpy as np


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
