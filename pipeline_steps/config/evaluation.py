"""Settings of the evaluation: generated pictures, their features and scores."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline_steps.config.base import EachOnce, Name, PositiveInt, Section
from pipeline_steps.config.training import PerceptualConfig
from pipeline_steps.config.variants import Variant


class SampleConfig(Section):
    """Generation for evaluation (paper §5)."""

    images_per_prompt: PositiveInt = 20
    """Pictures per prompt; their seeds are common to all variants."""
    steps: PositiveInt = 50
    """DPM-Solver++ steps."""
    guidance_scale: float = Field(4.5, ge=1)
    """Classifier-free guidance."""
    batch_size: PositiveInt = 20
    """Pictures per forward pass."""


class FeaturesConfig(Section):
    """What each network sees in the pictures: read by every score."""

    batch_size: PositiveInt = 64
    """Pictures per forward pass."""


class ScoreConfig(Section):
    """Scores and their intervals (paper §5, §6)."""

    variants: Annotated[tuple[Variant, ...], EachOnce] = Field(("sd", "scoft_mpc"), min_length=1)
    """Variants in results/<culture>/scores.parquet and on the report."""
    neighbours: PositiveInt = 5
    """k of density and coverage."""


class EvaluationConfig(Section):
    """What the tables and figures need (paper §5, §6)."""

    prompts: Path = Path("resources/prompts/mini.txt")
    """Test prompts of the cultures that have no own, one a line; a culture's suffix is appended to each."""
    train_prompts: PositiveInt = 10
    """Captions of training pictures drawn as prompts (Table 2)."""
    coco: Path = Path("resources/mini/coco")
    """MS-COCO's val2017 and annotations, or a folder with metadata.jsonl (Table 1)."""
    coco_pictures: int = Field(100, ge=2)
    """Pictures drawn from it; each caption is a prompt, once per variant."""
    generic_prompts: Path = Path("resources/prompts/mini_generic.txt")
    """Prompts that name no culture (Fig. 8), one a line."""
    fig7_cultures: Annotated[tuple[str, ...], EachOnce] = ()
    """Cultures over which Fig. 7 takes the mean; by default all."""
    fig7_extractors: dict[Name, PerceptualConfig] = Field(
        {name: PerceptualConfig(extractor=name) for name in ("clip", "dreamsim", "dino")}, min_length=1
    )
    """Distances compared, by name; the first one also with every recording of the gradient."""
    fig7_updates: Annotated[tuple[PositiveInt, ...], EachOnce] = Field((30, 60, 120), min_length=1)
    """Lengths of training; each point is a training of its own, with its whole schedule."""
