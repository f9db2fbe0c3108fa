"""The ranks of a survey as violins (paper, Fig. 5)."""

from collections.abc import Iterable

from pipeline_steps.artifacts import Row
from pipeline_steps.config import LABELS, VARIANTS
from pipeline_steps.drawing import charts
from pipeline_steps.drawing.labels import SURVEY_ITEMS, many


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
    rows = {
        _heading(name, participants): {LABELS[v]: panels[name][v] for v in VARIANTS if v in panels[name]}
        for name in order
        if name in panels
    }
    worst = max(map(len, rows.values()), default=0)
    people = sum(map(len, participants.values()))
    who = many(people, "simulated participant" if simulated else "participant")
    return charts.violin_chart(f"Ranks given by {who} (1 is best)", rows, worst)


def _heading(panel: str, participants: dict[str, set[str]]) -> str:
    return f"{panel} ({many(len(participants[panel]), 'participant')})" if panel in participants else panel
