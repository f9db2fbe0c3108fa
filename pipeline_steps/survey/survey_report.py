"""The survey's result on one page, in plain words."""

import ast
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_steps.artifacts import (
    ANSWERS,
    CONSENSUS,
    POWER,
    REJECTED,
    SKILLS,
    STATISTICS,
    VOTES,
    Row,
    write_text,
)
from pipeline_steps.cli import run_step
from pipeline_steps.config import LABELS, SHORT, VARIANTS, Variant
from pipeline_steps.drawing import page, paper
from pipeline_steps.drawing.labels import SURVEY_ITEMS, rounds_in_words
from pipeline_steps.drawing.page import Figure
from pipeline_steps.drawing.ranks import violins_apart
from pipeline_steps.method.estimate import FEW as WEAK

ALL = "all"
EVERYBODY = "all cultures"
FEW = 5
"""Fewer people than this have no interval: too few differ to say how far others would."""
SHOWN = 100
"""Rejected answers listed on the page."""
METHODS = {"mmsr_vote": "MMSR+Vote", "majority": "plain majority", "plackett_luce": "Plackett–Luce"}

Figures = Mapping[tuple[str, str, str, str], Row]
"""Statistics by culture, item, statistic and subject."""
Order = list[tuple[float, str]]
"""Place and variant, the best first."""
Orders = Mapping[tuple[str, str], Order]
"""By culture and item."""


def survey_report(
    answers: Path,
    rejected: Path,
    votes: Path,
    consensus: Path,
    skills: Path,
    statistics: Path,
    report: Path,
    power: Path | None = None,
    cultures: Sequence[str] = (),
    names: Sequence[str] = (),
    template: Path = page.TEMPLATES / "survey.html",
    style: Path = page.STYLE,
) -> None:
    """Write the page: the order people agree on, how sure it is, and what it does not say.

    Args:
        answers: checked answers.
        rejected: what was left out.
        votes: weighted votes.
        consensus: orders.
        skills: weights of the participants.
        statistics: mean ranks and the rest.
        report: HTML file to write, with its figures inside.
        power: simulated surveys that say how many people are needed.
        cultures: as they are called in the configuration.
        names: of these cultures, as people write them.
        template: Jinja template of the page.
        style: its CSS.
    """
    note = STATISTICS.note(statistics)
    figures = {
        (row["culture"], row["item"], row["statistic"], row["subject"]): row
        for row in STATISTICS.rows(statistics)
    }
    called = {ALL: EVERYBODY} | dict(zip(cultures, names, strict=True))
    asked = sorted({culture for culture, *_ in figures} - {ALL})
    called = {culture: culture for culture in asked} | called
    variants = [name for name in VARIANTS if (ALL, ALL, "mean_rank", name) in figures]
    orders = _orders(CONSENSUS.rows(consensus))
    text = page.render(
        template,
        style,
        note=note,
        earlier=rounds_in_words(note.get("rounds", {}), called),
        cultures=[called[culture] for culture in asked],
        few=FEW,
        admission=_admission(ANSWERS.note(answers)),
        variants=variants,
        headings=[item.heading for item in SURVEY_ITEMS.values()],
        short=_short(figures, orders, asked),
        orders=_consensus(orders, asked, called),
        heat=_heat(figures, variants),
        who=_who(figures, asked, called),
        weak=_weak(figures.values(), called),
        trust=_trust(VOTES.read(votes), SKILLS.rows(skills)),
        ranks=_ranks(figures, variants),
        violins=violins_apart({**row, "culture": called[row["culture"]]} for row in ANSWERS.rows(answers)),
        wins=_wins(figures, variants),
        by_culture=_by_culture(figures, variants, asked),
        agreement=[(called[culture], *_agreement(figures, culture)) for culture in (ALL, *asked)],
        positions=_positions(figures),
        worths=_worths(figures),
        rejected=_rejected(rejected),
        power=_power(power) if power else None,
    )
    write_text(report, text)


def _figure(row: Row | None, form: str = ".2f", scale: float = 1) -> Figure:
    """A figure and its interval, or a dash; few people have no interval that could be relied on."""
    if row is None or row["value"] is None:
        return Figure("–")
    if row["participants"] < FEW:
        return Figure(format(row["value"] * scale, form))
    value, low, high = (
        None if end is None else format(end * scale, form) for end in (row["value"], row["low"], row["high"])
    )
    return Figure(str(value), "" if low is None else f"({low}–{high})")


def _p(row: Row | None) -> Figure:
    if row is None or row["value"] is None:
        return Figure("–")
    return Figure("< 0.001" if row["value"] < 0.001 else f"{row['value']:.3f}")


def _orders(rows: Iterable[Row]) -> Orders:
    """The order of the variants in each scope."""
    orders: dict[tuple[str, str], Order] = {}
    for row in rows:
        orders.setdefault((row["culture"], row["item"]), []).append((row["place"], row["variant"]))
    return {scope: sorted(order) for scope, order in orders.items()}


