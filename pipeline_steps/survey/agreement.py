"""The judge and the scores beside people: do they order pictures and variants as people do?"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_steps.artifacts import AGREEMENT, ANSWERS, SCORES, Row, write_text
from pipeline_steps.cli import run_step
from pipeline_steps.config import LABELS, VARIANTS, Variant
from pipeline_steps.drawing import page
from pipeline_steps.drawing.labels import SCORES as SCORE_LABELS
from pipeline_steps.drawing.labels import SURVEY_ITEMS, rounds_in_words
from pipeline_steps.drawing.page import Figure
from pipeline_steps.errors import UserError
from pipeline_steps.method.agreement import Comparisons, alpha, between, pairs_in_order
from pipeline_steps.method.agreement import agreement as agreed
from pipeline_steps.method.estimate import clustered_mean, codes
from pipeline_steps.survey.rankings import ALL, Rankings, rankings_of

EVERYBODY = "all cultures"
PEOPLE, JUDGE = "people", "judge"
BETTER = {"nearest_train": "higher", "generic_accuracy": "higher"} | {
    metric: label.better for metric, label in SCORE_LABELS.items() if label.better
}
"""Which way each score judges; likeness to real pictures (DreamSim's) as what a judge would look for."""


def agreement(
    judged: list[Path],
    scores: list[Path],
    agreement: Path,
    report: Path,
    answers: Path | None = None,
    cultures: Sequence[str] = (),
    names: Sequence[str] = (),
    template: Path = page.TEMPLATES / "agreement.html",
    style: Path = page.STYLE,
) -> None:
    """Compare the judge's and the scores' orders with people's, and these with one another.

    Args:
        judged: each culture's answers of the judge.
        scores: of the surveyed variants, of every culture.
        agreement: table to write; empty while nobody has answered.
        report: HTML file to write; its title says so where the judge is unchecked.
        answers: people's checked answers, or simulated ones; None: nobody has answered.
        cultures: as they are called in the configuration.
        names: of these cultures, as people write them.
        template: Jinja template of the page.
        style: its CSS.

    Raises:
        UserError: the judge saw pages with other variants than people, or gave no usable reply.

    Answers to an earlier round of the survey are about pictures that nothing here scores any more: they are
    not compared, and the page says whose.
    """
    notes = [ANSWERS.note(path) for path in judged]
    rows = [row for path in judged for row in ANSWERS.rows(path)]
    if not rows:
        raise UserError(f"{judged[0]}: the judge gave no usable reply; name another model in models.judge")
    variants: list[Variant] = [name for name in VARIANTS if name in rows[0]["variants"]]
    judge = rankings_of(rows, variants, judged[0])
    measured = _orders(scores, variants)
    note = ANSWERS.note(answers) if answers else {}
    rounds, called = note.get("rounds", {}), {ALL: EVERYBODY} | dict(zip(cultures, names, strict=True))
    found: list[Row] = []
    if answers:
        filled = [
            row for row in ANSWERS.rows(answers) if row["ranks"] is not None and row["culture"] not in rounds
        ]
        people = rankings_of(filled, variants, answers) if filled else None
        found = sorted(
            _compared(people, judge, measured) if people else [],
            key=lambda row: tuple(row[name] for name in AGREEMENT.key),
        )
    AGREEMENT.write(agreement, found, extra={"simulated": note.get("simulated", False)})
    by_key = {(row["culture"], row["item"], row["rater"]): row for row in found}
    text = page.render(
        template,
        style,
        checked=(ALL, ALL, JUDGE) in by_key,
        simulated=note.get("simulated", False),
        earlier=rounds_in_words(rounds, called),
        judges=sorted({note["judge"] for note in notes}),
        asked=sum(note["asked"] for note in notes),
        malformed=sum(note["malformed"] for note in notes),
        short=_short(by_key),
        beside=_beside(by_key, called),
        measured=_measured(by_key),
        orders=_in_words(judge, variants),
        positions=_positions(judge),
    )
    write_text(report, text)


def _orders(scores: Sequence[Path], variants: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Rank of each variant by each score that is a judgement, by score and culture; ties have no order."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for path in scores:
        culture = str(SCORES.note(path)["culture"])
        for row in SCORES.rows(path):
            values.setdefault((row["metric"], culture), {})[row["variant"]] = row["value"]
    orders: dict[str, dict[str, np.ndarray]] = {}
    for (metric, culture), found in values.items():
        if metric in BETTER and len({found.get(name) for name in variants} - {None}) == len(variants):
            sign = -1 if BETTER[metric] == "higher" else 1
            ranks = np.argsort(np.argsort([sign * found[name] for name in variants])) + 1
            orders.setdefault(metric, {})[culture] = ranks
    return orders


def _compared(
    people: Rankings, judge: Rankings, measured: Mapping[str, Mapping[str, np.ndarray]]
) -> Iterator[Row]:
    """Compare every rater with people, in each scope."""
    person, prompt = codes(people.participant), codes(people.prompt)
    one, other = between(people.question, people.question)
    one, other = one[person[one] < person[other]], other[person[one] < person[other]]
    raters = {
        PEOPLE: (
            Comparisons(people.ranks[one], people.ranks[other], (person[one], person[other]), prompt[one]),
            one,
        )
    }
    own, answered = between(judge.question, people.question)
    raters[JUDGE] = (
        Comparisons(judge.ranks[own], people.ranks[answered], (person[answered],), prompt[answered]),
        answered,
    )
    for metric, by_culture in measured.items():
        known = np.flatnonzero(np.isin(people.culture, list(by_culture)))
        if len(known):
            ranks = np.stack([by_culture[culture] for culture in people.culture[known]])
            raters[metric] = Comparisons(ranks, people.ranks[known], (person[known],), prompt[known]), known
    for rater, (found, rows) in raters.items():
        for culture in (ALL, *sorted(set(people.culture))):
            for item in (ALL, *SURVEY_ITEMS):
                keep = (people.culture[rows] == culture) | (culture == ALL)
                keep &= (people.item[rows] == item) | (item == ALL)
                if keep.any():
                    yield {"culture": culture, "item": item, "rater": rater, **_row(found.where(keep))}


def _row(found: Comparisons) -> Row:
    estimate, alike = agreed(found), alpha(found)
    k = found.first.shape[1]
    return {
        "agreement": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "interval": estimate.interval,
        "tau": 2 * estimate.value - 1,
        "alpha": None if np.isnan(alike) else alike,
        "pairs_in_order": pairs_in_order(found),
        "pairs": k * (k - 1) // 2,
        "people": len(np.unique(np.concatenate(found.people))),
        "comparisons": len(found.first),
    }


# --- the page ---

Found = Mapping[tuple[str, str, str], Row]
"""Rows by culture, item and rater."""


def _share(row: Row | None) -> Figure:
    """A share in percent with its interval, or a dash."""
    if row is None:
        return Figure("–")
    ends = "" if row["low"] is None else f"({row['low']:.0%}–{row['high']:.0%})"
    return Figure(f"{row['agreement']:.0%}", ends)


def _number(row: Row | None, name: str) -> Figure:
    return Figure("–" if row is None or row[name] is None else f"{row[name]:.2f}".replace("-", "−"))


def _verdict(judge: Row | None, people: Row | None) -> str:
    """Say whether the judge agrees with a person as far as two people do."""
    if judge is None or people is None:
        return "unknown: nobody, or one person, answered"
    if judge["agreement"] >= people["agreement"]:
        return "yes"
    return "no" if judge["high"] is not None and judge["high"] < people["agreement"] else "not sure"


def _short(found: Found) -> dict[str, Any] | None:
    """The result in a sentence, where anybody answered."""
    judge, people = found.get((ALL, ALL, JUDGE)), found.get((ALL, ALL, PEOPLE))
    if judge is None:
        return None
    return {
        "judge": _share(judge),
        "people": _share(people),
        "number": judge["people"],
        "verdict": _verdict(judge, people),
    }


def _beside(found: Found, called: Mapping[str, str]) -> list[list[str | Figure]]:
    """Judge and people in each culture by each question."""
    questions = {ALL: "all four questions"} | {name: item.heading for name, item in SURVEY_ITEMS.items()}
    scopes = dict.fromkeys(culture for culture, _, _ in found)
    rows: list[list[str | Figure]] = []
    for culture in scopes:
        for item, question in questions.items():
            judge, people = (found.get((culture, item, rater)) for rater in (JUDGE, PEOPLE))
            figures = [_share(judge), _share(people)]
            figures += [_number(row, name) for name in ("tau", "alpha") for row in (judge, people)]
            rows.append([called.get(culture, culture), question, *figures, _verdict(judge, people)])
    return rows


def _measured(found: Found) -> list[list[str | Figure]]:
    """Every rater over all cultures and questions, those that agree most first."""
    rows = [row for (culture, item, _), row in found.items() if (culture, item) == (ALL, ALL)]
    names = {PEOPLE: "another person", JUDGE: "the judge"}
    return [
        [
            names.get(row["rater"]) or f"{SCORE_LABELS[row['rater']].name} ({BETTER[row['rater']]})",
            _share(row),
            _number(row, "tau"),
            _number(row, "alpha"),
            Figure(f"{row['pairs_in_order']} of {row['pairs']}" if row["rater"] != PEOPLE else "–"),
        ]
        for row in sorted(rows, key=lambda row: -row["agreement"])
    ]


def _in_words(judge: Rankings, variants: Sequence[Variant]) -> list[tuple[str, str]]:
    """The judge's own order by each question, e.g. "SCoFT+MPC > SCoFT+M"."""
    orders = []
    for item, label in SURVEY_ITEMS.items():
        ranks = judge.ranks[judge.item == item]
        if len(ranks):
            means = ranks.mean(0)
            words = " > ".join(f"{LABELS[variants[n]]} ({means[n]:.2f})" for n in np.argsort(means))
            orders.append((label.heading, words))
    return orders


def _positions(judge: Rankings) -> dict[str, Any]:
    """Mean rank that the judge gave to each position, and those whose interval does not hold the middle."""
    k = judge.shown.shape[1]
    found = [clustered_mean(judge.shown[:, place], judge.page.tolist()) for place in range(k)]
    middle = (k + 1) / 2
    return {
        "names": [f"position {place + 1}" for place in range(k)],
        "ranks": [
            Figure(f"{e.value:.2f}", "" if e.low is None else f"({e.low:.2f}–{e.high:.2f})") for e in found
        ],
        "middle": f"{middle:g}",
        "biased": [
            f"position {place + 1}"
            for place, e in enumerate(found)
            if e.low is not None and e.high is not None and not e.low <= middle <= e.high
        ],
    }


if __name__ == "__main__":
    run_step(agreement)
