"""Agreement of rankings against scipy, brute force and what is known of chance."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pipeline_steps.method.agreement import (
    CHANCE,
    Comparisons,
    agreement,
    alpha,
    between,
    pairs_in_order,
    shares_alike,
)
from pipeline_steps.method.crowd import simulate_ranks


def rankings(n, k=4, seed=0):
    return np.argsort(np.random.default_rng(seed).random((n, k)), axis=1) + 1


def comparisons(n, people=10, prompts=8, seed=0, first=None):
    rng = np.random.default_rng(seed)
    second = rankings(n, seed=seed + 1)
    first = rankings(n, seed=seed + 2) if first is None else first
    return Comparisons(first, second, (rng.integers(people, size=n),), rng.integers(prompts, size=n))


def test_the_share_of_pairs_is_kendall_s_tau_on_another_scale():
    one, other = rankings(50, seed=1), rankings(50, seed=2)
    tau = [stats.kendalltau(a, b).statistic for a, b in zip(one, other, strict=True)]
    assert 2 * shares_alike(one, other) - 1 == pytest.approx(tau)
    every = np.array(list(itertools.permutations(range(1, 5))))
    assert shares_alike(np.tile(one[:1], (24, 1)), every).mean() == pytest.approx(CHANCE)


def test_rows_with_the_same_label_meet():
    one, other = np.array(["b", "a", "a", "x"]), np.array(["a", "y", "b", "a"])
    expected = {(i, j) for i in range(4) for j in range(4) if one[i] == other[j]}
    assert set(zip(*map(np.ndarray.tolist, between(one, other)), strict=True)) == expected
    assert [len(rows) for rows in between(one, np.array(["z"]))] == [0, 0]


def test_the_interval_leaves_out_a_person_then_a_prompt():
    found = comparisons(400)
    shares = shares_alike(found.first, found.second)
    variance = 0
    for column in (found.people[0], found.prompts):
        without = [shares[column != label].mean() for label in np.unique(column)]
        variance += (len(without) - 1) * np.var(without)
    estimate = agreement(found)
    assert estimate.value == pytest.approx(shares.mean())
    half = (estimate.high - estimate.low) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, 14) * variance**0.5, rel=0.1)
    assert "10 people and 8 prompts" in estimate.interval


def test_two_people_s_comparison_goes_with_either():
    """A comparison of two people is left out with each of them."""
    found = comparisons(60, people=4)
    other = (found.people[0] + 1 + np.arange(60) % 2) % 4
    both = found._replace(people=(found.people[0], other))
    shares = shares_alike(found.first, found.second)
    without = [shares[(both.people[0] != p) & (other != p)].mean() for p in range(4)]
    prompts = [shares[found.prompts != p].mean() for p in np.unique(found.prompts)]
    variance = 3 * np.var(without) + (len(prompts) - 1) * np.var(prompts)
    estimate = agreement(both)
    assert 0.4 < (estimate.high - estimate.low) / 2 / variance**0.5 / 2.3 < 1.6
    alone = both._replace(people=(np.zeros(60, int), np.ones(60, int)))
    assert agreement(alone).low is None, "two people: nothing is left without one"


def test_alpha_of_a_rater_with_itself_of_strangers_and_of_opposites():
    ranks = rankings(500)
    assert alpha(comparisons(500, first=ranks)._replace(second=ranks)) == pytest.approx(1)
    assert abs(alpha(comparisons(500))) < 0.08
    assert alpha(comparisons(500, first=ranks)._replace(second=5 - ranks)) < -0.9


def test_interval_holds_the_known_agreement_of_a_crowd_with_the_truth():
    strengths, held = (0.0, 0.7, 1.0, 1.8), 0
    pairs = [(a, b) for a in range(4) for b in range(a)]
    known = np.mean([1 / (1 + np.exp(strengths[b] - strengths[a])) for a, b in pairs])
    for seed in range(60):
        rng = np.random.default_rng(seed)
        ranks = simulate_ranks(strengths, np.ones(8), 20, rng)
        people, prompts = np.divmod(np.arange(160), 20)
        truth = np.tile([4, 3, 2, 1], (160, 1))
        found = agreement(Comparisons(truth, ranks.reshape(-1, 4), (people,), prompts % 10))
        held += found.low <= known <= found.high
    assert held >= 52


def test_pairs_of_variants_in_people_s_order():
    people = np.array([[4, 3, 2, 1], [4, 3, 1, 2], [4, 2, 3, 1]])
    fixed = np.tile([4, 3, 1, 2], (3, 1))
    found = comparisons(3, first=fixed)._replace(second=people)
    assert pairs_in_order(found) == 5
    tied = found._replace(second=np.array([[4, 3, 2, 1], [4, 3, 1, 2]] * 2)[:2], first=fixed[:2])
    assert pairs_in_order(tied) == 5, "a tie is no order"