class Chip(NamedTuple):
    """A variant in an order, and whether it ties with the one before."""

    variant: str
    tied: bool


def _chips(order: Order) -> list[Chip]:
    before = [None, *(place for place, _ in order)]
    return [Chip(variant, place == last) for last, (place, variant) in zip(before, order, strict=False)]


def _weak(rows: Iterable[Row], called: Mapping[str, str]) -> list[str]:
    """Name the cultures whose intervals rest on few people or prompts."""
    found = {row["culture"] for row in rows if WEAK in row["interval"]}
    return sorted(called[culture] for culture in found)


def _short(figures: Figures, orders: Orders, cultures: list[str]) -> dict[str, Any]:
    """The result in a sentence."""
    whole = orders[ALL, ALL]
    best = [variant for place, variant in whole if place == whole[0][0]]
    rank = figures[ALL, ALL, "mean_rank", best[0]]
    return {
        "people": rank["participants"],
        "rankings": rank["rankings"],
        "chips": _chips(whole),
        "best": [(LABELS[name], _figure(figures[ALL, ALL, "mean_rank", name])) for name in best],
        "agreeing": sum(orders[culture, ALL] == whole for culture in cultures),
    }


def _admission(note: Mapping[str, Any]) -> dict[str, Any]:
    """Whether only codes that were handed out were let in, and how many people began within a minute."""
    return {"codes": bool(note.get("codes")), "together": int(note.get("together", 0))}


def _consensus(orders: Orders, cultures: list[str], called: Mapping[str, str]) -> dict[str, Any]:
    """A row for each culture with the order of each question, and whether the paper found it overall."""
    questions = {ALL: "All four questions"} | {name: item.heading for name, item in SURVEY_ITEMS.items()}

    def cell(culture: str, item: str) -> dict[str, Any] | None:
        found = orders.get((culture, item))
        return {"chips": _chips(found), "paper": _as_printed(found)} if found else None

    rows = [
        {"culture": called[culture], "cells": [cell(culture, item) for item in questions]}
        for culture in (ALL, *cultures)
    ]
    printed = " › ".join(SHORT[variant] for variant in _printed(paper.RANKS))
    return {"questions": list(questions.values()), "rows": rows, "paper": printed}


def _printed(variants: Iterable[Variant]) -> list[Variant]:
    """Variants in the order that the paper found, those that it asked about."""
    return sorted((name for name in variants if name in paper.RANKS), key=lambda name: sum(paper.RANKS[name]))


def _as_printed(order: Order) -> bool:
    """Whether the variants that the paper asked about stand in its order, without ties."""
    ours = [(place, variant) for place, variant in order if variant in paper.RANKS]
    places = {place for place, _ in ours}
    return len(places) == len(ours) > 1 and [v for _, v in ours] == _printed(v for _, v in ours)


def _heat(figures: Figures, variants: Sequence[Variant]) -> dict[str, Any]:
    """Shares of wins of each variant over each other one, the likely best first."""
    known = {
        pair: row
        for (*scope, kind, pair), row in figures.items()
        if scope == [ALL, ALL] and kind == "win_share"
    }
    order = variants[::-1]

    def share(one: Variant, other: Variant) -> dict[str, Any] | None:
        row = known.get(f"{one} over {other}")
        if row is None and (turned := known.get(f"{other} over {one}")):
            ends = {"low": _rest(turned["high"]), "high": _rest(turned["low"])}
            row = {**turned, **ends, "value": _rest(turned["value"])}
        if row is None or row["value"] is None:
            return None
        text, interval = _figure(row, ".0f", 100)
        # Half a colour at most: the figure must stay legible on it.
        return {
            "text": text,
            "interval": interval,
            "value": 100 * row["value"],
            "tint": round(abs(row["value"] - 0.5) * 100),
        }

    return {
        "heads": [LABELS[variant] for variant in order],
        "rows": [{"variant": one, "shares": [share(one, other) for other in order]} for one in order],
    }


def _rest(share: float | None) -> float | None:
    return None if share is None else 1 - share


def _who(figures: Figures, cultures: list[str], called: Mapping[str, str]) -> list[dict[str, Any]]:
    """How many people of each culture answered, and how much."""
    rows = {culture: figures[culture, ALL, "kendall_w", "participants"] for culture in cultures}
    return [
        {"name": called[culture], "people": row["participants"], "rankings": row["rankings"]}
        for culture, row in rows.items()
    ]


def _trust(votes: Sequence[Row], skills: Iterable[Row]) -> dict[str, Any]:
    """How many participants MMSR could weigh, and how many decisions fell without it."""
    plain = [row for row in votes if row["rule"] == "majority"]
    overall = [row["skill"] for row in skills if row["level"] == "overall" and not row["reason"]]
    return {
        "people": len(overall),
        "idle": sum(skill <= 0 for skill in overall),
        "votes": len(votes),
        "plain": len(plain),
        "reasons": sorted({row["reason"] for row in plain}),
    }


