"""Settings of the training: caches, losses, the picture x̂, the optimiser, and how it is watched."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipeline_steps.config.base import PositiveInt, Section, Share, Weight
from pipeline_steps.config.models import ModelRef
from pipeline_steps.config.variants import Loss

OUTSIDE = re.compile(r"^(conv_in|conv_out|(time|add)_embedding\b.*|linear_[12])$")
"""Layers of a UNet that belong to none of its blocks."""


class CacheConfig(Section):
    """Latents and text, computed once."""

    batch_size: PositiveInt = 32
    """Pictures encoded at a time, each plain and mirrored: the autoencoder sees twice as many."""
    held_out: int = Field(0, ge=0)
    """Test pictures, the first of the culture, that are kept beside the training pictures, for
    watch.validate_every; 0: none. Another number makes the cache anew, and what follows."""
    generic_captions: Path | None = None
    """File of captions that name no culture, one a line, that are kept for train.weight_prior; null: BLIP's
    alone. Another file makes the cache anew, and what follows."""


class TargetsConfig(Section):
    """Perceptual features of positives and negatives, computed once."""

    batch_size: PositiveInt = 32
    """Pictures at a time, each under all its views: the extractor of S sees views times as many."""


class PerceptualConfig(Section):
    """The perceptual distance S (paper §4.3, §6)."""

    extractor: Literal["clip", "clip_conv", "dreamsim", "dino", "blip", "blip2", "lpips"] = "clip"
    """Feature extractor: "clip" is the vision transformer of models.clip, "clip_conv"
    its convolutional RN101 (the paper)."""
    model: ModelRef | None = None
    """Weights of the extractor; by default the model of the same name in "models"."""
    layers: tuple[Annotated[int, Field(ge=-64, le=64)], ...] = (1, 2, 3)
    """Blocks whose outputs are compared; ignored by dreamsim and lpips."""
    negatives: Literal["own", "another"] = "own"
    """Whose negatives a picture is contrasted with: its own (paper §4.4), or, as a control, those of
    another picture."""
    views: PositiveInt = 1
    """Fixed views of each picture, drawn once and shared by x̂, x⁺ and x⁻; the first is the whole picture."""


class DenoisingConfig(Section):
    """From z_t to the picture x̂ (paper §4.3)."""

    steps: PositiveInt = 10
    """Most inner denoising steps."""
    by_time: bool = True
    """Take t's share of them, ⌈steps · t / T⌉; else all at every t that has as many (the paper)."""
    guidance_scale: float = Field(4.5, ge=1)
    """1 + w of the inner classifier-free guidance."""
    record: Literal["first", "last", "random"] = "first"
    """The one call of the denoiser whose gradient is recorded (Fig. 7)."""
    scheduler: Literal["ddim", "ddpm"] = "ddim"
    """Inner steps: deterministic, or the authors' stochastic ones."""


