"""One table of scores from one file per variant."""

from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import SCORES
from pipeline_steps.cli import run_step


def merge_scores(parts: list[Path], scores: Path) -> None:
    """Merge the score tables of a culture's variants.

    Args:
        parts: one table per variant, all of the same pictures.
        scores: table to write, sorted by variant and metric.
    """
    origin = artifacts.same_origin(*((SCORES, part) for part in parts))
    rows = [row for part in parts for row in SCORES.rows(part)]
    SCORES.write(scores, sorted(rows, key=lambda row: (row["variant"], row["metric"])), origin)


if __name__ == "__main__":
    run_step(merge_scores)
