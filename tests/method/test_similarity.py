"""CLIPScore, cosines, DIV and the clustered bootstrap against hand calculations."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline_steps.method.estimate import clustered_mean, jackknife
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


def test_clustered_mean_by_hand():
    # Two clusters: a resample is {a,a}, {a,b} or {b,b}; its mean is 1, 3 or 4, weighted by pictures.
    found = clustered_mean([1, 4, 4], ["a", "b", "b"], 4000, seed=0)
    assert found.value == 3
    assert (found.low, found.high) == (1, 4)


def test_clusters_widen_the_interval_of_alike_pictures():
    rng = np.random.default_rng(0)
    centre = rng.normal(size=12).repeat(20)
    prompts, values = np.arange(12).repeat(20), centre + 0.1 * rng.normal(size=240)
    whole = clustered_mean(values, prompts, 2000, seed=1)
    single = clustered_mean(values, range(240), 2000, seed=1)
    assert whole.high - whole.low > 2 * (single.high - single.low)
    assert "12 prompts" in whole.interval


def test_one_prompt_has_no_interval_and_says_so():
    found = clustered_mean([1.0, 2.0], ["p", "p"], 100, seed=0)
    assert found.low is None and found.interval.startswith("none")


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [1.0]])
def test_no_silent_nan(values):
    with pytest.raises(ValueError, match="finite"):
        clustered_mean(values, ["p", "q"][: max(len(values), 2)] if values else [], 100, seed=0)


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
