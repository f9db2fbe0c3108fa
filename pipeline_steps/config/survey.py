"""Settings of the human survey."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from pipeline_steps.config.base import EachOnce, PositiveInt, Section, Share
from pipeline_steps.config.variants import VARIANTS, Variant


class SimulationConfig(Section):
    """Simulated participants: they try the survey out and say how many real ones are needed."""

    participants: PositiveInt = 12
    """Participants of each culture."""
    strengths: dict[str, float] = Field({"sd": 0.0, "scoft_m": 0.7, "scoft_mp": 1.0, "scoft_mpc": 1.8})
    """How good each variant truly is, on the Plackett–Luce log scale: a difference of 1 wins 73% of pairs."""
    careless: Share = 0.0
    """Share of participants who rank at random."""
    adversarial: Share = 0.0
    """Share of participants who rank the other way round."""
    power_participants: tuple[PositiveInt, ...] = (5, 10, 20, 40)
    """Sizes of the crowds in the power table."""
    power_careless: tuple[Share, ...] = (0.0, 0.3)
    """Shares of careless participants in it."""
    power_adversarial: tuple[Share, ...] = (0.0, 0.2)
    """Shares of adversarial participants in it."""
    power_trials: PositiveInt = 100
    """Simulated surveys behind each of its rows."""
    difference: float = Field(0.6, gt=0.5, lt=1)
    """A difference worth seeing when people are counted beforehand: the share of pages on which the better of
    two variants stands higher; 0.5 is none."""
    chance: float = Field(0.8, gt=0, lt=1)
    """How sure the survey shall be to see it."""

    @field_validator("strengths")
    @classmethod
    def _variants(cls, strengths: dict[str, float]) -> dict[str, float]:
        if unknown := set(strengths) - set(VARIANTS):
            raise ValueError(f"no such variant: {', '.join(sorted(unknown))}")
        return strengths


class JudgeConfig(Section):
    """A model that answers the survey's own pages (models.judge). It is never one of the people."""

    turns: PositiveInt | None = None
    """How often a page is shown to it, its pictures moved on by one place each time; null: until each has
    stood at every place."""
    max_new_tokens: PositiveInt = 32
    """Longest reply."""
    errors: Share = 0.0
    """Of the oracle: share of its rankings that are drawn at random instead."""


class SurveyConfig(Section):
    """The human survey (paper §5): its pages, its answers and how they are summed up."""

    cultures: Annotated[tuple[str, ...], EachOnce] = ()
    """Cultures surveyed; none named: all."""
    variants: Annotated[tuple[Variant, ...], EachOnce] = Field(
        ("sd", "scoft_m", "scoft_mp", "scoft_mpc"), min_length=2
    )
    """Variants whose pictures are ranked."""
    pages: PositiveInt = 20
    """Pages drawn for each culture; a page is one prompt and one seed."""
    pages_per_participant: PositiveInt = 10
    """Pages each participant sees."""
    attention_checks: int = Field(0, ge=0, le=10)
    """Pages beside these that ask for a given order, to find who does not read."""
    failed_checks: int = Field(0, ge=0)
    """Participants who fail more checks than this are left out."""
    min_years: float = Field(5, ge=0, le=120)
    """Years lived in the culture from which on someone may take part."""
    wording: Path | Annotated[tuple[Path, ...], EachOnce, Field(min_length=1)] = Path(
        "resources/survey/wording.en.yaml"
    )
    """Every sentence participants read, or a list of such files: participants choose their language, and the
    first one is the page's. Translate by copying the file."""
    translations: Path | None = None
    """The prompts in other languages: a table with a column "prompt" and one for each language, e.g. "ko"."""
    codes: Path | None = None
    """Participants' codes, one a line; answers under any other are left out. null: anyone may answer."""
    jpeg_quality: int | None = Field(92, ge=50, le=100)
    """Pictures inside the page are JPEG of this quality; null: PNG, five times as large."""
    answers: Path = Path("answers")
    """Folder of collected answers in any accepted form."""
    rounds: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]] = Field({})
    """Earlier rounds that are summed up in the place of the present pages, by culture: the names of files in
    results/survey/{culture}/rounds, which hold what stood where when these people were asked."""
    judge: JudgeConfig = JudgeConfig()
    """The judge."""
    simulation: SimulationConfig = SimulationConfig()
    """Simulated participants."""

    @property
    def wordings(self) -> tuple[Path, ...]:
        """The files of all languages offered."""
        return (self.wording,) if isinstance(self.wording, Path) else self.wording
