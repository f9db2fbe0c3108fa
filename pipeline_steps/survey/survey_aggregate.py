"""From answers to a ranking: MMSR+Vote, and the statistics beside it (paper §5)."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pipeline_steps.artifacts import ANSWERS, CONSENSUS, SKILLS, STATISTICS, VOTES, Row, Table
from pipeline_steps.cli import run_step
from pipeline_steps.config import VARIANTS, SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.seeds import derive_seed
from pipeline_steps.survey.shown import ITEMS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipeline_steps.method.estimate import Estimate

LOG = logging.getLogger(__name__)

ALL = "all"
"""Stands for all cultures, or all items, together."""
LEVELS = {
    "overall": (False, False),
    "item": (False, True),
    "culture": (True, False),
    "culture_item": (True, True),
}
"""Whether culture and item are part of the task: a run of MMSR+Vote each."""


class Rankings(NamedTuple):
    """Filled-in answers as columns.

    Attributes:
        culture: shape (n,), text; likewise participant, prompt, page and item.
        participant: unique over cultures.
        prompt: unique over cultures.
        page: its name.
        item: its name.
        ranks: rank of each variant, shape (n, k), in the order of the variants.
        shown: the same in the order the page showed.
    """

    culture: "np.ndarray"
    participant: "np.ndarray"
    prompt: "np.ndarray"
    page: "np.ndarray"
    item: "np.ndarray"
    ranks: "np.ndarray"
    shown: "np.ndarray"

    def where(self, culture: str, item: str) -> "Rankings":
        """Keep a culture's and an item's answers; "all" keeps them all."""
        keep = (self.culture == culture) | (culture == ALL)
        keep &= (self.item == item) | (item == ALL)
        return Rankings(*(column[keep] for column in self))


def survey_aggregate(
    answers: Path,
    votes: Path,
    consensus: Path,
    skills: Path,
    statistics: Path,
    seed: int,
    config: SurveyConfig,
) -> None:
    """Sum the answers up, overall, per item, per culture, and per culture and item.

    Args:
        answers: checked answers; blank ones count nowhere.
        votes: table to write: every pair's weighted vote.
        consensus: table to write: the order of the variants.
        skills: table to write: every participant's weight.
        statistics: table to write: mean ranks, wins, Plackett–Luce, agreement, tests, position bias.
        seed: of the bootstrap, of MMSR's start and of which variant of a pair is called left.
        config: resamples.

    Raises:
        UserError: only blank answers, or pages with different variants.
    """
    rankings, variants, blank = _read(answers)
    note = ANSWERS.note(answers)
    extra = {"simulated": note["simulated"], "rejected": note["rejected"], "blank": blank}
    LOG.info("%d rankings, %d left blank", len(rankings.ranks), blank)

    decided, trusted = _mmsr_vote(rankings, variants, seed)
    VOTES.write(votes, _in_order(VOTES, decided), extra=extra)
    CONSENSUS.write(consensus, _in_order(CONSENSUS, _orders(decided, variants)), extra=extra)
    SKILLS.write(skills, _in_order(SKILLS, trusted), extra=extra)
    figures = [*_statistics(rankings, variants, seed, config.resamples), *_tests(rankings, variants)]
    STATISTICS.write(statistics, _in_order(STATISTICS, figures), extra=extra)


def _in_order(table: Table, rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: tuple(row[name] for name in table.key))


def _read(answers: Path) -> tuple[Rankings, list[str], int]:
    """Return the filled-in answers, the variants in the paper's order, and how many answers are blank."""
    import numpy as np

    rows = ANSWERS.read(answers)
    named = {tuple(sorted(row["variants"])) for row in rows}
    if len(named) != 1:
        raise UserError(f"{answers}: pages with different variants ({named}); survey them apart")
    variants: list[str] = [name for name in VARIANTS if name in next(iter(named))]
    filled = [row for row in rows if row["ranks"] is not None]
    if not filled:
        raise UserError(f"{answers}: all {len(rows)} answers are blank; nothing to sum up")
    shown = np.array([row["ranks"] for row in filled])
    place = np.array([[row["variants"].index(name) for name in variants] for row in filled])
    columns = (
        [row["culture"] for row in filled],
        [f"{row['culture']}/{row['participant']}" for row in filled],
        [f"{row['culture']}/{row['prompt']}" for row in filled],
        [row["page"] for row in filled],
        [row["item"] for row in filled],
    )
    ranks = np.take_along_axis(shown, place, axis=1)
    return Rankings._make([*map(np.array, columns), ranks, shown]), variants, len(rows) - len(filled)


# --- MMSR+Vote ---


def _mmsr_vote(rankings: Rankings, variants: list[str], seed: int) -> tuple[list[Row], list[Row]]:
    """Run MMSR+Vote at each level; return votes and skills."""
    import pandas as pd

    from pipeline_steps.method.mmsr import mmsr_vote, pairs

    count = len(variants) * (len(variants) - 1) // 2
    turned = [derive_seed(seed, "left_right", number) % 2 == 1 for number in range(count)]
    decided: list[Row] = []
    trusted: list[Row] = []
    for level, (by_culture, by_item) in LEVELS.items():
        frames = []
        for left, right in pairs(variants, turned):
            better = rankings.ranks[:, variants.index(left)] < rankings.ranks[:, variants.index(right)]
            frame = pd.DataFrame({"worker": rankings.participant, "label": better.astype(int)})
            culture = rankings.culture if by_culture else ALL
            item = rankings.item if by_item else ALL
            frame["task"] = pd.Series(culture, frame.index) + "|" + item + f"|{left}|{right}"
            frames.append(frame)
        outcomes, skills = mmsr_vote(pd.concat(frames), derive_seed(seed, "mmsr") % 2**32)
        for row in _records(outcomes):
            culture, item, left, right = row.pop("task").split("|")
            decided.append({"culture": culture, "item": item, "left": left, "right": right, **row})
        for row in _records(skills):
            culture, _, participant = row.pop("worker").partition("/")
            trusted.append({"level": level, "culture": culture, "participant": participant, **row})
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