class TrainConfig(Section):
    """SCoFT LoRA training (paper §4)."""

    updates: PositiveInt = 120
    """Optimiser updates."""
    batch_size: PositiveInt = 32
    """Pictures per forward pass."""
    accumulation: PositiveInt = 1
    """Forward passes per update."""
    optimiser: Literal["adamw", "adamw_8bit"] = "adamw"
    """AdamW (fused), or with its moments in 8 bits, which wants the package bitsandbytes."""
    learning_rate: float = Field(1.4e-2, gt=0, le=1)
    """Peak learning rate of AdamW."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """From the peak to zero (or constant) over the updates, after the warm-up."""
    schedule_stretch: float = Field(1.0, ge=1)
    """Times the updates that the schedule is laid out for; at 4 a cosine ends at .85 of the peak."""
    warmup: int = Field(0, ge=0)
    """Updates of linear warm-up."""
    weight_decay: Weight = 1e-2
    """AdamW's weight decay."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """Clipping of the whole gradient."""
    lora_rank: PositiveInt = 8
    """Rank r of the LoRA."""
    lora_alpha: float | None = Field(None, gt=0)
    """LoRA scale numerator; by default equal to the rank."""
    lora_targets: tuple[str, ...] = Field(("to_q", "to_k", "to_v", "to_out.0"), min_length=1)
    """Layers that get a LoRA, by the ends of their names in diffusers: the attention's projections, and
    others of the denoiser's blocks ("ff.net.2", "proj_in", "conv1")."""
    flip: bool = False
    """Random horizontal flips, shared by a positive and its negatives. Off for the drawn world: its
    captions say left and right, and one of its patterns slants."""
    weight_ldm: Weight = 0.7
    """a of L = a·L_LDM + b·L_M + p·L_P + c·L_C: L_LDM, the denoising loss."""
    weight_m: Weight = 0.3
    """b of it: L_M, against learning the captions by heart."""
    weight_p: Weight = 0.25
    """p of it: L_P, the perceptual distance of x̂ to the picture."""
    weight_c: Weight = 0.25
    """c of it: L_C, the distance to the picture against that to its negatives."""
    memorisation_captions: Literal["one", "all"] = "one"
    """L_M against one BLIP caption drawn per step (unbiased, 1/k of the cost) or the mean of all."""
    contrast: Literal["hinge", "difference"] = "hinge"
    """L_C as Eq. 4's triplet, or the authors' S⁺ − mean S⁻ without a hinge."""
    contrast_lambda: Weight = 0.5
    """λ of Eq. 4 (not stated in the paper)."""
    contrast_margin: float = 0.0
    """m of Eq. 4 (not stated in the paper)."""
    perceptual_every: PositiveInt = 8
    """One picture in this many is looked at by L_P and L_C, counted over all that are trained on: 4 of each
    update of 32."""
    perceptual_from: float = Field(0.0, ge=0, lt=1)
    """Share of the noise schedule below which a picture is not looked at: 0.5 leaves out those with t <
    500."""
    perceptual_share: Share | None = 0.5
    """Scale L_P's gradient to this share of the diffusion gradient's norm, that of all losses without a look;
    null: nominal weight p."""
    contrast_share: Share | None = 0.5
    """Scale L_C's gradient likewise; null: nominal weight c."""
    perceptual_clip: float | None = Field(None, gt=0)
    """Clip the gradients of those of L_P and L_C that have their nominal weight apart, before they are added;
    null: not."""
    weight_prior: Weight = 0.0
    """Weight of holding the network to the un-tuned one for generic captions, BLIP's and those of
    cache.generic_captions, against bleeding into prompts that name no culture; two network calls more for
    each picture of an update that has it."""
    prior_every: PositiveInt = 1
    """Updates that have it: every n-th."""
    dpo_beta: float = Field(5000.0, gt=0)
    """β of the variant "dpo" (Diffusion-DPO's own value for Stable Diffusion 1.5 and XL)."""
    mapo_beta: float = Field(0.1, gt=0)
    """β of the variant "mapo"."""
    mapo_scale: float = Field(0.5, gt=0)
    """s of the variant "mapo": how fast a picture counts as unlikely when its error grows (their script's
    snr_value)."""
    times: Literal["logit_normal", "uniform"] = "logit_normal"
    """How a rectified flow's times are drawn, before its schedule's shift: mostly from the middle, or evenly.
    A diffusion's are drawn evenly."""
    snr_gamma: float | None = Field(None, gt=0)
    """γ of min-SNR weighting of L_LDM; null: w_t = 1, as the authors."""
    perceptual: PerceptualConfig = PerceptualConfig()
    """The distance S."""
    denoising: DenoisingConfig = DenoisingConfig()
    """The picture x̂."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Save the exponential moving average of the LoRA instead of its last state; null: not. Its memory grows
    with the updates, min(decay, (1 + n) / (10 + n)), so that the start is forgotten."""
    processes: PositiveInt = 1
    """GPUs that train one LoRA together; the batch of an update is batch_size × accumulation × processes."""
    gradient_checkpointing: bool = False
    """Trade time for memory."""
    compile: bool = False
    """Compile the denoiser (torch.compile): minutes at the start, faster updates; for long runs on a GPU."""

    def read_by(self, losses: Collection[Loss]) -> "TrainConfig":
        """Return the settings with those that a variant's training does not read as they are by default.

        So no variant is trained anew for what only others read, or what another setting switches off.
        """
        unread = [name for readers, names in READ_BY.items() if not {*readers} & {*losses} for name in names]
        if "mapo" in losses:
            unread.append("weight_ldm")  # beside its own loss L_LDM has the weight 1
        if "c" not in losses and self.contrast == "hinge":
            unread.append("weight_c")  # a difference has L_P's S⁺ in it
        if self.contrast == "difference":
            unread += ["contrast_lambda", "contrast_margin"]
        if self.weight_prior == 0:
            unread.append("prior_every")
        fields = type(self).model_fields
        return self.model_copy(update={name: fields[name].get_default() for name in unread})

    @field_validator("lora_targets")
    @classmethod
    def _layers_of_blocks(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for name in targets:
            if OUTSIDE.search(name):
                raise ValueError(
                    f"{name!r} lies outside the denoiser's blocks, where kohya-ss' networks have no LoRA; "
                    "name layers of the blocks"
                )
        return targets

    @model_validator(mode="after")
    def _weights(self) -> "TrainConfig":
        if self.weight_ldm + self.weight_m + self.weight_p + self.weight_c == 0:
            raise ValueError("all loss weights are 0: there is nothing to train on")
        if self.warmup >= self.updates:
            raise ValueError(f"warmup ({self.warmup}) must be smaller than updates ({self.updates})")
        return self


READ_BY: dict[tuple[Loss, ...], tuple[str, ...]] = {
    ("ldm",): ("weight_ldm", "snr_gamma"),
    ("m",): ("weight_m", "memorisation_captions"),
    ("p", "c"): (
        "weight_p",
        "weight_c",
        "contrast",
        "perceptual_every",
        "perceptual_from",
        "perceptual_share",
        "perceptual_clip",
        "perceptual",
        "denoising",
    ),
    ("c",): ("contrast_lambda", "contrast_margin", "contrast_share"),
    ("dpo",): ("dpo_beta",),
    ("mapo",): ("mapo_beta", "mapo_scale"),
}
"""Settings that only trainings with one of these losses read; all others are read by every training."""


class WatchConfig(Section):
    """How a training is watched and kept safe; nothing here changes a LoRA, or makes one anew."""

    tensorboard: bool = True
    """Write losses, gradient norms and sample pictures for TensorBoard beside the LoRA."""
    wandb: str | None = Field(None, min_length=1)
    """Project on Weights & Biases to log to as well, which wants the package wandb; null: not."""
    sample_every: int = Field(100, ge=0)
    """Updates between sample pictures on the boards, from the same captions and noise; 0: none."""
    sample_pictures: PositiveInt = 4
    """Sample pictures each time."""
    validate_every: int = Field(0, ge=0)
    """Updates between measurements of the held-out loss: L_LDM of the test pictures that cache.held_out
    keeps, with the same times and noise; 0: none."""
    checkpoint_every: PositiveInt = 50
    """Updates between checkpoints."""
    checkpoints_kept: PositiveInt = 2
    """Checkpoints kept."""
    checkpoints: str | None = Field(None, min_length=1)
    """Address below which each training keeps them as well, for another machine to go on from: s3://… or
    another of fsspec's, which wants its package (s3fs), or a shared folder; null: beside the LoRA only."""


class ExportConfig(Section):
    """What the LoRA's files say of themselves to other programs and on a hub; no tensor depends on it."""

    author: str | None = Field(None, min_length=1)
    """Who made it: a person or group as they want to be called; null: not said."""
    date: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    """When it was made ("2026-11-26"); null: not said, for a clock's date would change the file each time."""
    licence: str | None = Field(None, min_length=1)
    """Its licence, as huggingface.co names licences ("cc-by-nc-4.0"); null: that of the base model, where it
    is known here. The base model's terms bind it as well, and so do those of the pictures."""
    contact: str | None = Field(None, min_length=1)
    """Where those whose pictures are in it, or who find fault with it, can write to; null: not said."""
