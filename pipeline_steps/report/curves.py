"""Curves of the embedded study: scores of every variant against updates and against seconds."""

import csv
import io
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import Any

from pipeline_steps.artifacts import SCORES, write_text
from pipeline_steps.cli import run_step
from pipeline_steps.config import LABELS
from pipeline_steps.drawing import charts, labels, page

METRICS = ("attribute_accuracy", "generic_accuracy", "kid", "div", "nearest_train")
"""Scores drawn, in this order."""


def curves(
    scores: list[Path],
    updates: list[int],
    benchmarks: list[Path],
    chart: Path,
    table: Path,
    template: Path = page.TEMPLATES / "curves.html",
    style: Path = page.STYLE,
) -> None:
    """Draw each score twice: variants that cost more per update are dearer than they look.

    Seconds are the clock time of the training job, start-up included, as Snakemake took it: run the
    jobs one by one on a machine that does nothing else.

    Args:
        scores: one file per culture, length of training and variant, ``…/{variant}.parquet``.
        updates: the length, in the same order.
        benchmarks: Snakemake's benchmark file of the training, in the same order.
        chart: HTML file to write.
        table: CSV file to write: variant, updates, seconds, cultures and the scores, mean over cultures.
        template: Jinja template of the page.
        style: its CSS.
    """
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for path, length, benchmark in zip(scores, updates, benchmarks, strict=True):
        with benchmark.open(encoding="utf-8", newline="") as file:
            seconds = float(next(csv.DictReader(file, delimiter="\t"))["s"])
        values = {row["metric"]: row["value"] for row in SCORES.rows(path)}
        point = {name: values[name] for name in METRICS if name in values}
        found.setdefault((path.stem, length), []).append({"seconds": seconds, **point})
    rows: list[dict[str, Any]] = [
        {"variant": variant, "updates": length, "cultures": len(points)}
        | {name: mean(_of(points, name)) for name in ("seconds", *METRICS) if _of(points, name)}
        for (variant, length), points in sorted(found.items())
    ]
    text = io.StringIO()
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_text(table, text.getvalue())

    drawn = []
    for name in METRICS:
        scored = [row for row in rows if name in row]
        for axis in ("updates", "seconds") if scored else ():
            series = {
                LABELS[variant]: [(row[axis], row[name]) for row in scored if row["variant"] == variant]
                for variant in dict.fromkeys(row["variant"] for row in scored)
            }
            drawn.append(charts.line_chart(f"{labels.SCORES[name].heading}, by {axis}", series, axis, ""))
    write_text(chart, page.render(template, style, charts=drawn))


def _of(points: list[dict[str, float]], name: str) -> list[float]:
    """What the cultures have of a score: without an oracle, or in a culture without it, there is none."""
    return [point[name] for point in points if name in point]


if __name__ == "__main__":
    run_step(curves)
