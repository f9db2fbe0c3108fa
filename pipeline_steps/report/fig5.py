"""Fig. 5: how often each rank was given, by survey item and by culture."""

from pathlib import Path

from pipeline_steps.artifacts import ANSWERS, write_text
from pipeline_steps.cli import run_step
from pipeline_steps.config import LABELS, VARIANTS
from pipeline_steps.drawing import charts
from pipeline_steps.errors import UserError

ITEMS = {
    "description": "Description and image alignment",
    "representation": "Cultural representation",
    "stereotypes": "Stereotypes",
    "offensiveness": "Offensiveness",
}


def fig5(answers: Path, chart: Path) -> None:
    """Draw one violin per variant in a panel for each survey item, then for each culture.

    Args:
        answers: a survey's good answers; simulated participants are named in the title.
        chart: SVG file to write.

    Raises:
        UserError: only blank answers.
    """
    write_text(chart, violins(answers))


def violins(answers: Path) -> str:
    """Return the figure as SVG.

    Raises:
        UserError: only blank answers.
    """
    panels: dict[str, dict[str, list[int]]] = {}
    participants: dict[str, set[str]] = {}
    for row in ANSWERS.rows(answers):
        if row["ranks"] is None:
            continue
        participants.setdefault(row["culture"], set()).add(row["participant"])
        for panel in (ITEMS[row["item"]], row["culture"]):
            given = panels.setdefault(panel, {})
            for variant, rank in zip(row["variants"], row["ranks"], strict=True):
                given.setdefault(variant, []).append(rank)
    if not panels:
        raise UserError(f"{answers}: all answers are blank; nothing to draw")
    order = [*ITEMS.values(), *sorted(participants)]
    rows = {
        _panel(name, participants): {LABELS[v]: panels[name][v] for v in VARIANTS if v in panels[name]}
        for name in order
        if name in panels
    }
    worst = max(len(given) for given in rows.values())
    people = sum(map(len, participants.values()))
    who = (
        f"{people} simulated participants" if ANSWERS.note(answers)["simulated"] else f"{people} participants"
    )
    return charts.violin_chart(f"Ranks given by {who} (1 is best)", rows, worst)


def _panel(name: str, participants: dict[str, set[str]]) -> str:
    return f"{name} ({len(participants[name])} participants)" if name in participants else name


if __name__ == "__main__":
    run_step(fig5)
