"""Settings of the report and of the study of the embedded world."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline_steps.config.base import EachOnce, PositiveInt, Section


class ReportConfig(Section):
    """The page results/report.html."""

    include: Annotated[
        tuple[Literal["table1", "table2", "fig5", "fig6", "fig7", "fig8", "kid_power"], ...], EachOnce
    ] = ()
    """The paper's tables and figures to add; what they need is made for all cultures."""
    negatives: bool = True
    """Show negatives; false after ``purge_negatives``, or the page asks for new ones."""
    opening: PositiveInt = 6
    """Pictures of each culture, before and after, that the page opens with."""
    pictures_per_prompt: PositiveInt = 4
    """Pictures of each prompt on the contact sheets."""
    positives: PositiveInt = 12
    """Training pictures shown with their depth and negatives."""
    thumbnail: int = Field(96, ge=16, le=512)
    """Longest side of a shown picture in pixels."""


class StudyConfig(Section):
    """What results/embedded_world.csv sums up, and the curves; runs are named in "runs"."""

    seeds: tuple[str, ...] = ()
    """Runs that differ from the default one in their seed alone."""
    controls: tuple[str, ...] = ()
    """Runs of the full variant with other negatives."""
    control_cultures: tuple[str, ...] = ()
    """Cultures in which the controls are run."""
    lengths: tuple[str, ...] = ()
    """Runs of all variants with other numbers of updates: the points of the curves."""
    length_cultures: tuple[str, ...] = ()
    """Cultures over which the curves take the mean."""
