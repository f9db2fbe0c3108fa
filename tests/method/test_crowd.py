"""Simulated crowds against the formulas of what they simulate, and words drawn row by row."""

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline_steps.method.crowd import chance_to_see, crowd_skills, signed_rank_p, simulate_ranks
from pipeline_steps.method.sampling import GumbelNoise


def test_shares_of_a_crowd_are_rounded():
    assert crowd_skills(7, 0.4, 0.2).tolist() == [-1, 0, 0, 0, 1, 1, 1]
    assert crowd_skills(2, 0.0, 0.0).tolist() == [1, 1]


def test_rankings_occur_as_often_as_plackett_luce_says():
    strengths, skills = np.array([0.0, 0.5, 1.2]), np.array([1.0, -1.0])
    drawn = simulate_ranks(strengths, skills, 20_000, np.random.default_rng(3))
    assert drawn.shape == (2, 20_000, 3)
    for skill, rows in zip(skills, drawn, strict=True):
        worth = np.exp(skill * strengths)
        for best, middle, last in permutations(range(3)):
            chance = worth[best] / worth.sum() * worth[middle] / (worth[middle] + worth[last])
            share = ((rows[:, best] == 1) & (rows[:, middle] == 2)).mean()
            assert share == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 20_000) ** 0.5)


def test_many_signed_rank_tests_with_zeros_and_ties_are_scipys():
    many = np.random.default_rng(1).integers(-3, 5, (30, 12))
    expected = [stats.wilcoxon(row, method="asymptotic").pvalue for row in many]
    assert signed_rank_p(many) == pytest.approx(expected)
    # Nobody prefers anything; two of 2³ patterns of signs; one each way.
    assert signed_rank_p(np.array([[0, 0, 0], [2, 2, 2], [1, -1, 0]])).tolist() == [1, 2 / 8, 1]


def test_chances_that_can_be_counted():
    """Six people, one page each: only if all six put the better one first is p below 0.05."""

    def chance(share, careless=0.0, alpha=0.05):
        return chance_to_see(6, 1, share, careless, alpha, 4000, np.random.default_rng(5))

    assert chance(1.0) == 1
    assert chance(0.0) == 0, "the worse one is not the better one"
    assert chance(1.0, alpha=2 / 2**6) == 0, "p is no smaller than 2/2⁶"
    assert chance(1.0, careless=0.5) == pytest.approx(1 / 8, abs=0.02)
    assert chance(0.8) == pytest.approx(0.8**6, abs=0.03)


def test_words_are_drawn_by_their_chances_and_each_row_by_its_own_stream():
    scores = torch.tensor([[0.0, 1.0, -0.5], [2.0, 0.0, 0.0]])

    def drawn(rows, seeds, times=2000):
        noise = GumbelNoise([torch.Generator().manual_seed(seed) for seed in seeds])
        return torch.stack([noise(torch.empty(0), scores[rows]).argmax(-1) for _ in range(times)])

    both = drawn([0, 1], [7, 8])
    assert (both[:, 1] == drawn([1], [8])[:, 0]).all()
    for row in range(2):
        share = torch.bincount(both[:, row], minlength=3) / len(both)
        torch.testing.assert_close(share, scores[row].softmax(0), atol=0.035, rtol=0)


@pytest.mark.parametrize("drawn", [0.0, 1.0])
def test_the_ends_of_chance_draw_no_word_that_was_ruled_out(drawn, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda size, generator: torch.full((size,), drawn))
    scores = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]], dtype=torch.float64)
    found = GumbelNoise([torch.Generator()])(torch.empty(0), scores)
    assert found.tolist() == [[-torch.inf, -torch.inf, 0.0, -torch.inf]] and found.dtype == torch.float64
