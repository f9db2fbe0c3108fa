"""The survey's result on one page, in plain words."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CONSENSUS, POWER, REJECTED, SKILLS, STATISTICS, VOTES, Row
from pipeline_steps.cli import run_step
from pipeline_steps.config import LABELS, VARIANTS
from pipeline_steps.fig5 import violins
from pipeline_steps.method.estimate import FEW
from pipeline_steps.paper_table import PAPER
from pipeline_steps.survey_page import ITEMS

ALL = "all"
COLUMNS = {
    "description": "Best Described",
    "representation": "Most Culturally Representative",
    "stereotypes": "Least Stereotypical",
    "offensiveness": "Least Offensive",
}
"""Table 1's headings."""
PAPER_RANKS = {variant: printed[-len(ITEMS) :] for variant, printed in PAPER[1].items()}
"""Average ranks in the paper's Table 1: 51 participants of five countries."""
PAPER_WINS = {"scoft_m over sd": 0.63, "scoft_mp over scoft_m": 0.56, "scoft_mpc over scoft_mp": 0.62}
"""Shares the paper gives for offensiveness (§6)."""
SHOWN = 100
"""Rejected answers listed on the page."""


def survey_report(
    answers: Path,
    rejected: Path,
    votes: Path,
    consensus: Path,
    skills: Path,
    statistics: Path,
    report: Path,
    power: Path | None = None,
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
    """
    note = STATISTICS.note(statistics)
    figures = {
        (row["culture"], row["item"], row["statistic"], row["subject"]): row
        for row in STATISTICS.rows(statistics)
    }
    cultures = sorted({culture for culture, *_ in figures} - {ALL})
    variants = [name for name in VARIANTS if (ALL, ALL, "mean_rank", name) in figures]
    orders = _orders(CONSENSUS.rows(consensus))
    body = [
        "<h1>What people say about the pictures</h1>",
        _banner(note),
        _short(figures, orders, cultures, variants, note),
        "<h2>The order people agree on</h2>",
        _consensus(orders, cultures),
        _trust(VOTES.rows(votes), SKILLS.rows(skills)),
        "<h2>Average ranks</h2>",
        _ranks(figures, variants),
        "<h2>All rankings (the paper's Fig. 5)</h2>",
        violins(answers),
        "<p class=small>A wider strip means more answers with that rank; the mark is the mean.</p>",
        "<h2>One variant against another</h2>",
        _wins(figures, variants),
        "<h2>How sure is this?</h2>",
        _sure(figures, cultures),
        "<h2>What these figures mean, and what they do not</h2>",
        _few(figures.values()),
        _meaning(),
        "<h2>Answers left out</h2>",
        _rejected(rejected),
    ]
    if power:
        body += ["<h2>How many people should we ask?</h2>", _power(power)]
    artifacts.write_text(report, PAGE.replace("{{body}}", "\n".join(body)))


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Survey</title>
<style>
html { font: 1rem/1.55 system-ui, sans-serif; color: #1b1b1f; background: #fff; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid #c8c8d0; text-align: start; vertical-align: top; }
th { font-weight: 600; } td.n { text-align: end; font-variant-numeric: tabular-nums; }
small, .small { color: #55555f; font-size: 0.88rem; }
td small { white-space: nowrap; }
.banner { background: #fff3cd; border: 2px solid #8a6100; padding: 0.8rem 1rem; font-weight: 600; }
svg.chart { max-width: 40rem; }
</style>
</head>
<body>
{{body}}
</body>
</html>
"""


def _banner(note: Row) -> str:
    if not note["simulated"]:
        return ""
    return (
        '<p class="banner">These answers are simulated. No person was asked. '
        "This page shows how the survey works and says nothing about any picture.</p>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """Write a table; cells are text or ready HTML in a list of one."""

    def cell(value: Any) -> str:
        text = value[0] if isinstance(value, list) else escape(str(value))
        number = text.removeprefix("<small>")[:1].isdigit()
        return f"<td{' class=n' if number else ''}>{text}</td>"

    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    lines = "".join(f"<tr>{''.join(cell(value) for value in row)}</tr>" for row in rows)
    title = f"<caption class=small>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def _with_interval(row: Row | None, form: str = ".2f", scale: float = 1) -> list[str]:
    """A figure and its interval, or a dash."""
    if row is None or row["value"] is None:
        return ["–"]
    text = format(row["value"] * scale, form)
    if row["low"] is None:
        return [text]
    return [f"{text} <small>({format(row['low'] * scale, form)}–{format(row['high'] * scale, form)})</small>"]


Order = list[tuple[float, str]]


def _orders(rows: Iterable[Row]) -> dict[tuple[str, str], Order]:
    """Place and variant of each scope, the best first."""
    orders: dict[tuple[str, str], Order] = {}
    for row in rows:
        orders.setdefault((row["culture"], row["item"]), []).append((row["place"], row["variant"]))
    return {scope: sorted(order) for scope, order in orders.items()}


def _in_words(order: Order) -> str:
    """E.g. "SCoFT+MPC > SCoFT+MP = SCoFT+M"."""
    text = LABELS[order[0][1]]
    for (before, _), (place, variant) in itertools.pairwise(order):
        text += (" = " if place == before else " > ") + LABELS[variant]
    return text


def _short(
    figures: dict, orders: dict[tuple[str, str], Order], cultures: list[str], variants: list[str], note: Row
) -> str:
    one = figures[ALL, ALL, "mean_rank", variants[0]]
    best = orders[ALL, ALL][0][1]
    rank = figures[ALL, ALL, "mean_rank", best]
    agree = [culture for culture in cultures if orders[culture, ALL] == orders[ALL, ALL]]
    who = "participant" if one["participants"] == 1 else "participants"
    return (
        f"<p><strong>{one['participants']} {who} from {len(cultures)} culture{'s' * (len(cultures) != 1)} "
        f"({escape(', '.join(cultures))}) gave {one['rankings']} rankings</strong>; {note['blank']} "
        "questions were "
        f"left blank and {note['rejected']} answers could not be used.</p>"
        f"<p>Weighted by how far each participant can be trusted (MMSR+Vote), they order the variants "
        f"<strong>{_in_words(orders[ALL, ALL])}</strong>. {LABELS[best]} is ranked "
        f"{_with_interval(rank)[0]} on "
        f"average, where 1 is best and {len(variants)} is worst. "
        f"{len(agree)} of {len(cultures)} cultures, asked alone, give this same order.</p>"
    )


def _consensus(orders: dict[tuple[str, str], Order], cultures: list[str]) -> str:
    scopes = [(culture, item) for culture in (ALL, *cultures) for item in (ALL, *ITEMS)]
    rows = [
        (
            culture if culture != ALL else "all cultures",
            COLUMNS.get(item, "all four questions"),
            _in_words(orders[culture, item]),
            "yes" if orders[culture, item] == orders[ALL, ALL] else "no",
        )
        for culture, item in scopes
        if (culture, item) in orders
    ]
    paper = "The paper found MPC > MP > M > SD overall, for every question, and in every country but India."
    return (
        _table(["Culture", "Question", "Order, best first", "As overall?"], rows)
        + f"<p class=small>{paper}</p>"
    )


def _trust(votes: Iterable[Row], skills: Iterable[Row]) -> str:
    votes, skills = list(votes), list(skills)
    plain = [row for row in votes if row["rule"] == "majority"]
    reasons = sorted({row["reason"] for row in plain})
    overall = [row["skill"] for row in skills if row["level"] == "overall" and not row["reason"]]
    text = (
        f"<p>MMSR gives {sum(skill <= 0 for skill in overall)} of {len(overall)} participants a weight of "
        "nothing or less: they vote against the others, or as if by chance. "
        if overall
        else "<p>MMSR could not weigh the participants overall. "
    )
    text += f"{len(plain)} of {len(votes)} decisions between two variants fell to a plain majority"
    return text + (f": {escape('; '.join(reasons))}.</p>" if reasons else ".</p>")


def _ranks(figures: dict, variants: list[str]) -> str:
    rows = []
    for variant in variants:
        ours = [_with_interval(figures.get((ALL, item, "mean_rank", variant))) for item in ITEMS]
        paper = PAPER_RANKS.get(variant)
        rows.append((LABELS[variant], "this survey", *ours))
        if paper:
            rows.append(
                ("", ["<small>the paper</small>"], *([f"<small>{rank:.2f}</small>"] for rank in paper))
            )
    return _table(
        ["Model", "Source", *COLUMNS.values()],
        rows,
        "Average rank over all cultures, 1 is best (Table 1's survey columns). The paper's figures are "
        "its own: "
        "other models, pictures and people.",
    )


def _wins(figures: dict, variants: list[str]) -> str:
    rows = []
    for b, better in enumerate(variants):
        for other in variants[:b]:
            subject = f"{better} over {other}"
            shares = [
                _with_interval(figures.get((ALL, item, "win_share", subject)), ".0f", 100)
                for item in (ALL, *ITEMS)
            ]
            paper = f"{PAPER_WINS[subject] * 100:.0f}" if subject in PAPER_WINS else "–"
            p = figures[ALL, ALL, "wilcoxon_p_holm", f"{better} and {other}"]
            rows.append(
                (f"{LABELS[better]} over {LABELS[other]}", *shares, [f"<small>{paper}</small>"], _p(p))
            )
    head = ["Pair", "All questions, %", *(f"{COLUMNS[item]}, %" for item in ITEMS)]
    return _table(
        [*head, "The paper, Least Offensive, %", "p (Wilcoxon, Holm)"],
        rows,
        "Share of rankings in which the first is ranked better; 50 is a draw.",
    )


def _p(row: Row | None) -> str:
    if row is None or row["value"] is None:
        return "–"
    return "< 0.001" if row["value"] < 0.001 else f"{row['value']:.3f}"


def _sure(figures: dict, cultures: list[str]) -> str:
    rows = []
    for culture in (ALL, *cultures):
        w = figures[culture, ALL, "kendall_w", "participants"]
        rows.append(
            (
                culture if culture != ALL else "all cultures",
                w["participants"],
                w["rankings"],
                _with_interval(w),
                f"{1 / w['participants']:.2f}",
                _with_interval(figures[culture, ALL, "krippendorff_alpha", "participants"]),
                _p(figures.get((culture, ALL, "friedman_p_holm", "all variants"))),
            )
        )
    agreement = _table(
        [
            "Culture",
            "People",
            "Rankings",
            "Kendall's W",
            "W by chance",
            "Krippendorff's α",
            "p (Friedman, Holm)",
        ],
        rows,
    )
    positions = sorted(
        subject
        for culture, item, name, subject in figures
        if (culture, item, name) == (ALL, ALL, "position_rank")
    )
    cells = [_with_interval(figures[ALL, ALL, "position_rank", subject]) for subject in positions]
    middle = (len(positions) + 1) / 2
    biased = [
        subject
        for subject in positions
        if (row := figures[ALL, ALL, "position_rank", subject])["low"] is not None
        and not row["low"] <= middle <= row["high"]
    ]
    told = (
        f"The mean rank at {' and '.join(biased)} differs from {middle:g} by more than chance: where a "
        "picture stood seems to have mattered, or the better pictures stood there."
        if biased
        else f"No position's mean rank differs from {middle:g} by more than chance: nothing says that it "
        "mattered where a picture stood."
    )
    worth = {
        subject: row
        for (c, i, name, subject), row in figures.items()
        if (c, i, name) == (ALL, ALL, "plackett_luce")
    }
    model = _table(
        ["Variant", "Worth (Plackett–Luce)"],
        [(LABELS[name], _with_interval(worth[name])) for name in VARIANTS if name in worth],
        "How likely each would be ranked first among all; they sum to 1.",
    )
    return (
        agreement
        + _table(["Position on the page", *map(str, range(1, len(positions) + 1))], [("mean rank", *cells)])
        + f"<p>{told}</p>"
        + model
    )


def _few(rows: Iterable[Row]) -> str:
    """Name the cultures whose intervals rest on few people or prompts."""
    where = sorted(
        {
            "all cultures" if row["culture"] == ALL else row["culture"]
            for row in rows
            if FEW in row["interval"]
        }
    )
    if not where:
        return ""
    return (
        f"<p><strong>Some intervals for {escape(', '.join(where))} come from few people or few prompts: they "
        "may hold the truth in 90 rather than 95 of 100 surveys.</strong></p>"
    )


def _meaning() -> str:
    lines = (
        "An interval holds what many such surveys would show on average, in 95 of 100 surveys like this "
        "one, with other people of the same kind and other prompts of the same kind. Few people or few "
        "prompts make it wide, however many rankings they gave. Where none is given, there are too few.",
        "Kendall's W says whether people prefer the same <em>variants</em>: 1 if all order them alike. By "
        "chance alone it "
        "is about 1 divided by the number of people. Krippendorff's α says whether they rank the same "
        "<em>pictures</em> "
        "alike: 1 is full agreement, 0 is chance. A low α with a high W is common: people differ about "
        "single "
        "pictures and yet lean the same way.",
        "A small p (below 0.05) says that a difference this large would be rare if people saw none. It "
        "does not say that "
        "the difference is large, and a large p does not say that there is none. The p-values treat each "
        "person as one "
        "observation and are corrected for how many were looked at.",
        "MMSR+Vote gives an order, not a distance: a variant that wins narrowly and one that wins by far "
        "look alike. Read "
        "it together with the average ranks.",
        "Ranks compare these variants with one another. The best of them may still be wrong or hurtful; "
        "the survey asked "
        "which is better, not whether any is good.",
        "Participants speak for themselves, not for a culture. Who could be reached decides whose view "
        "this is.",
    )
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def _rejected(rejected: Path) -> str:
    rows = REJECTED.read(rejected)
    if not rows:
        return "<p>None.</p>"
    more = f"<p>… and {len(rows) - SHOWN} more in {escape(rejected.name)}.</p>" if len(rows) > SHOWN else ""
    listed: Iterator[Sequence[Any]] = ((row["file"], row["row"] or "", row["reason"]) for row in rows[:SHOWN])
    return _table(["File", "Row", "What is wrong"], listed) + more


def _power(power: Path) -> str:
    methods = {"mmsr_vote": "MMSR+Vote", "majority": "plain majority", "plackett_luce": "Plackett–Luce"}
    cells: dict[tuple[int, float, float], dict[tuple[str, str], Row]] = {}
    for row in POWER.rows(power):
        cell = cells.setdefault((row["participants"], row["careless"], row["adversarial"]), {})
        cell[row["method"], row["statistic"]] = row
    rows = [
        (
            people,
            f"{careless:.0%}",
            f"{adversarial:.0%}",
            *(_with_interval(cell[method, "true_order"], ".0f", 100) for method in methods),
            *(_with_interval(cell[method, "true_best"], ".0f", 100) for method in methods),
        )
        for (people, careless, adversarial), cell in sorted(cells.items())
    ]
    note = POWER.note(power)
    head = [
        *(f"whole order, {name}, %" for name in methods.values()),
        *(f"best, {name}, %" for name in methods.values()),
    ]
    return (
        "<p>Simulated surveys of one culture whose true order is known: in how many of 100 is it found? "
        "True strengths "
        f"(Plackett–Luce, log scale): {escape(note['strengths'])}. Careless people rank at random, "
        "adversarial ones the "
        "other way round. If your variants are closer to one another than these, more people are needed.</p>"
        + _table(["People", "Careless", "Adversarial", *head], rows)
    )


if __name__ == "__main__":
    run_step(survey_report)