def _ranks(figures: Figures, variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """Mean ranks by item, ours and the paper's."""
    return [
        {
            "variant": variant,
            "ours": [_figure(figures.get((ALL, item, "mean_rank", variant))) for item in SURVEY_ITEMS],
            "paper": paper.RANKS.get(variant),
        }
        for variant in variants
    ]


def _wins(figures: Figures, variants: Sequence[Variant]) -> list[list[str | Figure]]:
    """Shares of wins of each pair by item in percent, the paper's, and a p-value."""
    rows: list[list[str | Figure]] = []
    for number, better in enumerate(variants):
        for other in variants[:number]:
            pair = f"{better} over {other}"
            shares = [
                _figure(figures.get((ALL, item, "win_share", pair)), ".0f", 100)
                for item in (ALL, *SURVEY_ITEMS)
            ]
            printed = Figure(f"{paper.WINS[pair] * 100:.0f}" if pair in paper.WINS else "–")
            p = _p(figures[ALL, ALL, "wilcoxon_p_holm", f"{better} and {other}"])
            rows.append([f"{LABELS[better]} over {LABELS[other]}", *shares, printed, p])
    return rows


def _by_culture(figures: Figures, variants: Sequence[Variant], cultures: list[str]) -> dict[str, Any]:
    """Mean ranks and shares of wins of each culture, all questions together."""
    pairs = [(better, other) for number, better in enumerate(variants) for other in variants[:number]]
    return {
        "ranks": [
            [LABELS[v], *(_figure(figures.get((culture, ALL, "mean_rank", v))) for culture in cultures)]
            for v in variants
        ],
        "wins": [
            [
                f"{LABELS[better]} over {LABELS[other]}",
                *(
                    _figure(figures.get((culture, ALL, "win_share", f"{better} over {other}")), ".0f", 100)
                    for culture in cultures
                ),
            ]
            for better, other in pairs
        ],
    }


def _agreement(figures: Figures, culture: str) -> tuple[int | Figure, ...]:
    """How far a culture's people agree."""
    w = figures[culture, ALL, "kendall_w", "participants"]
    return (
        w["participants"],
        w["rankings"],
        _figure(w),
        Figure(f"{1 / w['participants']:.2f}"),
        _figure(figures[culture, ALL, "krippendorff_alpha", "participants"]),
        _p(figures.get((culture, ALL, "friedman_p_holm", "all variants"))),
    )


def _positions(figures: Figures) -> dict[str, Any]:
    """Mean ranks by where a picture stood, and the positions whose interval does not hold the middle."""
    found = {
        subject: row
        for (culture, item, statistic, subject), row in sorted(figures.items())
        if (culture, item, statistic) == (ALL, ALL, "position_rank")
    }
    middle = (len(found) + 1) / 2
    return {
        "names": list(range(1, len(found) + 1)),
        "ranks": [_figure(row) for row in found.values()],
        "middle": f"{middle:g}",
        "biased": [
            subject
            for subject, row in found.items()
            if row["low"] is not None and not row["low"] <= middle <= row["high"]
        ],
    }


def _worths(figures: Figures) -> list[tuple[str, Figure]]:
    rows = {name: figures.get((ALL, ALL, "plackett_luce", name)) for name in VARIANTS}
    return [(LABELS[name], _figure(row)) for name, row in rows.items() if row is not None]


def _rejected(rejected: Path) -> dict[str, Any]:
    """The first rows that could not be used, without codes, and how many more there are."""
    rows = REJECTED.read(rejected)
    return {
        "rows": [(row["public_file"], row["row"] or "", row["public_reason"]) for row in rows[:SHOWN]],
        "more": max(len(rows) - SHOWN, 0),
        "file": rejected.name,
    }


def _power(power: Path) -> dict[str, Any]:
    """How often crowds of each size and make-up find the truth, in percent."""
    cells: dict[tuple[int, float, float], dict[tuple[str, str], Row]] = {}
    for row in POWER.rows(power):
        cell = cells.setdefault((row["participants"], row["careless"], row["adversarial"]), {})
        cell[row["method"], row["statistic"]] = row
    sought = {"true_order": "whole order", "true_best": "best"}
    columns = list(itertools.product(sought, METHODS))
    return {
        "strengths": ", ".join(
            f"{LABELS.get(name, name)} {strength:g}"
            for name, strength in ast.literal_eval(POWER.note(power)["strengths"]).items()
        ),
        "head": [
            *("People", "Careless", "Adversarial"),
            *(f"{sought[statistic]}, {METHODS[method]}, %" for statistic, method in columns),
        ],
        "rows": [
            [
                people,
                Figure(f"{careless:.0%}"),
                Figure(f"{adversarial:.0%}"),
                *(_figure(cell[method, statistic], ".0f", 100) for statistic, method in columns),
            ]
            for (people, careless, adversarial), cell in sorted(cells.items())
        ],
    }


if __name__ == "__main__":
    run_step(survey_report)
