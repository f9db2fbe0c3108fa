"""Stable Diffusion 1.x, 2.x and XL."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline_steps.config import BaseRef, ModelRef
from pipeline_steps.errors import UserError
from pipeline_steps.method.denoising import Condition
from pipeline_steps.models.loading import device, frozen, load, load_network, weights

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel


def unet(base: BaseRef) -> "UNet2DConditionModel":
    """Load the denoiser, frozen."""
    from diffusers import UNet2DConditionModel

    model: UNet2DConditionModel = load_network(UNet2DConditionModel, base, "base", subfolder="unet")
    return frozen(model)


def vae(base: BaseRef) -> "AutoencoderKL":
    """Load the autoencoder, frozen: the model's own or the one named in its place.

    SDXL's own says of itself that it overflows in float16 (``force_upcast``) and then works in float32.
    """
    model = frozen(_vae(base))
    overflows = model.dtype == torch.float16 and model.config["force_upcast"] and is_xl(base)
    return model.float() if overflows else model


def _vae(base: BaseRef) -> "AutoencoderKL":
    from diffusers import AutoencoderKL

    model: AutoencoderKL
    if base.vae:
        model = load_network(AutoencoderKL, base.vae, "base.vae", base)
    else:
        model = load_network(AutoencoderKL, base, "base", subfolder="vae")
    if base.vae_slicing:
        model.enable_slicing()
    return model


def pipeline_class(base: BaseRef) -> str:
    """Return the pipeline that the model's own model_index.json names.

    Raises:
        UserError: no such file, or a pipeline this method cannot train.
    """
    from diffusers import DiffusionPipeline

    found: str = load(DiffusionPipeline, base, "base", "load_config")["_class_name"]
    if found not in ("StableDiffusionPipeline", "StableDiffusionXLPipeline"):
        raise UserError(
            f"models.base: '{base.path}' is a {found}; name a Stable Diffusion 1.x, 2.x or XL model "
            "(StableDiffusionPipeline or StableDiffusionXLPipeline in its model_index.json)"
        )
    return found


def is_xl(base: BaseRef) -> bool:
    """Whether the model has SDXL's two text encoders and size conditions."""
    return pipeline_class(base) == "StableDiffusionXLPipeline"


def _pipeline(base: BaseRef, controlled: bool = False, **parts: Any) -> Any:
    """Load the model's pipeline with some parts replaced or, by None, left out."""
    import diffusers

    name = pipeline_class(base)
    if controlled:
        name = name.replace("Pipeline", "ControlNetPipeline")
    # No black pictures of a safety checker among the scored ones, nor a watermark where a package
    # for it happens to be installed.
    unscored = (
        {"add_watermarker": False} if is_xl(base) else {"safety_checker": None, "feature_extractor": None}
    )
    pipeline = load(getattr(diffusers, name), base, "base", **weights(base), **parts, **unscored)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device())


def prompt_encoder(base: BaseRef) -> "Callable[[Sequence[str]], Condition]":
    """Load the text encoders as a function of prompts to what the UNet is conditioned on.

    The pipeline's own code encodes: prompts over the limit of 77 tokens are cut with the end token
    kept. Of Stable Diffusion 1.x and 2.x there is ``encoder_hidden_states`` (n, 77, d); of SDXL those
    of both encoders side by side, and ``text_embeds`` (n, p), the pooled state of the second. Where
    SDXL was trained on zeros for the empty prompt, the empty prompt is zeros.
    """
    pipeline = _pipeline(base, unet=None, vae=None)
    zeros = pipeline.config.get("force_zeros_for_empty_prompt", False)
    names = ["encoder_hidden_states"] + ["text_embeds"] * is_xl(base)

    @torch.inference_mode()
    def encode(prompts: Sequence[str]) -> Condition:
        found = pipeline.encode_prompt(
            list(prompts), device=device(), num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        # The pipelines return (caption, null) and, for SDXL, (pooled caption, pooled null) after them.
        condition = dict(zip(names, found[::2], strict=True))
        if zeros:
            for value in condition.values():
                value[[prompt == "" for prompt in prompts]] = 0
        return condition

    return encode


def noise_schedule(base: BaseRef) -> "DDPMScheduler":
    """Load the training noise schedule (``alphas_cumprod``, ``prediction_type``)."""
    from diffusers import DDPMScheduler

    schedule: DDPMScheduler = load(DDPMScheduler, base, "base", subfolder="scheduler")
    return schedule


def _generation(pipeline: Any) -> Any:
    """DPM-Solver++ (paper §5 setting)."""
    from diffusers import DPMSolverMultistepScheduler

    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, algorithm_type="dpmsolver++"
    )
    return pipeline


def text_to_image(base: BaseRef, lora: Path | None = None) -> Any:
    """Load the model's pipeline for sampling, with a LoRA where one is given."""
    pipeline = _pipeline(base, vae=_vae(base))
    if lora is not None:
        pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    return _generation(pipeline)


def depth_to_image(base: BaseRef, controlnet: ModelRef) -> Any:
    """Load the un-tuned model with depth control for the negatives."""
    from diffusers import ControlNetModel

    control = load_network(ControlNetModel, controlnet, "controlnet", base)
    return _generation(_pipeline(base, controlled=True, controlnet=control, vae=_vae(base)))
