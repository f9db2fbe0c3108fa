"""Tables 1 and 2 of the paper: its own figures beside ours."""

import csv
import io
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline_steps.artifacts import SCORES, STATISTICS, Row, write_text
from pipeline_steps.cli import run_step
from pipeline_steps.config import BASELINES
from pipeline_steps.drawing import paper
from pipeline_steps.drawing.labels import SURVEY_ITEMS, rounds_in_words
from pipeline_steps.errors import UserError
from pipeline_steps.method.estimate import Estimate, mean_of


class Column(NamedTuple):
    """A column of a table: where its score is found, and the factor the paper prints it with."""

    name: str
    prompts: str
    metric: str
    factor: int = 1


COLUMNS = {
    1: (
        Column("kid_ccub_x1000", "test", "kid", 1000),
        Column("kid_coco_x1000", "coco_prompts", "kid", 1000),
        Column("clip_score", "test", "clip_score"),
    ),
    2: (
        Column("clip_i", "train_prompts", "clip_i"),
        Column("dino", "train_prompts", "dino"),
        Column("dreamsim", "train_prompts", "dreamsim"),
        Column("div_train", "train_prompts", "div"),
        Column("div_test", "test", "div"),
        Column("clip_score", "test", "clip_score"),
    ),
}


def paper_table(
    number: Literal[1, 2],
    scores: list[Path],
    set_scores: list[Path],
    table: Path,
    statistics: Path | None = None,
) -> None:
    """Write a table of the paper, per culture and over all, and of the baselines that were scored as well.

    Rows of source "ours" carry 95% intervals, both sample sizes, extractor and weights' hash; the
    row of culture "all" is the mean of the cultures (its mean ranks are over all rankings); all share
    MS-COCO's pictures, so there the half-widths add up instead of cancelling in part. Rows of source
    "paper" carry the printed figures.
    Whose the mean ranks are stands in the column "survey": of simulated participants, of an earlier round.

    Args:
        number: 1 (KID, CLIPScore, survey) or 2 (likeness to training pictures, diversity).
        scores: scores on the test prompts, one file per culture and variant.
        set_scores: scores on MS-COCO's captions (Table 1) or on training captions (Table 2).
        table: CSV file to write.
        statistics: a survey's statistics (Table 1); None: its columns stay empty.

    Raises:
        UserError: a score is missing.
    """
    columns = COLUMNS[number]
    found = {"test": _read(scores), columns[1 if number == 1 else 0].prompts: _read(set_scores)}
    survey = _survey(statistics) if statistics else {}
    items = SURVEY_ITEMS.values() if number == 1 else ()
    names = [*(column.name for column in columns), *(item.column for item in items)]
    cultures = sorted({culture for culture, _, _ in found["test"]})
    scored = {variant for _, variant, _ in found["test"]}
    variants = [*paper.TABLES[number], *(variant for variant in BASELINES if variant in scored)]
    lines: list[dict[str, Any]] = []
    for culture in [*cultures, "all"]:
        for variant in variants:
            line: dict[str, Any] = {"source": "ours", "culture": culture, "variant": variant}
            for column in columns:
                line |= _cells(
                    column, found[column.prompts], cultures if culture == "all" else [culture], variant
                )
            lines.append(line | survey.get((culture, variant), {}))
    for variant, printed in paper.TABLES[number].items():
        cells = dict(zip(names, printed, strict=True))
        lines.append({"source": "paper", "culture": "all", "variant": variant, **cells})
    header = dict.fromkeys(key for line in lines for key in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(header), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(table, text.getvalue())


def _read(paths: list[Path]) -> dict[tuple[str, str, str], Row]:
    """Return scores by culture, variant and metric."""
    return {
        (str(SCORES.note(path)["culture"]), row["variant"], row["metric"]): row
        for path in paths
        for row in SCORES.rows(path)
    }


def _cells(column: Column, found: dict[tuple[str, str, str], Row], cultures: list[str], variant: str) -> Row:
    """One column's value, interval, sample sizes and network for one row of the table."""
    keys = [(culture, variant, column.metric) for culture in cultures]
    if missing := [key for key in keys if key not in found]:
        culture, variant, metric = missing[0]
        raise UserError(
            f"{culture}, {variant}: no score '{metric}' on {column.prompts}; see that score's log"
        )
    rows = [found[key] for key in keys]
    if len({row["weights_sha256"] for row in rows}) > 1:
        raise UserError(
            f"{column.metric}: cultures were scored by different networks; delete their scores and run again"
        )
    parts = [Estimate(row["value"], row["low"], row["high"], row["interval"]) for row in rows]
    shared = column.prompts == "coco_prompts"
    whole = mean_of(parts, independent=not shared) if len(parts) > 1 else parts[0]
    numbers = {"": whole.value, "_low": whole.low, "_high": whole.high}
    real = [row["reference"] or 0 for row in rows]
    return {
        **{column.name + end: "" if v is None else f"{v * column.factor:.6g}" for end, v in numbers.items()},
        f"{column.name}_interval": whole.interval,
        f"{column.name}_generated": sum(row["generated"] for row in rows),
        f"{column.name}_reference": (max(real) if shared else sum(real)) or "",
        f"{column.name}_extractor": rows[0]["extractor"],
        f"{column.name}_weights_sha256": rows[0]["weights_sha256"],
    }


def _survey(statistics: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Mean ranks by culture and variant, with interval and numbers of participants and rankings."""
    note = STATISTICS.note(statistics)
    people = "simulated participants" if note["simulated"] else "participants"
    rounds = note.get("rounds", {})
    asked = {culture: f"{people}, round {name}" for culture, name in rounds.items()}
    if rounds:
        asked["all"] = f"{people}, with earlier rounds: {rounds_in_words(rounds, {})}"
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in STATISTICS.rows(statistics):
        if row["statistic"] != "mean_rank" or row["item"] not in SURVEY_ITEMS:
            continue
        name = SURVEY_ITEMS[row["item"]].column
        line = found.setdefault(
            (row["culture"], row["subject"]), {"survey": asked.get(row["culture"], people)}
        )
        for end, value in (("", row["value"]), ("_low", row["low"]), ("_high", row["high"])):
            line[name + end] = "" if value is None else f"{value:.6g}"
        line[f"{name}_interval"] = row["interval"]
        line[f"{name}_participants"] = row["participants"]
        line[f"{name}_rankings"] = row["rankings"]
    return found


if __name__ == "__main__":
    run_step(paper_table)