def _statistics(rankings: Rankings, variants: list[str], seed: int, resamples: int) -> Iterator[Row]:
    """Figures with intervals."""
    import numpy as np

    from pipeline_steps.method import ranks

    k = len(variants)
    for culture, item, part in _scopes(rankings):
        people, prompts = len(set(part.participant)), len(set(part.prompt))

        def row(statistic: str, subject: str, estimate: "Estimate") -> Row:
            return _row(culture, item, statistic, subject, estimate, part)  # noqa: B023 (used at once)

        which, shown = ranks.encode(part.ranks), ranks.encode(part.shown)
        size, clusters = len(ranks.orders(k)), (part.participant, part.prompt, part.culture)
        counts = [np.bincount(code, minlength=size).astype(float) for code in (which, shown)]
        draws = [
            ranks.resampled_counts(code, k, *clusters, resamples, derive_seed(seed, "bootstrap"))
            for code in (which, shown)
        ]
        # A draw that meets no answered page says nothing.
        draws = [drawn[drawn.sum(1) > 0] for drawn in draws]

        def interval(value: float, drawn: "np.ndarray") -> "Estimate":
            return ranks.interval(value, drawn, people, prompts)  # noqa: B023 (used at once)

        means, drawn = ranks.mean_ranks(counts[0], k), ranks.mean_ranks(draws[0], k)
        worths, drawn_worths = ranks.plackett_luce(counts[0], k), ranks.plackett_luce(draws[0], k, 1e-6)
        positions, drawn_positions = ranks.mean_ranks(counts[1], k), ranks.mean_ranks(draws[1], k)
        for number, variant in enumerate(variants):
            yield row("mean_rank", variant, interval(means[number], drawn[:, number]))
            yield row("plackett_luce", variant, interval(worths[number], drawn_worths[:, number]))
            text = f"position {number + 1}"
            yield row("position_rank", text, interval(positions[number], drawn_positions[:, number]))
        wins, drawn_wins = ranks.win_shares(counts[0], k), ranks.win_shares(draws[0], k)
        for b in range(k):
            for a in range(b):
                subject = f"{variants[b]} over {variants[a]}"
                yield row("win_share", subject, interval(wins[b, a], drawn_wins[:, b, a]))
        yield from (row(name, "participants", estimate) for name, estimate in _agreement(part))


def _agreement(part: Rankings) -> Iterator[tuple[str, "Estimate"]]:
    """Kendall's W on the variants, Krippendorff's α on the pictures; both jackknifed over participants."""
    import numpy as np

    from pipeline_steps.method import ranks
    from pipeline_steps.method.estimate import GROUPS, Estimate, codes, jackknife

    people, k = codes(part.participant), part.ranks.shape[1]
    total = people.max() + 1
    if total < 2:
        for name in ("kendall_w", "krippendorff_alpha"):
            yield name, Estimate(float("nan"), None, None, "none: needs two participants")
        return
    group = people % min(total, GROUPS)
    means = _mean_ranks_by(people, part.ranks)
    member = np.arange(total) % min(total, GROUPS)
    parts = list(range(group.max() + 1))
    w = jackknife(lambda keep: ranks.kendall_w(means[keep[member]]), parts)
    unit = codes(list(zip(part.page, part.item, strict=True)))
    counts = np.zeros((len(parts), unit.max() + 1, k, k))
    for variant in range(k):
        np.add.at(counts[:, :, variant], (group, unit, part.ranks[:, variant] - 1), 1)
    counts = counts.reshape(len(parts), -1, k)
    alpha = jackknife(lambda keep: ranks.krippendorff_ordinal(counts[keep].sum(0)), parts)
    for name, estimate in (("kendall_w", w), ("krippendorff_alpha", alpha)):
        text = f"95%, jackknife over {len(parts)} groups of {total} participants"
        high = None if estimate.high is None else min(estimate.high, 1.0)
        yield name, dataclasses.replace(estimate, high=high, interval=text)


def _mean_ranks_by(people: "np.ndarray", ranks: "np.ndarray") -> "np.ndarray":
    """Each participant's mean rank of each variant, shape (participants, k)."""
    import numpy as np

    sums = np.zeros((people.max() + 1, ranks.shape[1]))
    np.add.at(sums, people, ranks)
    return sums / np.bincount(people)[:, None]


def _tests(rankings: Rankings, variants: list[str]) -> Iterator[Row]:
    """Friedman's test in each scope, Holm over the scopes of a level; pairs by signed ranks, Holm over pairs.

    A participant's mean ranks are one observation: their answers are not independent of one another.
    """
    from itertools import combinations

    from pipeline_steps.method import ranks
    from pipeline_steps.method.estimate import Estimate, codes

    families: dict[tuple[bool, bool], list[tuple[str, str, Rankings, float]]] = {}
    for culture, item, part in _scopes(rankings):
        scores = _mean_ranks_by(codes(part.participant), part.ranks)
        family = (culture == ALL, item == ALL)
        families.setdefault(family, []).append((culture, item, part, ranks.friedman(scores)))
        both = list(combinations(range(len(variants)), 2))
        p = [ranks.wilcoxon(scores[:, a], scores[:, b]) for a, b in both]
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
