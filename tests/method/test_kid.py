"""KID against independent computations: naive float64 loops, and torch-fidelity on the same features."""

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline_steps.method import kid as module
from pipeline_steps.method.kid import (
    gaussian_kernel,
    kid,
    kid_between,
    kid_difference,
    kid_subsets,
    ordering_power,
    polynomial_kernel,
)


def naive_kid(x, y):
    """The definition, pair by pair."""

    def k(a, b):
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / len(a) + 1.0) ** 3

    n, m = len(x), len(y)
    return (
        sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        + sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
        - 2 * sum(k(a, b) for a in x for b in y) / (n * m)
    )


def features(count, width=24, shift=0.0, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(shift, 1, (count, width)).astype(np.float32))


@pytest.mark.parametrize(("n", "m", "shift"), [(2, 2, 0.0), (17, 9, 0.3), (40, 31, 1.5)])
def test_agrees_with_the_definition(n, m, shift):
    x, y = features(n, shift=shift), features(m, seed=1)
    assert kid(x, y).value == pytest.approx(naive_kid(x.tolist(), y.tolist()), abs=1e-6)


def test_agrees_with_torch_fidelity_where_one_subset_is_everything():
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = features(30, 2048, 0.2).abs(), features(30, 2048, seed=1).abs()
    theirs = kid_features_to_metric(x.double(), y.double(), kid_subsets=1, kid_subset_size=30, verbose=False)
    assert kid(x, y).value == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-6)


def test_blocks_change_nothing(monkeypatch):
    x, y = features(33, shift=0.4), features(21, seed=1)
    groups = [i // 5 for i in range(33)]
    whole = kid(x, y, groups)
    monkeypatch.setattr(module, "BLOCK", 4)
    assert kid(x, y, groups).value == pytest.approx(whole.value, abs=1e-12)
    assert kid(x, y, groups).low == pytest.approx(whole.low, abs=1e-12)


def test_jackknife_by_recomputing_every_part():
    x, y = features(13, shift=0.5), features(8, seed=1)
    groups = ["a"] * 4 + ["b"] * 2 + ["c"] * 7
    keep = np.array(groups)
    by_prompt = [naive_kid(x[keep != g].tolist(), y.tolist()) for g in "abc"]
    by_picture = [naive_kid(x.tolist(), torch.cat([y[:j], y[j + 1 :]]).tolist()) for j in range(8)]
    parts = [(len(v) - 1) / len(v) * sum((v - np.mean(v)) ** 2) for v in (by_prompt, by_picture)]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 7)
    reach = stats.t.ppf(0.975, freedom) * sum(parts) ** 0.5
    found = kid(x, y, groups)
    assert found.high - found.value == pytest.approx(reach, rel=1e-6)
    assert found.value - found.low == pytest.approx(reach, rel=1e-6)
    assert "3 prompts" in found.interval and "8 pictures" in found.interval


def test_difference_by_recomputing_every_part():
    x, z, y = features(12, shift=0.5), features(12, shift=0.2, seed=3), features(7, seed=1)
    groups = np.repeat(["a", "b", "c", "d"], 3)

    def gap(rows, columns):
        return naive_kid(x[rows].tolist(), y[columns].tolist()) - naive_kid(
            z[rows].tolist(), y[columns].tolist()
        )

    everything, columns = np.arange(12), np.arange(7)
    by_prompt = [gap(np.flatnonzero(groups != g), columns) for g in "abcd"]
    by_picture = [gap(everything, np.delete(columns, j)) for j in range(7)]
    parts = [(len(v) - 1) / len(v) * sum((v - np.mean(v)) ** 2) for v in (by_prompt, by_picture)]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 6)
    found = kid_difference(x, z, y, groups)
    assert found.value == pytest.approx(gap(everything, columns), abs=1e-6)
    reach = stats.t.ppf(0.975, freedom) * sum(parts) ** 0.5
    assert (found.high - found.low) / 2 == pytest.approx(reach, rel=1e-6)
    with pytest.raises(ValueError, match="same prompts"):
        kid_difference(x, z[:11], y)


def naive_between(x, y, groups):
    """The definition, pair by pair, over pairs of different prompts."""
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if groups[i] != groups[j]]
    k = polynomial_kernel(torch.tensor(x).double(), torch.tensor(x).double()).numpy()
    # Of the pairs i ≠ j only the mean within x changes.
    n = len(x)
    return naive_kid(x, y) - (k.sum() - k.trace()) / (n * (n - 1)) + np.mean([k[i, j] for i, j in pairs])


def test_between_prompts_by_recomputing_every_part():
    x, y = features(13, shift=0.5), features(6, seed=1)
    groups = np.array(["a"] * 4 + ["b"] * 3 + ["c"] * 5 + ["d"])
    found = kid_between(x, y, groups.tolist())
    assert found.value == pytest.approx(naive_between(x.tolist(), y.tolist(), groups), abs=1e-5)
    sides = (
        [naive_between(x[groups != g].tolist(), y.tolist(), groups[groups != g]) for g in "abcd"],
        [naive_between(x.tolist(), np.delete(y, j, 0).tolist(), groups) for j in range(6)],
    )
    variances = [(len(v) - 1) * np.var(v) for v in sides]
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 3 + variances[1] ** 2 / 5)
    reach = stats.t.ppf(0.975, freedom) * sum(variances) ** 0.5
    assert (found.high - found.low) / 2 == pytest.approx(reach, rel=1e-4)
    assert "pairs of different prompts only" in found.interval


