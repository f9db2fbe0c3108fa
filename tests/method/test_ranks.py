"""Rank statistics against hand cases and plain transcriptions."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from scipy import optimize, stats

from pipeline_steps.method import ranks
from pipeline_steps.method.estimate import parts


def rankings(n, k=4, seed=0, pull=0.0):
    """Rankings by noisy scores; a pull makes the first variant best."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=(n, k)) + pull * np.arange(k)
    return score.argsort(1).argsort(1) + 1


def counts_of(table):
    return np.bincount(ranks.encode(table), minlength=len(ranks.orders(table.shape[1]))).astype(float)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_encode_is_the_row_of_orders(k):
    table = rankings(50, k)
    assert (ranks.orders(k)[ranks.encode(table)] == table).all()


def test_encode_refuses_what_is_no_permutation():
    with pytest.raises(ValueError, match="permutation"):
        ranks.encode(np.array([[1, 2, 2, 4]]))


def test_mean_ranks_and_win_shares_from_counts():
    table = rankings(200, seed=1, pull=0.5)
    counts = counts_of(table)
    np.testing.assert_allclose(ranks.mean_ranks(counts, 4), table.mean(0))
    share = ranks.win_shares(counts, 4)
    for a in range(4):
        for b in range(4):
            assert share[a, b] == pytest.approx((table[:, a] < table[:, b]).mean())


def likelihood(log_worth, table):
    """Negative log-posterior of Plackett–Luce, ranking by ranking."""
    total = 0.0
    for ranking, weight in table:
        listed = log_worth[np.argsort(ranking)]
        total -= weight * sum(listed[s] - np.logaddexp.reduce(listed[s:]) for s in range(len(listed) - 1))
    return total


@pytest.mark.parametrize("k", [2, 3, 4])
def test_plackett_luce_is_the_largest_posterior(k):
    table = rankings(60, k, seed=2, pull=0.4)
    weighted = [(row, 1.0) for row in table] + [
        (row, ranks.PRIOR / len(ranks.orders(k))) for row in ranks.orders(k)
    ]
    best = optimize.minimize(likelihood, np.zeros(k), (weighted,), tol=1e-12)
    expected = np.exp(best.x) / np.exp(best.x).sum()
    np.testing.assert_allclose(ranks.plackett_luce(counts_of(table), k), expected, atol=1e-6)


def test_plackett_luce_by_hand_and_in_batches():
    # Two variants: worth is the share of wins, the prior counting as half a win each.
    first = np.array([[3.0, 1.0], [4.0, 0.0]])
    np.testing.assert_allclose(ranks.plackett_luce(first, 2)[:, 0], [3.5 / 5, 4.5 / 5], atol=1e-8)


def test_figures_by_counting_again_without_each_part():
    table = rankings(72, k=3, seed=4, pull=0.3)
    shown = table[:, [2, 0, 1]]
    who, where = np.arange(72) // 9, np.arange(72) % 9 // 3
    culture, unit = (who > 4).astype(int), (np.arange(72) % 9) + 10 * (who > 4)
    where = where + 3 * culture
    sides = [side for labels in (who, where) for side in parts(labels.tolist(), culture.tolist())]
    whole, without = ranks.figures(table, shown, who.tolist(), unit.tolist(), sides)

    def again(keep):
        """Each figure from the rankings that are kept."""
        means = [table[keep & (who == w)].mean(0) for w in np.unique(who[keep])]
        counts = counts_of(table[keep])
        values = [[r[v] if u == n else np.nan for r, u in zip(table[keep], unit[keep], strict=True)]
                  for n in np.unique(unit) for v in range(3)]  # fmt: skip
        wins = [(table[keep][:, b] < table[keep][:, a]).mean() for b in range(3) for a in range(b)]
        return [
            *table[keep].mean(0),
            *shown[keep].mean(0),
            *ranks.plackett_luce(counts, 3),
            *wins,
            ranks.kendall_w(np.array(means)),
            alpha_by_pairs(np.array(values)),
        ]

    np.testing.assert_allclose(whole, again(np.ones(72, bool)), atol=1e-7)
    assert [len(side) for side in without] == [5, 3, 3, 3]
    for side, found in zip(sides, without, strict=True):
        expected = [again(side != number) for number in range(side.max() + 1)]
        np.testing.assert_allclose(found, expected, atol=1e-7)


