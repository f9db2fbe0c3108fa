"""From answers to a ranking: MMSR+Vote, and the statistics beside it (paper §5)."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipeline_steps.artifacts import ANSWERS, CONSENSUS, SKILLS, STATISTICS, VOTES, Row, Table
from pipeline_steps.cli import run_step
from pipeline_steps.config import VARIANTS
from pipeline_steps.errors import UserError
from pipeline_steps.seeds import derive_seed
from pipeline_steps.survey.rankings import ALL, Rankings, rankings_of, votes_of
from pipeline_steps.survey.shown import ITEMS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipeline_steps.method.estimate import Estimate

LOG = logging.getLogger(__name__)

LEVELS = {
    "overall": (False, False),
    "item": (False, True),
    "culture": (True, False),
    "culture_item": (True, True),
}
"""Whether culture and item are part of the task: a run of MMSR+Vote each."""


def survey_aggregate(
    answers: Path,
    votes: Path,
    consensus: Path,
    skills: Path,
    statistics: Path,
    seed: int,
) -> None:
    """Sum the answers up, overall, per item, per culture, and per culture and item.

    Args:
        answers: checked answers; blank ones count nowhere.
        votes: table to write: every pair's weighted vote.
        consensus: table to write: the order of the variants.
        skills: table to write: every participant's weight.
        statistics: table to write: mean ranks, wins, Plackett–Luce, agreement, tests, position bias.
        seed: of MMSR's start and of which variant of a pair is called left.

    Raises:
        UserError: only blank answers, or pages with different variants.
    """
    rankings, variants, blank = _read(answers)
    note = ANSWERS.note(answers)
    extra = {name: note[name] for name in ("simulated", "rejected")} | {"blank": blank}
    extra |= {"rounds": note.get("rounds", {})}
    LOG.info("%d rankings, %d left blank", len(rankings.ranks), blank)

    decided, trusted = _mmsr_vote(rankings, variants, seed)
    VOTES.write(votes, _in_order(VOTES, decided), extra=extra)
    CONSENSUS.write(consensus, _in_order(CONSENSUS, _orders(decided, variants)), extra=extra)
    SKILLS.write(skills, _in_order(SKILLS, trusted), extra=extra)
    figures = [*_statistics(rankings, variants), *_tests(rankings, variants)]
    STATISTICS.write(statistics, _in_order(STATISTICS, figures), extra=extra)


def _in_order(table: Table, rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: tuple(row[name] for name in table.key))


def _read(answers: Path) -> tuple[Rankings, list[str], int]:
    """Return the filled-in answers, the variants in the paper's order, and how many answers are blank."""
    rows = ANSWERS.read(answers)
    filled = [row for row in rows if row["ranks"] is not None]
    if not filled:
        raise UserError(f"{answers}: all {len(rows)} answers are blank; nothing to sum up")
    variants: list[str] = [name for name in VARIANTS if name in filled[0]["variants"]]
    return rankings_of(filled, variants, answers), variants, len(rows) - len(filled)


# --- MMSR+Vote ---


def _mmsr_vote(rankings: Rankings, variants: list[str], seed: int) -> tuple[list[Row], list[Row]]:
    """Run MMSR+Vote at each level; return votes and skills."""
    from pipeline_steps.method.mmsr import mmsr_vote

    votes = votes_of(rankings.ranks, rankings.participant, variants, seed)
    culture, item = (column[votes.index] for column in (rankings.culture, rankings.item))
    decided: list[Row] = []
    trusted: list[Row] = []
    for level, (by_culture, by_item) in LEVELS.items():
        parts = zip(culture, item, votes["pair"], strict=True)
        tasks = [f"{c if by_culture else ALL}|{i if by_item else ALL}|{pair}" for c, i, pair in parts]
        outcomes, skills = mmsr_vote(votes.assign(task=tasks), derive_seed(seed, "mmsr") % 2**32)
        for row in _records(outcomes):
            named = zip(("culture", "item", "left", "right"), row.pop("task").split("|"), strict=True)
            decided.append({**dict(named), **row})
        for row in _records(skills):
            home, _, participant = row.pop("worker").partition("/")
            trusted.append({"level": level, "culture": home, "participant": participant, **row})
    return decided, trusted


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", frame.to_dict("records"))  # all columns have names


def _orders(decided: list[Row], variants: list[str]) -> Iterator[Row]:
    """Order the variants in each scope by wins minus losses."""
    from pipeline_steps.method.mmsr import order

    scopes: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for row in decided:
        outcome = (row["left"], row["right"], row["winner"])
        scopes.setdefault((row["culture"], row["item"]), []).append(outcome)
    for (culture, item), outcomes in scopes.items():
        for row in _records(order(variants, outcomes)):
            yield {"culture": culture, "item": item, **row}


