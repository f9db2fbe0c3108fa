"""CLIPScore, cosines, DIV and the jackknife's intervals against hand calculations and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline_steps.method.coverage import density_and_coverage, vendi
from pipeline_steps.method.estimate import (
    FEW,
    Estimate,
    clustered_mean,
    from_jackknife,
    jackknife,
    mean_of,
    mean_with_t,
    parts,
)
from pipeline_steps.method.similarity import clip_score, cosine, diversity


def test_clip_score_by_hand():
    pictures = torch.tensor([[1.0, 0.0], [3.0, 4.0], [-1.0, 0.0]])
    texts = torch.tensor([[2.0, 0.0], [4.0, 3.0], [1.0, 0.0]])
    assert clip_score(pictures, texts).tolist() == pytest.approx([2.5, 2.5 * 24 / 25, 0.0])


def test_cosine_is_along_the_features_not_the_pictures():
    x, y = torch.eye(2, 3), torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert cosine(x, y).tolist() == pytest.approx([math.sqrt(0.5)] * 2)


@pytest.mark.parametrize("bad", [torch.zeros(2, 3), torch.full((2, 3), float("inf"))])
def test_rows_without_direction_are_refused(bad):
    with pytest.raises(ValueError, match="no direction"):
        cosine(bad, torch.ones(2, 3))


def test_diversity_by_hand():
    # Prompt a: cosines 0, 1, 0 → distances 1, 0, 1. Prompt b has one picture and no pair.
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 5.0], [1.0, 1.0], [0.0, 1.0], [0.0, -1.0]])
    values, prompts = diversity(rows, ["a", "a", "a", "b", "c", "c"])
    assert prompts == ["a", "c"]
    assert values == pytest.approx([2 / 3, 2.0])


def test_clustered_mean_is_students_t_over_prompts():
    values = np.random.default_rng(0).gamma(2, size=(5, 4))
    means = values.mean(1)
    expected = stats.t.interval(0.95, 4, means.mean(), stats.sem(means))
    found = clustered_mean(values.ravel(), np.repeat(list("abcde"), 4).tolist())
    assert (found.low, found.high) == pytest.approx(expected)
    assert (
        found.value == pytest.approx(values.mean())
        and found.interval == f"95%, jackknife over 5 prompts; {FEW}"
    )
    assert FEW not in clustered_mean(range(11), range(11)).interval


def test_clustered_mean_of_unlike_prompts_by_leaving_each_out():
    values, prompts = np.array([1.0, 4, 4, 7, 0]), ["a", "b", "b", "c", "c"]
    without = [values[[p != name for p in prompts]].mean() for name in "abc"]
    reach = stats.t.ppf(0.975, 2) * math.sqrt(2 / 3 * np.sum((without - np.mean(without)) ** 2))
    found = clustered_mean(values, prompts)
    assert (found.value, found.low, found.high) == pytest.approx((3.2, 3.2 - reach, 3.2 + reach))


@pytest.mark.parametrize("prompts", [3, 5, 10])
def test_means_of_few_prompts_are_covered(prompts):
    """A bootstrap over prompts covers .75, .82 and .89 here."""
    rng = np.random.default_rng(prompts)
    pictures = np.repeat(np.arange(prompts), 20).tolist()
    hits = 0
    for _ in range(400):
        values = rng.normal(size=prompts).repeat(20) + 0.3 * rng.normal(size=prompts * 20)
        found = clustered_mean(values, pictures)
        hits += found.low <= 0 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_share_of_independent_pictures_is_wilsons():
    # One picture a prompt: the jackknife's variance is p(1 − p)/(n − 1), so there are n − 1 draws.
    values, t = np.array([1.0] * 9 + [0.0] * 4), stats.t.ppf(0.975, 12)
    share, draws = 9 / 13, 12
    # The ends are where (p − share)² = t² p(1 − p)/draws.
    ends = np.roots([1 + t**2 / draws, -2 * share - t**2 / draws, share**2])
    found = clustered_mean(values, range(13), within=(0, 1))
    assert (found.low, found.high) == pytest.approx(sorted(ends))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_share_without_spread_has_an_interval_all_the_same(share):
    found = clustered_mean([share] * 60, np.repeat(range(3), 20).tolist(), within=(0, 1))
    t = stats.t.ppf(0.975, 2)
    width = t**2 / 3 / (1 + t**2 / 3)  # Wilson's at 0 of 3 draws, or at 3
    assert (found.low, found.high) == pytest.approx((0, width) if share == 0 else (1 - width, 1))


def test_sides_add_up_with_welchs_freedom():
    rng = np.random.default_rng(0)
    sides = [rng.normal(0, 0.1, 4), rng.normal(0, 0.02, 9)]
    variances = [(len(s) - 1) / len(s) * np.sum((s - s.mean()) ** 2) for s in sides]
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 3 + variances[1] ** 2 / 8)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(sum(variances))
    found = from_jackknife(0.5, sides, "both")
    assert (found.low, found.high) == pytest.approx((0.5 - reach, 0.5 + reach))
    # The same on another scale, and within ends: the ends follow the scale and are never passed.
    small = from_jackknife(0.02, sides, "both", (0, 1))
    large = from_jackknife(1.06, [3 * s for s in sides], "both", (1, 4))
    assert (large.low, large.high) == pytest.approx((1 + 3 * small.low, 1 + 3 * small.high))
    assert small.low == pytest.approx(0, abs=0.01) and small.low >= 0
    assert from_jackknife(0.02, sides, "both", (0, np.inf)).low == 0
    assert from_jackknife(0.5, [np.array([0.4, np.nan])], "x").interval.startswith("none")


def test_a_figure_at_its_end_whose_parts_vary_has_the_interval_of_few_draws():
    t = stats.t.ppf(0.975, 2)
    found = from_jackknife(0.0, [np.array([0.0, 0.1, 0.2])], "x", (0, 1))
    assert (found.low, found.high) == pytest.approx((0, t**2 / 3 / (1 + t**2 / 3)))
    found = from_jackknife(1.0, [np.array([1.0, 0.9, 0.8])], "x", (0, 1))
    assert (found.low, found.high) == pytest.approx((1 / (1 + t**2 / 3), 1))
    assert from_jackknife(0.9, [np.array([0.0, 0.5, 1.0])], "x", (-np.inf, 1)).high == 1


def test_two_are_enough_for_an_interval():
    reach = stats.t.ppf(0.975, 1) * 1.5
    assert (mean_with_t([1.0, 4.0], "seeds").low, mean_with_t([1.0, 4.0], "seeds").high) == pytest.approx(
        (2.5 - reach, 2.5 + reach)
    )
    found = clustered_mean([1.0, 4.0], ["p", "q"])
    assert (found.low, found.high) == pytest.approx((2.5 - reach, 2.5 + reach))
    assert jackknife(lambda keep: np.array([1.0, 4.0])[keep].mean(), ["p", "q"]).high == pytest.approx(
        2.5 + reach
    )
    assert jackknife(lambda keep: 3.0, ["p", "p"]) == Estimate(
        3.0, None, None, "none: one prompt cannot be left out"
    )


def test_parts_lie_within_strata_and_nobody_is_alone():
    who = ["a", "b", "a", "c", "d", "e", "e"]
    first, second = parts(who, ["x", "x", "x", "y", "y", "z", "z"])
    # e, alone in z, joins x; −1 marks the other strata.
    assert first.tolist() == [0, 1, 0, -1, -1, 2, 2] and second.tolist() == [-1, -1, -1, 0, 1, -1, -1]
    (one,) = parts(range(120))
    assert one.tolist() == [n % 50 for n in range(120)]


def test_clusters_widen_the_interval_of_alike_pictures():
    rng = np.random.default_rng(0)
    centre = rng.normal(size=12).repeat(20)
    prompts, values = np.arange(12).repeat(20), centre + 0.1 * rng.normal(size=240)
    whole = clustered_mean(values, prompts)
    single = clustered_mean(values, range(240))
    assert whole.high - whole.low > 2 * (single.high - single.low)
    assert "12 prompts" in whole.interval


def test_one_prompt_has_no_interval_and_says_so():
    found = clustered_mean([1.0, 2.0], ["p", "p"])
    assert found.value == 1.5 and found.low is None and found.interval.startswith("none")


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [1.0]])
def test_no_silent_nan(values):
    with pytest.raises(ValueError, match="finite"):
        clustered_mean(values, ["p", "q"][: max(len(values), 2)] if values else [])


@pytest.mark.parametrize(
    ("prompts", "parts", "how"),
    [(50, 50, "95%, jackknife over 50 prompts"), (120, 50, "95%, jackknife over 50 groups of 120 prompts")],
)
def test_jackknife_leaves_out_at_most_fifty_parts(prompts, parts, how):
    values = np.random.default_rng(0).normal(size=(prompts, 3))
    asked = []

    def mean(keep):
        asked.append(keep.reshape(prompts, 3))
        return values[asked[-1]].mean()

    found = jackknife(mean, [f"p{n}" for n in range(prompts) for _ in range(3)])
    # Prompt n is in part n modulo 50: the jackknife's formula over the means without each part.
    without = [np.delete(values, np.arange(part, prompts, parts), axis=0).mean() for part in range(parts)]
    reach = stats.t.ppf(0.975, parts - 1) * math.sqrt(
        (parts - 1) / parts * np.sum((without - np.mean(without)) ** 2)
    )
    assert len(asked) == parts + 1 and found.interval == how
    assert (found.low, found.high) == pytest.approx((values.mean() - reach, values.mean() + reach))


def test_mean_of_independent_values_is_students():
    values = [3.0, 4.5, 1.0, 2.0]
    found = mean_with_t(values, "seeds")
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert found.value == 2.625 and (found.low, found.high) == pytest.approx(expected)
    assert found.interval == "95%, t over 4 seeds"
    assert mean_with_t([2.0], "seeds") == Estimate(2.0, None, None, "none: 1 of seeds")


def test_mean_of_estimates_by_hand():
    two = [Estimate(1.0, -2.0, 5.0, ""), Estimate(3.0, -1.0, 6.0, "")]
    alone, shared = mean_of(two), mean_of(two, independent=False)
    # Below they reach 3 and 4, above 4 and 3: 5 in squares, 7 at full size, half of it for the mean.
    assert (alone.low, alone.high) == pytest.approx((2 - 2.5, 2 + 2.5))
    assert (shared.low, shared.high) == pytest.approx((2 - 3.5, 2 + 3.5))
    assert alone.value == shared.value == 2
    assert alone.interval == "95%, mean of 2 independent estimates"
    assert shared.interval == "95%, mean of 2 estimates that share their reference"
    uneven = mean_of([Estimate(0.0, -1.0, 6.0, ""), Estimate(0.0, 0.0, 8.0, "")])
    assert (uneven.low, uneven.high) == pytest.approx((-0.5, 5.0))
    for missing in ((None, None), (0.0, None)):
        none = mean_of([two[0], Estimate(3.0, *missing, "none: one prompt")])
        assert none == Estimate(2.0, None, None, "none: a part has none")
    with pytest.raises(ValueError, match="no estimates"):
        mean_of([])


# --- density, coverage and variety ---


def test_vendi_counts_unlike_pictures():
    assert vendi(torch.eye(4)) == pytest.approx(4)
    assert vendi(torch.tensor([[1.0, 2.0, 3.0]]) * torch.tensor([[1.0], [2.0], [5.0]])) == pytest.approx(1)
    # Two alike and one at right angles: eigenvalues 2/3 and 1/3, whatever the lengths and the width.
    rows = torch.tensor([[1.0, 0], [3.0, 0], [0, 2.0]])
    expected = math.exp(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))
    assert vendi(rows) == pytest.approx(expected)
    assert vendi(torch.nn.functional.pad(rows, (0, 5))) == pytest.approx(expected)


def naive_density_and_coverage(x, y, k):
    """The definitions, picture by picture, with math.dist."""
    radius = [sorted(math.dist(a, b) for j, b in enumerate(y) if j != i)[k - 1] for i, a in enumerate(y)]
    inside = np.array([[math.dist(a, b) < r for b, r in zip(y, radius, strict=True)] for a in x])
    return inside.sum() / (k * len(x)), inside.any(0).mean()


def test_copies_of_real_pictures_lie_on_them():
    """A copy of a ball's k-th neighbour lies on its edge, so outside; by a matrix product some lie inside."""
    drawn, products = 0, 0
    for seed in range(5):
        y = np.random.default_rng(seed).normal(5, 1, (90, 64)).astype(np.float32)
        found = density_and_coverage(torch.tensor(y[:60]), torch.tensor(y), [f"p{n}" for n in range(60)], 5)
        assert [e.value for e in found] == pytest.approx(naive_density_and_coverage(y[:60], y, 5))
        real = torch.tensor(y).double()
        radius = torch.cdist(real, real, compute_mode="use_mm_for_euclid_dist").kthvalue(6, dim=1).values
        inside = torch.cdist(real[:60], real, compute_mode="use_mm_for_euclid_dist") < radius
        drawn, products = drawn + found[0].value, products + float(inside.sum()) / 300
    assert abs(products - drawn) > 0.01, "the product is no worse: this test shows nothing"


