"""Settings of the report and of the study of the embedded world."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline_steps.config.base import EachOnce, Name, PositiveInt, Section
from pipeline_steps.config.variants import FULL_VARIANT, Variant


class ReportConfig(Section):
    """The page results/report.html."""

    include: Annotated[
        tuple[Literal["table1", "table2", "fig5", "fig6", "fig7", "fig8", "kid_power", "bleed"], ...],
        EachOnce,
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


class Control(Section):
    """A training that the study sets beside the full variant: a run's changes and a variant."""

    variant: Variant = FULL_VARIANT
    """What is trained with the run's changes."""
    seeds: tuple[str, ...] = ()
    """Runs of study.seeds in which it is trained too, beside the default one."""


class StudyConfig(Section):
    """What results/embedded_world.csv sums up, and the curves; runs are named in "runs"."""

    seeds: tuple[str, ...] = ()
    """Runs that differ from the default one in their seed alone."""
    controls: dict[Name, Control] = Field({})
    """Runs that are compared with the full variant, seed by seed: other negatives, other baselines, other
    lengths of training."""
    pairs: tuple[tuple[Name, Name], ...] = ()
    """Controls that are compared with one another, the second less the first."""
    lengths: tuple[str, ...] = ()
    """Runs of all variants with other numbers of updates: the points of the curves."""
    length_cultures: tuple[str, ...] = ()
    """Cultures over which the curves take the mean."""
