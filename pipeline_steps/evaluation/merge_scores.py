"""One table of scores from one file per variant."""

from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import SCORES
from pipeline_steps.cli import run_step


def merge_scores(parts: list[Path], scores: Path) -> None:
    """Merge the score tables of a culture's variants.

    Args:
        parts: one table per variant, all of the same pictures.
        scores: table to write, sorted by variant and metric; its note counts each variant's blank
            pictures, which were not scored.
    """
    origin = artifacts.same_origin(*((SCORES, part) for part in parts))
    rows, blank = [], {}
    for part in parts:
        found = SCORES.read(part)
        rows += found
        blank[found[0]["variant"]] = SCORES.note(part)["blank"]
    rows.sort(key=lambda row: (row["variant"], row["metric"]))
    SCORES.write(scores, rows, origin, {"blank": blank})


if __name__ == "__main__":
    run_step(merge_scores)