def test_between_prompts_needs_two_and_an_interval_three():
    with pytest.raises(ValueError, match="needs two"):
        kid_between(features(4), features(5, seed=1), ["p"] * 4)
    assert kid_between(features(4), features(5, seed=1), ["p", "p", "q", "q"]).low is None


def test_pairs_of_one_prompt_raise_kid_and_not_kid_between():
    """Whatever the prompts, generated pictures are distributed as the real ones: the truth is 0."""
    rng = np.random.default_rng(0)
    groups = np.repeat(range(10), 20).tolist()
    usual, between = [], []
    for _ in range(60):
        x = torch.tensor(rng.normal(0, 0.8, (10, 1, 8)) + rng.normal(0, 0.6, (10, 20, 8))).reshape(200, 8)
        y = torch.tensor(rng.normal(size=(40, 8)))
        usual.append(kid(x, y, groups).value)
        between.append(kid_between(x, y, groups).value)
    error = np.std(between) / 60**0.5
    assert abs(np.mean(between)) < 3 * error < np.mean(usual)
    assert "raised by pairs of one prompt" in kid(x, y, groups).interval
    assert "pairs of one prompt" not in kid(x, y).interval


def test_models_without_a_difference_are_ordered_by_a_coin():
    x, y = features(40, shift=0.5), features(30, seed=1)
    assert ordering_power(x, x, y, [5, 20], 50, seed=0) == [(5, 0.5), (20, 0.5)]
    alike = ordering_power(x[:20], x[20:], y, [3], 400, seed=0)
    assert 0.4 < alike[0][1] < 0.9
    assert ordering_power(x[:20] + 3, x[20:], y, [5], 50, seed=0) == [(5, 1.0)]


def test_power_is_the_share_of_samples_in_the_order_of_the_whole():
    x, z, y = features(9, 4, 0.1), features(9, 4, 0.2, seed=3), features(6, 4, seed=1)
    random = np.random.default_rng(11)

    def first_is_worse(rows, columns):
        return naive_kid(x[rows].tolist(), y[columns].tolist()) > naive_kid(
            z[rows].tolist(), y[columns].tolist()
        )

    whole, expected = first_is_worse(np.arange(9), np.arange(6)), []
    for size in (3, 7):  # of the six real pictures at most six are drawn
        drawn = [
            (random.choice(9, size, replace=False), random.choice(6, min(size, 6), replace=False))
            for _ in range(20)
        ]
        expected.append((size, np.mean([first_is_worse(*sample) == whole for sample in drawn])))
    assert 0 < expected[0][1] < 1, "every sample agrees: this test shows nothing"
    assert ordering_power(x, z, y, [3, 7], 20, seed=11) == expected


@pytest.mark.parametrize(
    ("groups", "who"),
    [("aaabb", "2 prompts"), ("aaaab", "5 pictures"), ("abcde", "5 prompts"), (None, "5 pictures")],
)
def test_what_is_left_out_leaves_a_pair(groups, who):
    x, y = features(5, shift=0.5), features(3, seed=1)
    found = kid(x, y, groups)
    assert found.low is not None
    assert f"jackknife over {who} and 3 pictures of the reference" in found.interval
    assert ("; raised by pairs of one prompt" in found.interval) == (groups in ("aaabb", "aaaab"))


def test_interval_covers_the_true_value():
    """The true KID of two unit normals is 0; a 95% interval should miss it about once in twenty."""
    missed = 0
    for trial in range(100):
        found = kid(features(60, seed=2 * trial), features(60, seed=2 * trial + 1))
        missed += not found.low <= 0 <= found.high
    assert missed <= 12


def test_one_prompt_falls_back_to_pictures_and_two_pictures_to_no_interval():
    assert "20 pictures" in kid(features(20), features(9, seed=1), ["only"] * 20).interval
    bare = kid(features(2), features(2, seed=1))
    assert bare.low is None and bare.interval.startswith("none")


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (features(1), features(9), "at least 2"),
        (features(9), features(0), "at least 2"),
        (features(9), features(9, 12), "width 24 and 12"),
        (features(9) * float("nan"), features(9), "not finite"),
    ],
)
def test_refuses_what_would_give_nan(x, y, words):
    with pytest.raises(ValueError, match=words):
        kid(x, y)


def test_subsets_need_enough_pictures():
    x, y = features(40, shift=0.5), features(30, seed=1)
    assert kid_subsets(features(3), y) is None
    found = kid_subsets(x, y)
    assert "subsets of 15" in found.interval
    assert found.low < kid(x, y).value < found.high


def test_kernel_by_hand():
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    assert polynomial_kernel(x, y).item() == pytest.approx((11 / 2 + 1) ** 3)


def test_gaussian_kernel_is_of_width_ten_on_the_unit_sphere():
    x, y = features(3, 5), features(4, 5, seed=1)
    unit = [[row / np.linalg.norm(row) for row in rows.double().numpy()] for rows in (x, y)]
    expected = [[np.exp(-((a - b) ** 2).sum() / (2 * 10**2)) for b in unit[1]] for a in unit[0]]
    np.testing.assert_allclose(gaussian_kernel(x.double(), y.double()).numpy(), expected, rtol=1e-12)


def test_subsets_are_said_with_one_deviation_to_both_sides(monkeypatch):
    monkeypatch.setattr(module, "LARGEST_SUBSET", 8)
    found = kid_subsets(features(20, 4, 0.5), features(18, 4, seed=1))
    assert found.interval == "± one standard deviation over 100 subsets of 8, which is no 95% interval"
    assert found.high - found.value == pytest.approx(found.value - found.low) and found.low < found.high
