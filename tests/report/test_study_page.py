"""The page of the study that was run, against its scores."""

import re
from pathlib import Path

import pandas as pd
import pytest
import scipy.stats

from pipeline_steps.config import LABELS
from pipeline_steps.drawing import labels

DOCS = Path(__file__).parents[2] / "docs"
VARIANTS = {label: variant for variant, label in LABELS.items()}
METRICS = {label.name: metric for metric, label in labels.SCORES.items()}


def table(title: str) -> list[list[str]]:
    """The cells of one of the page's tables, its head first."""
    page = (DOCS / "embedded_world.md").read_text(encoding="utf-8")
    lines = page.split(f"### {title}\n")[1].split("\n### ")[0].splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


def of_cultures(values: pd.Series) -> tuple[float, float, float]:
    """Mean over the cultures of the means over their seeds, with Student's t over the cultures."""
    means = values.groupby("culture").mean()
    half = scipy.stats.t.ppf(0.975, len(means) - 1) * means.sem()
    return means.mean(), means.mean() - half, means.mean() + half


@pytest.mark.parametrize(
    "title",
    [
        "All cultures",
        "Differences, seed by seed",
        "Controls",
        "SCoFT+MPC less each control, seed by seed",
        "Controls less one another, seed by seed",
    ],
)
def test_the_pages_tables_are_those_of_its_scores(title):
    scores = pd.read_csv(DOCS / "embedded_world_values.csv", keep_default_na=False)
    scores = scores.set_index(["name", "metric", "culture", "run"])["value"].sort_index()
    head, *rows = table(title)
    checked = 0
    for name, *cells in rows:
        for column, cell in zip(head[1:], cells, strict=True):
            pair = [VARIANTS.get(part, part) for part in column.split(" − ")]
            found = [scores[part, METRICS[name]] for part in pair]
            value = found[0] if len(found) == 1 else (found[0] - found[1]).dropna()
            written = [float(number) for number in re.findall(r"-?\d+\.\d+", cell)]
            assert written == pytest.approx(of_cultures(value), abs=6e-4), (name, column)
            checked += 1
    assert checked >= 21
