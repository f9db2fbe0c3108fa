"""Settings of the plan."""

from typing import Literal

from pydantic import Field

from pipeline_steps.config.base import PositiveInt, Section


class PlanConfig(Section):
    """The estimate of `snakemake --cores 1 plan`."""

    gpu: Literal["rtx_4060", "rtx_3060", "rtx_3090_ti", "a40", "a100", "h100"] = "a100"
    """Card whose time is estimated."""
    utilisation: float | None = Field(None, gt=0, le=1)
    """Share of the card's peak that is reached. null: in training what was measured on such a card
    (resources/measured/gpu.json, yours or the package's), and otherwise an assumed 0.35."""
    pictures: PositiveInt = 150
    """Training pictures of a culture."""
    prompts: PositiveInt = 10
    """Test prompts of a culture."""
