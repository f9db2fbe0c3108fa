"""Sets of prompts on the report, and where culture is lost: scores by category, era and prompt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline_steps.artifacts import BREAKDOWN, SAMPLES, SCORES, Row
from pipeline_steps.config import FULL_VARIANT, VARIANTS, ReportConfig
from pipeline_steps.drawing import labels
from pipeline_steps.drawing.page import Figure, ends, number
from pipeline_steps.drawing.pictures import thumbnail

TEST = "test prompts"
PROMPTS = 5
"""Prompts of a further set whose pictures are shown."""
WORST = 5
"""Prompts shown of those that score worst."""
FEW = 20
"""Fewer pictures than this are called few: their score says little."""
TELLING = ("attribute_accuracy", "clip_score")
"""Scores by which the worst prompts are found: the first that was measured."""


def set_of(path: Path) -> str:
    """Return whose file it is: a run's, by the folder runs/<name>, or the test prompts'."""
    parts = path.parts
    return parts[len(parts) - 1 - parts[::-1].index("runs") + 1] if "runs" in parts[-4:-1] else TEST


def of_set(path: Path, samples: Sequence[Path]) -> list[Path]:
    """Return the samples of the set of prompts that a file belongs to."""
    return [other for other in samples if set_of(other) == set_of(path)]


def present(samples: Sequence[Path]) -> list[str]:
    """Return variants in the paper's order."""
    stems = {path.stem for path in samples}
    return [variant for variant in VARIANTS if variant in stems]


def contact_sheet(
    samples: Sequence[Path], count: int, side: int, prompts: int | None = None
) -> list[dict[str, Any]]:
    """Return prompts with the first pictures of each variant, same prompt and seed in one cell.

    Args:
        samples: each variant's pictures.
        count: pictures of each prompt.
        side: of a picture in pixels.
        prompts: at most; None: all.
    """
    sheet: dict[str, dict[str, Any]] = {}
    for path in sorted(samples, key=lambda path: VARIANTS.index(path.stem)):
        for row in SAMPLES.rows(path):
            if row["index"] < count and (row["prompt_id"] in sheet or len(sheet) != prompts):
                prompt = sheet.setdefault(row["prompt_id"], {"prompt": row["prompt"], "cells": {}})
                cell = prompt["cells"].setdefault(row["index"], [])
                cell.append({"variant": path.stem, "uri": thumbnail(row["image"], side)})
    return list(sheet.values())


def by_score(found: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one line per score with a cell for each variant, and what the variants share."""
    lines: dict[str, dict[str, Row]] = {}
    for row in found:
        lines.setdefault(row["metric"], {})[row["variant"]] = row
    return [
        {
            "metric": metric,
            "cells": cells,
            "about": next(iter(cells.values())),
            "generated": sorted({row["generated"] for row in cells.values()}),
        }
        for metric, cells in sorted(lines.items())
    ]


def further(scores: Path, samples: Sequence[Path], config: ReportConfig) -> dict[str, Any]:
    """Return what the page shows of one culture's further set of prompts.

    Args:
        scores: its merged scores.
        samples: each variant's pictures of it.
        config: how many pictures, how large.
    """
    rows = SCORES.read(scores)
    return {
        "by_score": by_score(rows),
        "blank": {variant: count for variant, count in SCORES.note(scores)["blank"].items() if count},
        "variants": present(samples),
        "prompts": contact_sheet(samples, config.pictures_per_prompt, config.thumbnail, PROMPTS),
    }


def lost(breakdown: Path, samples: Sequence[Path], config: ReportConfig) -> dict[str, Any]:
    """Return what the page shows of where a culture's set of prompts is lost.

    Args:
        breakdown: its scores by category, era and prompt.
        samples: each variant's pictures of it.
        config: how many pictures, how large.
    """
    rows = BREAKDOWN.read(breakdown)
    variants = [name for name in VARIANTS if name in {row["variant"] for row in rows}]
    metrics = {row["metric"] for row in rows}
    known = [name for name in labels.SCORES if name in metrics] + sorted(metrics - labels.SCORES.keys())
    telling = next((name for name in TELLING if name in metrics), None)
    judged = FULL_VARIANT if FULL_VARIANT in variants else variants[-1] if variants else ""
    worst = _worst(rows, telling, judged) if telling else []
    return {
        "variants": variants,
        "tables": [_table(metric, rows, variants, judged) for metric in known],
        "telling": labels.SCORES[telling].name if telling else "",
        "judged": judged,
        "worst": [{**row, "pictures": found} for row, found in _shown(worst, samples, judged, config)],
    }


def _worst(rows: Sequence[Row], metric: str, variant: str) -> list[Row]:
    """Return the prompts that score worst, the worst first; where a score names no better end, the lowest."""
    label = labels.SCORES.get(metric)
    sign = -1 if label and label.better == "lower" else 1
    own = [row for row in rows if (row["by"], row["metric"], row["variant"]) == ("prompt", metric, variant)]
    return sorted(own, key=lambda row: (sign * row["value"], row["group"]))[:WORST]


def _table(metric: str, rows: Sequence[Row], variants: Sequence[str], judged: str) -> dict[str, Any]:
    """One score's categories, eras and worst prompts."""
    groups: dict[tuple[str, str], dict[str, Row]] = {}
    worst = {row["group"] for row in _worst(rows, metric, judged)}
    for row in rows:
        if row["metric"] == metric and (row["by"] != "prompt" or row["group"] in worst):
            groups.setdefault((row["by"], row["group"]), {})[row["variant"]] = row
    label = labels.SCORES.get(metric)
    better = f" ({label.better} is better)" if label and label.better else ""
    most = max((row["generated"] for found in groups.values() for row in found.values()), default=0)
    return {
        "name": (label.name if label else metric.replace("_", " ")) + better,
        "most": most,
        "rows": [
            {
                "by": by,
                "group": group,
                "pictures": min(row["generated"] for row in found.values()),
                "few": min(row["generated"] for row in found.values()) < FEW,
                "cells": [_cell(found.get(variant)) for variant in variants],
            }
            for (by, group), found in groups.items()
        ],
    }


def _cell(row: Row | None) -> Figure:
    return Figure("–") if row is None else Figure(number(row["value"]), ends(row))


def _shown(
    worst: Sequence[Row], samples: Sequence[Path], variant: str, config: ReportConfig
) -> list[tuple[Row, list[str]]]:
    """Return each of the worst prompts with its first pictures."""
    found: dict[str, list[str]] = {row["group"]: [] for row in worst}
    for path in samples:
        if path.stem == variant:
            for row in SAMPLES.rows(path):
                if row["prompt"] in found and row["index"] < config.pictures_per_prompt:
                    found[row["prompt"]].append(thumbnail(row["image"], config.thumbnail))
    return [(row, found[row["group"]]) for row in worst]