# --- statistics ---


def _scopes(rankings: Rankings) -> Iterator[tuple[str, str, Rankings]]:
    """Every culture and item, alone and together, where there are answers."""
    for culture in (ALL, *sorted(set(rankings.culture))):
        for item in (ALL, *ITEMS):
            part = rankings.where(culture, item)
            if len(part.ranks):
                yield culture, item, part


def _statistics(rankings: Rankings, variants: list[str]) -> Iterator[Row]:
    """Figures with intervals: jackknifed over participants and prompts, within cultures."""
    from pipeline_steps.method.ranks import estimates

    named = list(_named(variants))
    for culture, item, part in _scopes(rankings):
        units = list(zip(part.page, part.item, strict=True))
        who, what, where = (column.tolist() for column in (part.participant, part.prompt, part.culture))
        found = estimates(part.ranks, part.shown, who, what, units, where)
        for (statistic, subject), estimate in zip(named, found, strict=True):
            yield _row(culture, item, statistic, subject, estimate, part)


def _named(variants: list[str]) -> Iterator[tuple[str, str]]:
    """Statistic and subject of each of :func:`~pipeline_steps.method.ranks.figures`, in its order."""
    k = len(variants)
    yield from (("mean_rank", variant) for variant in variants)
    yield from (("position_rank", f"position {number + 1}") for number in range(k))
    yield from (("plackett_luce", variant) for variant in variants)
    yield from (("win_share", f"{variants[b]} over {variants[a]}") for b in range(k) for a in range(b))
    yield "kendall_w", "participants"
    yield "krippendorff_alpha", "participants"


def _rank_sums(people: "np.ndarray", ranks: "np.ndarray") -> "np.ndarray":
    """Sum of the ranks each participant gave each variant, shape (participants, k)."""
    import numpy as np

    sums = np.zeros((people.max() + 1, ranks.shape[1]), np.int64)
    np.add.at(sums, people, ranks)
    return sums


def _tests(rankings: Rankings, variants: list[str]) -> Iterator[Row]:
    """Friedman's test in each scope, Holm over the scopes of a level; pairs by signed ranks, Holm over pairs.

    A participant's mean ranks are one observation: their answers are not independent of one another.
    """
    from itertools import combinations

    import numpy as np

    from pipeline_steps.method import ranks
    from pipeline_steps.method.estimate import Estimate, codes

    families: dict[tuple[bool, bool], list[tuple[str, str, Rankings, float]]] = {}
    for culture, item, part in _scopes(rankings):
        people = codes(part.participant)
        sums, answers = _rank_sums(people, part.ranks), np.bincount(people)
        family = (culture == ALL, item == ALL)
        families.setdefault(family, []).append((culture, item, part, ranks.friedman(sums)))
        both = list(combinations(range(len(variants)), 2))
        p = [ranks.wilcoxon(sums[:, a], sums[:, b], answers) for a, b in both]
        for (a, b), raw, adjusted in zip(both, p, ranks.holm(p), strict=True):
            subject = f"{variants[b]} and {variants[a]}"
            text = "none: a p-value"
            yield _row(culture, item, "wilcoxon_p", subject, Estimate(raw, None, None, text), part)
            yield _row(culture, item, "wilcoxon_p_holm", subject, Estimate(adjusted, None, None, text), part)
    for tests in families.values():
        corrected = ranks.holm([test[-1] for test in tests])
        for (culture, item, part, raw), holm in zip(tests, corrected, strict=True):
            text = f"none: a p-value, one of {len(tests)} tests"
            yield _row(culture, item, "friedman_p", "all variants", Estimate(raw, None, None, text), part)
            yield _row(
                culture, item, "friedman_p_holm", "all variants", Estimate(holm, None, None, text), part
            )


def _row(culture: str, item: str, statistic: str, subject: str, estimate: "Estimate", part: Rankings) -> Row:
    figures = {name: getattr(estimate, name) for name in ("value", "low", "high")}
    return {
        "culture": culture,
        "item": item,
        "statistic": statistic,
        "subject": subject,
        **{name: None if x is None or x != x else float(x) for name, x in figures.items()},
        "interval": estimate.interval,
        "participants": len(set(part.participant)),
        "rankings": len(part.ranks),
    }


if __name__ == "__main__":
    run_step(survey_aggregate)