def test_interval_of_two_cultures_is_the_stratified_one():
    """Textbook variance of a stratified mean, Σ w² s²/n; the two prompts of a culture are alike."""
    table = np.repeat(rankings(13, seed=6, pull=0.4), 2, axis=0)
    who, culture = np.arange(26) // 2, np.repeat([0, 1], [16, 10])
    prompt = np.arange(26) % 2 + 2 * culture
    found = ranks.estimates(table, table, who.tolist(), prompt.tolist(), prompt.tolist(), culture.tolist())
    own, weights = [table[:16:2, 0], table[16::2, 0]], np.array([16 / 26, 10 / 26])
    parts = [w**2 * x.var(ddof=1) / len(x) for w, x in zip(weights, own, strict=True)]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 7 + parts[1] ** 2 / 4)
    t, share = stats.t.ppf(0.975, freedom), (table[:, 0].mean() - 1) / 3
    draws = share * (1 - share) / (sum(parts) / 9)
    low, high = sorted(np.roots([1 + t**2 / draws, -2 * share - t**2 / draws, share**2]))
    assert (found[0].low, found[0].high) == pytest.approx((1 + 3 * low, 1 + 3 * high))
    assert found[0].interval == "95%, jackknife over 13 participants and 4 prompts"


def test_two_people_and_two_prompts_are_enough_and_no_interval_leaves_what_can_be():
    table = rankings(8, pull=2.0)
    who, prompt = [*"aabbaabb"], [*"ppppqqqq"]
    found = ranks.estimates(table, table[:, ::-1], who, prompt, prompt, ["x"] * 8)
    ends = [(1, 4)] * 8 + [(0, 1)] * (4 + 6 + 1) + [(-np.inf, 1)]
    assert found.pop(-2).interval == "none: too few to leave one out"  # W of a single participant
    ends.pop(-2)
    for estimate, (least, most) in zip(found, ends, strict=True):
        assert least <= estimate.low <= estimate.value <= estimate.high <= most
        assert estimate.interval.startswith("95%, jackknife over 2 participants and 2 prompts")
    assert found[-1].high == 1


def test_interval_says_why_there_is_none():
    table = rankings(6)
    found = ranks.estimates(table, table, ["a"] * 6, list(range(6)), list(range(6)), ["x"] * 6)
    assert all(e.low is None and "needs two participants" in e.interval for e in found)


def test_kendall_w():
    # Siegel & Castellan's recipe on a hand case: three judges, R = (4, 6, 8), S = 8, W = 12·8/(9·24).
    scores = np.array([[1, 2, 3], [1, 3, 2], [2, 1, 3]])
    assert ranks.kendall_w(scores) == pytest.approx(12 * 8 / (9 * 24))
    assert ranks.kendall_w(np.tile([1.0, 2, 3, 4], (5, 1))) == pytest.approx(1)
    assert ranks.kendall_w(np.array([[1, 2], [2, 1]])) == 0
    assert np.isnan(ranks.kendall_w(np.ones((3, 4))))


def test_kendall_w_with_ties_follows_friedman():
    scores = np.random.default_rng(3).integers(1, 4, (9, 4)).astype(float)
    chi = stats.friedmanchisquare(*scores.T).statistic
    assert ranks.kendall_w(scores) == pytest.approx(chi / (9 * 3))


def alpha_by_pairs(values):
    """Krippendorff's definition, pair by pair: values are (units, raters) with nan for none."""
    kept = [[v for v in row if not np.isnan(v)] for row in values]
    kept = [row for row in kept if len(row) > 1]
    every = [v for row in kept for v in row]
    number = {v: every.count(v) for v in set(every)}

    def distance(a, b):
        low, high = sorted((a, b))
        between = sum(n for v, n in number.items() if low <= v <= high)
        return (between - (number[low] + number[high]) / 2) ** 2

    observed = sum(
        2 * sum(distance(a, b) for a, b in combinations(row, 2)) / (len(row) - 1) for row in kept
    ) / len(every)
    expected = 2 * sum(distance(a, b) for a, b in combinations(every, 2)) / (len(every) * (len(every) - 1))
    return 1 - observed / expected


def unit_counts(values, highest):
    return np.array([[np.sum(row == value) for value in range(1, highest + 1)] for row in values])


def test_krippendorff_ordinal_on_his_own_example():
    none = np.nan
    observers = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, none, none, none],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, none, 3],
            [none, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, none],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, none],
        ]
    ).T
    found = ranks.krippendorff_ordinal(unit_counts(observers, 5))
    assert found == pytest.approx(0.815, abs=5e-4)
    assert found == pytest.approx(alpha_by_pairs(observers))


def test_krippendorff_ordinal_on_rankings():
    table = rankings(48, seed=6, pull=0.7).astype(float)
    values = table.reshape(6, 8, 4).transpose(1, 2, 0).reshape(32, 6)
    found = ranks.krippendorff_ordinal(unit_counts(values, 4))
    assert found == pytest.approx(alpha_by_pairs(values))
    perfect = unit_counts(np.repeat([[1.0], [2], [3], [4]], 5, axis=1), 4)
    assert ranks.krippendorff_ordinal(perfect) == pytest.approx(1)
    assert np.isnan(ranks.krippendorff_ordinal(np.array([[1, 0], [0, 1]])))


