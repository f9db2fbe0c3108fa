"""Fig. 7: KID against the length of training, by feature extractor and by gradient recording."""

from pathlib import Path

from pipeline_steps.artifacts import SCORES, write_text
from pipeline_steps.cli import run_step
from pipeline_steps.config import FIG7
from pipeline_steps.drawing import charts
from pipeline_steps.method.estimate import Estimate, mean_of


def fig7(scores: list[Path], chart: Path, table: Path) -> None:
    """Draw the mean over cultures of each run's KID.

    Args:
        scores: one file per culture and run, ``…/runs/fig7_{extractor}_{record}_{updates}/scores/….parquet``.
        chart: SVG file to write.
        table: CSV file to write: extractor, record, updates, kid_x1000, low, high, cultures.
    """
    found: dict[tuple[str, str, int], list[Estimate]] = {}
    for path in scores:
        for row in SCORES.rows(path):
            if row["metric"] == "kid":
                run = path.parent.parent.name.removeprefix(FIG7)
                extractor, record, length = run.rsplit("_", 2)
                estimate = Estimate(row["value"], row["low"], row["high"], row["interval"])
                found.setdefault((extractor, record, int(length)), []).append(estimate)
    lines = ["extractor,record,updates,kid_x1000,low,high,cultures"]
    series: dict[str, list[tuple[float, float]]] = {}
    bands: dict[str, list[tuple[float, float, float]]] = {}
    for (extractor, record, updates), estimates in sorted(found.items()):
        whole = mean_of(estimates)
        name = f"{extractor}, {record}"
        series.setdefault(name, []).append((updates, whole.value * 1000))
        ends = ","
        if whole.low is not None and whole.high is not None:
            ends = f"{whole.low * 1000:.6g},{whole.high * 1000:.6g}"
            bands.setdefault(name, []).append((updates, whole.low * 1000, whole.high * 1000))
        lines.append(f"{extractor},{record},{updates},{whole.value * 1000:.6g},{ends},{len(estimates)}")
    title = "KID × 10³ to the held-out pictures, by feature extractor and recorded step"
    write_text(chart, charts.line_chart(title, series, "updates", "KID × 10³", bands))
    write_text(table, "\n".join(lines) + "\n")


if __name__ == "__main__":
    run_step(fig7)
