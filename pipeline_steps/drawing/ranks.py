"""The ranks of a survey as violins (paper, Fig. 5)."""

from collections.abc import Iterable

from pipeline_steps.artifacts import Row
from pipeline_steps.config import LABELS, VARIANTS
from pipeline_steps.drawing import charts
from pipeline_steps.drawing.labels import SURVEY_ITEMS, many

Panels = dict[str, dict[str, list[int]]]
"""Heading of a panel to variants to the ranks given."""


def violins(answers: Iterable[Row], simulated: bool) -> str:
    """Draw one violin per variant in a panel for each survey item, then for each culture.

    Args:
        answers: rows of a survey's answers; blank ones are left out.
        simulated: whether nobody was asked, which the title then says.

    Returns:
        The figure as SVG.

    Raises:
        ValueError: only blank answers.
    """
    panels, people = _panels(answers)
    who = many(people, "simulated participant" if simulated else "participant")
    return charts.violin_chart(f"Ranks given by {who} (1 is best)", panels, _worst(panels))


def violins_apart(answers: Iterable[Row]) -> list[str]:
    """Draw the same panels as figures of their own, which a page can put side by side."""
    panels, _ = _panels(answers)
    worst = _worst(panels)
    names = list(LABELS.values())
    return [charts.violin_chart(name, {"": panel}, worst, names) for name, panel in panels.items()]


def _panels(answers: Iterable[Row]) -> tuple[Panels, int]:
    """The ranks of each panel, and how many people gave them."""
    panels: dict[str, dict[str, list[int]]] = {}
    participants: dict[str, set[str]] = {}
    for row in answers:
        if row["ranks"] is None:
            continue
        participants.setdefault(row["culture"], set()).add(row["participant"])
        for panel in (SURVEY_ITEMS[row["item"]].panel, row["culture"]):
            given = panels.setdefault(panel, {})
            for variant, rank in zip(row["variants"], row["ranks"], strict=True):
                given.setdefault(variant, []).append(rank)
    order = [*(item.panel for item in SURVEY_ITEMS.values()), *sorted(participants)]
    headed = {
        _heading(name, participants): {LABELS[v]: panels[name][v] for v in VARIANTS if v in panels[name]}
        for name in order
        if name in panels
    }
    return headed, sum(map(len, participants.values()))


def _worst(panels: Panels) -> int:
    return max(map(len, panels.values()), default=0)


def _heading(panel: str, participants: dict[str, set[str]]) -> str:
    return f"{panel} ({many(len(participants[panel]), 'participant')})" if panel in participants else panel