def test_density_and_coverage_by_recomputing_every_part():
    rng = np.random.default_rng(1)
    x, y, prompts = rng.normal(0.5, 0.7, (12, 3)), rng.normal(size=(9, 3)), np.repeat(list("abcd"), 3)
    found = density_and_coverage(torch.tensor(x), torch.tensor(y), prompts.tolist(), 2)
    by_prompt = np.array([naive_density_and_coverage(x[prompts != p], y, 2) for p in "abcd"])
    by_picture = np.array([naive_density_and_coverage(x, np.delete(y, j, 0), 2) for j in range(9)])
    values = naive_density_and_coverage(x, y, 2)
    for number, within in enumerate(((0, np.inf), (0, 1))):
        sides = [by_prompt[:, number], by_picture[:, number]]
        expected = from_jackknife(values[number], sides, "4 prompts and 9 pictures of the reference", within)
        assert found[number].low == pytest.approx(expected.low)
        assert found[number].high == pytest.approx(expected.high)
        assert found[number].interval == expected.interval


def test_balls_that_cannot_grow_stay_when_a_real_picture_goes():
    """Of k + 1 real pictures each has all the others for neighbours."""
    rng = np.random.default_rng(2)
    x, y, k = rng.normal(size=(6, 2)), rng.normal(size=(4, 2)), 3
    radius = [max(math.dist(a, b) for b in y) for a in y]
    inside = np.array([[math.dist(a, b) < r for b, r in zip(y, radius, strict=True)] for a in x])
    density, coverage = density_and_coverage(torch.tensor(x), torch.tensor(y), [*"aabbcc"], k)
    by_prompt = [np.delete(inside, [2 * n, 2 * n + 1], 0) for n in range(3)]
    by_picture = [np.delete(inside, n, 1) for n in range(4)]
    how = "3 prompts and 4 pictures of the reference"
    sides = [
        np.array([kept.sum() / (k * len(kept)) for kept in by_prompt]),
        np.array([kept.sum() / (k * len(kept)) for kept in by_picture]),
    ]
    assert density == from_jackknife(inside.sum() / (k * 6), sides, how, (0, np.inf))
    sides = [np.array([kept.any(0).mean() for kept in kind]) for kind in (by_prompt, by_picture)]
    assert coverage == from_jackknife(inside.any(0).mean(), sides, how, (0, 1))


def test_full_coverage_has_an_interval_within_its_range():
    y = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    density, coverage = density_and_coverage(y, y, [n // 5 for n in range(20)], 5)
    assert coverage.value == 1 == coverage.high and 0 < coverage.low < 0.9
    assert density.value == pytest.approx(1) and density.low < 1 < density.high
    alone, _ = density_and_coverage(y, y, ["p"] * 20, 5)
    assert alone.low is None and alone.interval.startswith("none")
    with pytest.raises(ValueError, match="5 real pictures, but their 5"):
        density_and_coverage(y, y[:5], range(20), 5)


def test_density_of_a_perfect_model_is_covered():
    """Leaving out prompts alone, as if the real pictures were fixed, covers .6 to .8 here."""
    hits = 0
    for seed in range(150):
        x, y = torch.randn(240, 6, generator=torch.Generator().manual_seed(seed)).split([200, 40])
        found, _ = density_and_coverage(x, y, [n // 20 for n in range(200)], 5)
        hits += found.low <= 1 <= found.high
    assert hits / 150 >= 0.92
