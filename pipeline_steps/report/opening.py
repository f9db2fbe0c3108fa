"""What the report opens with: the pictures before and after, three scores in words, and what is doubtful."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline_steps.artifacts import SAMPLES, Row
from pipeline_steps.drawing.labels import SCORES, many
from pipeline_steps.drawing.page import ends, number
from pipeline_steps.drawing.pictures import thumbnail
from pipeline_steps.method.estimate import FEW as WEAK

HEADLINES = 3
"""Scores told in words: the first of labels.SCORES that say which way is better and were measured."""
FEW = 50
"""Fewer generated or held-out pictures than this are called few: KID's interval is then wide."""
SIDE = 320
"""Longest side of the pictures before and after, in pixels."""

Scores = Mapping[tuple[str, str], Row]
"""By metric and variant."""


class Headline(NamedTuple):
    """A score before and after, in words.

    Attributes:
        metric: its name in labels.SCORES.
        name: what people read.
        before, after: the figures.
        ends: of both 95% intervals, or nothing.
        moved: "fell", "rose" or "stayed".
        better: whether that is the better way.
        told: whether the intervals are apart; none where one has none.
    """

    metric: str
    name: str
    before: str
    after: str
    ends: tuple[str, str]
    moved: str
    better: bool
    told: bool | None


def headlines(scores: Scores, before: str, after: str) -> list[Headline]:
    """Tell the first scores that both variants have."""
    both = [name for name in SCORES if (name, before) in scores and (name, after) in scores]
    return [
        _headline(name, scores[name, before], scores[name, after]) for name in both if SCORES[name].better
    ][:HEADLINES]


def _headline(metric: str, before: Row, after: Row) -> Headline:
    change = after["value"] - before["value"]
    measured = None not in (before["low"], after["low"])
    return Headline(
        metric=metric,
        name=SCORES[metric].heading,
        before=number(before["value"]),
        after=number(after["value"]),
        ends=(ends(before), ends(after)),
        moved="fell" if change < 0 else "rose" if change > 0 else "stayed",
        better=change > 0 if SCORES[metric].better == "higher" else change < 0,
        told=after["low"] > before["high"] or after["high"] < before["low"] if measured else None,
    )


def doubts(
    scores: Scores, found: Sequence[Headline], variant: str, copies: tuple[int, int] | None
) -> list[str]:
    """Say what a reader should not rely on.

    Args:
        scores: by metric and variant.
        found: what the page says in words.
        variant: the tuned one.
        copies: its pictures that are more like a training picture than any held-out picture is, and all
            of its pictures; none where nobody looked.
    """
    lines = []
    kid = scores.get(("kid", variant))
    for column, what in (("generated", "generated picture"), ("reference", "held-out picture")):
        if kid and kid[column] is not None and kid[column] < FEW:
            lines.append(f"KID rests on {many(kid[column], what)}; {FEW} or more serve better.")
    unsure = ", ".join(line.name for line in found if line.told is False)
    if unsure:
        lines.append(
            f"The intervals before and after overlap, so these pictures cannot tell for sure: {unsure}."
        )
    worse = ", ".join(line.name for line in found if line.told and not line.better)
    if worse:
        lines.append(f"Worse than before, beyond the intervals: {worse}.")
    if copies and copies[0]:
        which = f"{copies[0]} of {many(copies[1], 'generated picture')}"
        lines.append(
            f"More like a training picture than any held-out picture is: {which}. They may be "
            "learnt by heart; look at them below."
        )
    if any(WEAK in row["interval"] for (_, name), row in scores.items() if name == variant):
        lines.append(
            "Some intervals come from few prompts: they may hold the truth in 90 of 100 runs, not in 95."
        )
    return lines


def copied(generated: np.ndarray, held_out: np.ndarray) -> tuple[int, int]:
    """Count pictures more like a training picture than any held-out one is.

    Args:
        generated: cosine of each generated picture to the training picture nearest to it, shape (n,).
        held_out: the same of the held-out pictures, shape (m,), at least one.

    Returns:
        Their number, and n.
    """
    return int((generated > held_out.max()).sum()), len(generated)


def before_after(samples: Mapping[str, Path], before: str, after: str, count: int) -> list[dict[str, str]]:
    """The first picture of each prompt by both variants, of ``count`` prompts spread over all."""
    names = [
        row["prompt_id"] for row in SAMPLES.rows(samples[after], ["prompt_id", "index"]) if row["index"] == 0
    ]
    chosen = {names[len(names) * place // count] for place in range(count)} if names else set()
    shown: dict[str, dict[str, str]] = {}
    for name, variant in (("before", before), ("after", after)):
        for row in SAMPLES.rows(samples[variant]):
            if row["index"] == 0 and row["prompt_id"] in chosen:
                shown.setdefault(row["prompt_id"], {"prompt": row["prompt"]})[name] = thumbnail(
                    row["image"], SIDE
                )
    return [pair for pair in shown.values() if {"before", "after"} <= pair.keys()]
