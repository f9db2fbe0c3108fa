"""How often each printed 95% interval holds the truth, in made-up worlds where the truth is known.

OMP_NUM_THREADS=1 python -m benchmarks.coverage scores|survey [--trials 1000]

``scores``: features of 20 pictures of each of 3, 5 or 10 prompts against 40 real pictures, in 16
dimensions; a prompt explains a third of the variance. ``survey``: 5, 10 or 51 people of one culture,
or the paper's five cultures of 13, 11, 10, 9 and 7, rank 10 pages on four questions; people, prompts
and pages each have tastes of their own. The truth is known in closed form, or, for a figure that
depends on how many pictures or people there are, it is the mean of the figure over the trials.
"""

import itertools
from collections.abc import Iterator
from typing import Literal

import cyclopts
import numpy as np
import torch
from scipy import stats

from pipeline_steps.method.coverage import density_and_coverage, vendi
from pipeline_steps.method.estimate import Estimate, clustered_mean, jackknife, mean_of
from pipeline_steps.method.kid import gaussian_kernel, kid, kid_between, kid_difference, kid_subsets
from pipeline_steps.method.ranks import estimates

PROMPTS, PICTURES, REAL, WIDTH, NEIGHBOURS = (3, 5, 10), 20, 40, 16, 5
SHARED, SHIFT = 0.6, 0.25
"""Deviation of the prompts' centres (that of all pictures is 1); how far a model is off in each dimension."""
PEOPLE = ((5,), (10,), (51,), (13, 11, 10, 9, 7))
STRENGTHS, TASTE = np.array([0, 0.7, 1.0, 1.8]), {"person": 0.5, "prompt": 0.5, "page": 0.3}
PAGES, QUESTIONS, K = 10, 4, len(STRENGTHS)

Named = Iterator[tuple[str, Estimate | None, float | None]]
"""Name, estimate and truth of a figure (None: the mean over the trials)."""


def run(what: Literal["scores", "survey"], trials: int = 1000) -> None:
    """Print a table of coverage, as Markdown."""
    draw, sizes = (_scores, PROMPTS) if what == "scores" else (_survey, itertools.product(PEOPLE, PROMPTS))
    columns = {}
    for number, size in enumerate(sizes):
        rng = np.random.default_rng(number)
        head = f"{size} prompts" if what == "scores" else f"{' + '.join(map(str, size[0]))}; {size[1]}"
        columns[head] = _covered([list(draw(rng, size)) for _ in range(trials)])
    names = list(next(iter(columns.values())))
    table = [["95% interval of", *columns], *([name, *(c[name] for c in columns.values())] for name in names)]
    if what == "survey":
        table = [list(row) for row in zip(*table, strict=True)]
        table[0][0] = "people; prompts"
    table.insert(1, ["---"] * len(table[0]))
    print("\n".join(f"| {' | '.join(row)} |" for row in table))


def _covered(trials: list[list[tuple[str, Estimate | None, float | None]]]) -> dict[str, str]:
    """Share of the trials in which each interval holds the truth; in brackets mean and truth, where not 0."""
    found = {}
    for same in zip(*trials, strict=True):
        kept = [(e, truth) for _, e, truth in same if e is not None and e.low is not None]
        middle = np.mean([e.value for e, _ in kept])
        hits = [e.low <= (middle if truth is None else truth) <= e.high for e, truth in kept]
        name, _, truth = same[0]
        found[name] = (f"{np.mean(hits):.3f}" if hits else "–") + (
            f" ({middle:.2f}, {truth:.2f})" if truth else ""
        )
    return found


# --- scores ---


def _scores(rng: np.random.Generator, prompts: int) -> Named:
    """One run's scores of every kind."""
    clusters = np.repeat(np.arange(prompts), PICTURES).tolist()
    yield from _means(rng, prompts, clusters)
    centres = rng.normal(0, SHARED, (prompts, 1, WIDTH))
    own = rng.normal(0, (1 - SHARED**2) ** 0.5, (2, prompts, PICTURES, WIDTH))
    x, z = (torch.tensor((centres + o).reshape(-1, WIDTH)) for o in own)
    x, y = x + SHIFT, torch.tensor(rng.normal(size=(REAL, WIDTH)))
    usual, truth = kid(x, y, clusters), _true_kid()
    yield "`kid`, of its mean", usual, None
    yield "`kid`, of the models' distance", usual, truth
    yield "`kid_between`, of the models' distance", kid_between(x, y, clusters), truth
    yield "`kid_subsets` (± one deviation)", kid_subsets(x, y), None
    yield "`cmmd`, of its mean", kid(x, y, clusters, gaussian_kernel), None
    yield "difference of two `kid` (kid_power)", kid_difference(x, z, y, clusters), truth
    density, coverage = density_and_coverage(x, y, clusters, NEIGHBOURS)
    yield "`density`", density, None
    yield "`coverage`", coverage, None
    yield "`vendi`", jackknife(lambda keep: vendi(x[np.flatnonzero(keep)]), clusters, (1, np.inf)), None
    fixed = jackknife(
        lambda keep: density_and_coverage(x[np.flatnonzero(keep)], y, [0] * sum(keep), NEIGHBOURS)[0].value,
        clusters,
    )
    yield "*tried:* `density`, real pictures taken as fixed", fixed, None


