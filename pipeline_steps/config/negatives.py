"""Settings of the negatives: captions, depth, synthesis, filter."""

from typing import Literal

from pydantic import Field

from pipeline_steps.config.base import PositiveInt, Section


class CaptionConfig(Section):
    """BLIP captions (paper §4.2); how many and how drawn is our choice."""

    captions_per_image: PositiveInt = 5
    """Captions drawn per picture."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Nucleus: share of probability from which each word is drawn."""
    max_new_tokens: PositiveInt = 30
    """Longest caption in tokens."""
    batch_size: PositiveInt = 16
    """Pictures per forward pass."""


class DepthConfig(Section):
    """MiDaS depth of the positives (paper §4.4)."""

    batch_size: PositiveInt = 16
    """Pictures per forward pass."""


class NegativesConfig(Section):
    """Negatives drawn by the un-tuned model (paper §4.4)."""

    structure: Literal["depth", "noise"] = "depth"
    """What a negative keeps of its picture: its depth, by the ControlNet (paper §4.4), or, for models without
    one, what is left of the picture itself under noise."""
    strength: float = Field(0.8, gt=0, le=1)
    """How far the picture is noised where structure is "noise": a share of the model's own schedule; at 1
    nothing of it is left."""
    per_positive: PositiveInt = 5
    """Negatives per training picture."""
    steps: PositiveInt = 20
    """Denoising steps."""
    guidance_scale: float = Field(7.5, ge=1)
    """Classifier-free guidance."""
    controlnet_scale: float = Field(1.0, ge=0, le=2)
    """Strength of the depth condition; read where structure is "depth"."""
    batch_size: PositiveInt = 16
    """Pictures per forward pass."""
    offload: bool = False
    """Keep on the card only the networks that are at work, as sample.offload does."""


class FilterConfig(Section):
    """DreamSim filter of false negatives (paper §4.4; the threshold is not stated there)."""

    min_distance: float = Field(0.1, ge=0, le=2)
    """Negatives closer than this to their positive are dropped. The default is the embedded DreamSim's."""
    batch_size: PositiveInt = 32
    """Pictures per forward pass."""