def test_friedman_by_hand():
    # Conover's rule without ties: 12/(nk(k+1))·ΣR² − 3n(k+1), n = 4, k = 3, R = (5, 8, 11).
    scores = np.array([[1, 2, 3], [1, 2, 3], [2, 1, 3], [1, 3, 2]])
    statistic = 12 / (4 * 3 * 4) * (25 + 64 + 121) - 3 * 4 * 4
    assert ranks.friedman(scores) == pytest.approx(stats.chi2.sf(statistic, 2))
    two = np.array([[1, 2, 3], [1, 3, 2]])  # R = (2, 5, 5): 12/(2·3·4)·54 − 3·2·4
    assert ranks.friedman(two) == pytest.approx(stats.chi2.sf(3, 2))
    assert np.isnan(ranks.friedman(scores[:1])) and np.isnan(ranks.friedman(scores[:, :2]))
    assert np.isnan(ranks.friedman(np.ones((5, 3))))


def test_wilcoxon():
    first, second = np.array([10, 15, 20, 10, 12]), np.array([20, 26, 33, 25, 29])
    # All five differences have one sign: two of 2⁵ equally likely sign patterns.
    assert ranks.wilcoxon(first, second, np.full(5, 10)) == pytest.approx(2 / 32)
    assert np.isnan(ranks.wilcoxon(first, first, np.full(5, 10)))


@pytest.mark.parametrize("prefer", [4, 5, 6])
def test_who_prefers_neither_does_not_make_few_preferences_sure(prefer):
    """Fourteen people, ten of them undecided: four of one mind are two of 2⁴ equally likely patterns."""
    second = np.full(14, 25) + np.repeat([1, 0], [prefer, 14 - prefer])
    assert ranks.wilcoxon(np.full(14, 25), second, np.full(14, 10)) == pytest.approx(2 / 2**prefer)


@pytest.mark.parametrize("people", [1, 2, 3, 5, 8, ranks.FEW])
def test_few_people_have_scipys_exact_p_ties_or_not(people):
    """scipy tries the choices of signs one after the other where there are ties."""
    rng = np.random.default_rng(people)
    for sizes in ([1, 2, 3], np.arange(1, 100)):
        differences = rng.choice(sizes, people) * rng.choice([-1, 1], people)
        found = ranks.wilcoxon(np.zeros(people), -differences, np.ones(people))
        assert found == stats.wilcoxon(differences).pvalue


def signed_rank_p(differences):
    """Wilcoxon's test by its formulas in fractions: normal approximation, ties corrected, zeros dropped."""
    kept = [d for d in differences if d]
    sizes = sorted(abs(d) for d in kept)
    place = {s: Fraction(2 * sizes.index(s) + sizes.count(s) + 1, 2) for s in sizes}
    plus, n = sum(place[abs(d)] for d in kept if d > 0), len(kept)
    ties = sum(sizes.count(s) ** 3 - sizes.count(s) for s in set(sizes))
    variance = Fraction(n * (n + 1) * (2 * n + 1), 24) - Fraction(ties, 48)
    return 2 * stats.norm.sf(abs(float(plus - Fraction(n * (n + 1), 4))) / float(variance) ** 0.5)


def test_equal_differences_of_mean_ranks_are_ties():
    """24 people who ranked 7 to 10 pages: as floats, 2.3 − 1.9 and 2.9 − 2.5 are no tie."""
    rng, changed = np.random.default_rng(0), 0
    for _ in range(40):
        answers = rng.integers(7, 11, 24)
        sums = np.array([(rng.random((n, 4)).argsort(1) + 1).sum(0) for n in answers])
        for a, b in combinations(range(4), 2):
            exact = [Fraction(int(x), int(n)) for x, n in zip(sums[:, a] - sums[:, b], answers, strict=True)]
            found = ranks.wilcoxon(sums[:, a], sums[:, b], answers)
            kept = [abs(d) for d in exact if d]
            if len(kept) > 13 and len(set(kept)) < len(kept):  # otherwise scipy enumerates
                assert found == pytest.approx(signed_rank_p(exact))
            as_floats = stats.wilcoxon(sums[:, a] / answers, sums[:, b] / answers).pvalue
            changed += not np.isclose(found, as_floats)
    assert changed > 100, "the floats are no worse: this test shows nothing"


def test_holm_by_hand():
    np.testing.assert_allclose(ranks.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    found = ranks.holm([0.5, np.nan, 0.9])
    np.testing.assert_allclose(found, [1.0, np.nan, 1.0])