def _means(rng: np.random.Generator, prompts: int, clusters: list[int]) -> Named:
    """Means over prompts, of five cultures, and shares; beside bootstraps over prompts."""
    noise = 0.3 * rng.normal(size=(5, prompts, PICTURES))
    even = rng.normal(size=(5, prompts, 1)) + noise
    cultures = [clustered_mean(values.ravel(), clusters) for values in even]
    yield "mean, prompts' means normal", cultures[0], 0
    yield (
        "mean, prompts' means skewed",
        clustered_mean((rng.gamma(1.5, size=(prompts, 1)) + noise[0]).ravel(), clusters),
        1.5,
    )
    for share in (0.5, 0.9, 0.99):
        hits = rng.random((prompts, PICTURES)) < rng.beta(10 * share, 10 * (1 - share), (prompts, 1))
        yield f"share, truth {share}", clustered_mean(hits.ravel(), clusters, (0, 1)), share
    yield "mean of five cultures (tables)", mean_of(cultures), 0
    # MS-COCO's pictures are shared: each culture is off by the same amount as well.
    shared = rng.normal()
    off = [Estimate(e.value + shared, e.low + shared - 1.96, e.high + shared + 1.96, "") for e in cultures]
    yield "the same, estimates that share their reference", mean_of(off, independent=False), 0
    for method in ("percentile", "BCa"):
        ends = stats.bootstrap(
            (even[0].mean(1),), np.mean, n_resamples=999, method=method, rng=rng
        ).confidence_interval
        tried = Estimate(float(even[0].mean()), float(ends.low), float(ends.high), "")
        yield f"*tried:* mean, {method} bootstrap over prompts", tried, 0


def _true_kid() -> float:
    """Squared MMD of N(a, I) and N(0, I) under (x·y/d + 1)³, from the moments of x·y."""

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        ab, aa, bb, d = a @ b, a @ a, b @ b, WIDTH
        second = d + aa + bb + ab**2
        third = ab**3 + 3 * ab * bb + 3 * ab * (aa + d + 2)
        return float(third / d**3 + 3 * second / d**2 + 3 * ab / d + 1)

    off, none = np.full(WIDTH, SHIFT), np.zeros(WIDTH)
    return mean(off, off) + mean(none, none) - 2 * mean(off, none)


# --- survey ---


def _survey(rng: np.random.Generator, size: tuple[tuple[int, ...], int]) -> Named:
    """One survey's figures."""
    groups, prompts = size
    rows = []
    for culture, people in enumerate(groups):
        liked = rng.normal(0, TASTE["prompt"], (prompts, K))
        page = liked[np.arange(2 * prompts) % prompts] + rng.normal(0, TASTE["page"], (2 * prompts, K))
        for person in range(people):
            seen = (np.arange(min(PAGES, 2 * prompts)) + person * PAGES) % (2 * prompts)
            seen = seen.repeat(QUESTIONS)
            score = STRENGTHS + rng.normal(0, TASTE["person"], K) + page[seen]
            ranks = (-(score + rng.gumbel(size=score.shape))).argsort(1).argsort(1) + 1
            rows += [
                (culture, (culture, person), (culture, p % prompts), (culture, p, n % QUESTIONS), r)
                for n, (p, r) in enumerate(zip(seen.tolist(), ranks, strict=True))
            ]
    culture, person, prompt, unit, ranks = zip(*rows, strict=True)
    given = np.array(ranks)
    shown = rng.permuted(given, axis=1)
    found = estimates(given, shown, person, prompt, unit, culture)
    names = {0: "mean rank, worst", K - 1: "mean rank, best", K: "mean rank by position"}
    names |= {2 * K: "Plackett–Luce worth, worst", 3 * K - 1: "Plackett–Luce worth, best"}
    names |= {3 * K: "win share, second over worst", 3 * K + 3: "win share, best over worst"}
    names |= {len(found) - 2: "Kendall's W", len(found) - 1: "Krippendorff's α"}
    for number, name in names.items():
        yield name, found[number], None


if __name__ == "__main__":
    app = cyclopts.App()
    app.default(run)
    app()
