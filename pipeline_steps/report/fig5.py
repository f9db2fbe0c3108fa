"""Fig. 5: how often each rank was given, by survey item and by culture."""

from pathlib import Path

from pipeline_steps.artifacts import ANSWERS, write_text
from pipeline_steps.cli import run_step
from pipeline_steps.drawing.ranks import violins
from pipeline_steps.errors import UserError


def fig5(answers: Path, chart: Path) -> None:
    """Draw one violin per variant in a panel for each survey item, then for each culture.

    Args:
        answers: a survey's good answers; simulated participants are named in the title.
        chart: SVG file to write.

    Raises:
        UserError: only blank answers.
    """
    if all(row["ranks"] is None for row in ANSWERS.rows(answers, ["ranks"])):
        raise UserError(f"{answers}: all answers are blank; nothing to draw")
    write_text(chart, violins(ANSWERS.rows(answers), ANSWERS.note(answers)["simulated"]))


if __name__ == "__main__":
    run_step(fig5)
