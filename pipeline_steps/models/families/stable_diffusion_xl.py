"""Stable Diffusion XL: two text encoders, and a UNet that is told the picture's size."""

import re
from typing import Any, ClassVar

import torch

from pipeline_steps.method.denoising import Condition
from pipeline_steps.models import blueprints
from pipeline_steps.models.families.family import Kind
from pipeline_steps.models.families.stable_diffusion import StableDiffusion

RESNET = {"conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "conv2": "out_layers.3"}
RESNET |= {"conv_shortcut": "skip_connection"}
"""Layers of a residual block: diffusers' names to those of SDXL's own code."""


class StableDiffusionXL(StableDiffusion):
    """Its condition has three tensors.

    ``encoder_hidden_states`` (n, 77, d) are those of both encoders side by side, ``text_embeds`` (n, p) is
    the pooled state of the second, and ``time_ids`` (n, 6) are the picture's size, the corner of its crop and
    the crop's size, in pixels.
    """

    title = "Stable Diffusion XL"
    pipeline = "StableDiffusionXLPipeline"
    controlled = "StableDiffusionXLControlNetPipeline"
    text_encoders = ("text_encoder", "text_encoder_2")
    # No watermark where a package for it happens to be installed.
    options: ClassVar[dict[str, Any]] = {"add_watermarker": False}

    def _arguments(self, condition: Condition) -> dict[str, Any]:
        added = {name: value for name, value in condition.items() if name != "encoder_hidden_states"}
        return super()._arguments(condition) | {"added_cond_kwargs": added}

    def _encode_prompts(self, pipeline: Any, prompts: list[str]) -> Condition:
        """Encode prompts; where the model was trained on zeros for the empty one, it is zeros."""
        names = ("encoder_hidden_states", "text_embeds")
        condition = dict(zip(names, self._embeddings(pipeline, prompts), strict=True))
        if pipeline.config.get("force_zeros_for_empty_prompt", False):
            for value in condition.values():
                value[[prompt == "" for prompt in prompts]] = 0
        return condition

    def picture_condition(self, count: int, width: int, height: int) -> Condition:
        """The cropped picture is the whole of an original of that size."""
        size = (height, width, 0, 0, height, width)
        return {"time_ids": torch.tensor(size, dtype=torch.float32).expand(count, -1)}

    def condition_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return those of all three."""
        second = blueprints.configuration(self.base, "text_encoder_2", "text_encoder_2")
        pooled = {"text_embeds": (second["projection_dim"],), "time_ids": (6,)}
        return super().condition_shapes() | pooled

    def kind(self) -> Kind:
        """Layers in kohya-ss' files have the names of SDXL's own code."""
        return Kind(
            "stable-diffusion-xl-v1-base",
            version="sdxl_base_v1-0",
            layers="https://github.com/Stability-AI/generative-models",
        )

    def kohya_module(self, layer: str) -> str:
        """Return the name in SDXL's own code, which counts blocks through.

        The first of them is conv_in. A block of the way down holds two residual blocks and a step down, one
        of the way up three residual blocks.
        """
        found = re.fullmatch(r"(down|mid|up)_blocks?\.(?:(\d)\.)?(\w+)\.(\d)\.(.+)", layer)
        if found:
            way, block, kind, number, rest = found.groups()
            place = _place(way, int(block or 0), kind, int(number))
            layer = f"{place}.{'op' if kind == 'downsamplers' else RESNET.get(rest, rest)}"
        return super().kohya_module(layer)

    def vae(self) -> Any:
        """Load the autoencoder, frozen.

        SDXL's own says of itself that it overflows in float16 (``force_upcast``) and then works in float32.
        """
        model = super().vae()
        return model.float() if model.dtype == torch.float16 and model.config.force_upcast else model


def _place(way: str, block: int, kind: str, number: int) -> str:
    """Return where SDXL's own code has the n-th module of a kind in one of diffusers' blocks."""
    part = 1 if kind == "attentions" else 0
    if way == "mid":
        return f"middle_block.{1 if part else 2 * number}"
    if kind == "downsamplers":
        return f"input_blocks.{3 * block + 3}.0"
    if kind == "upsamplers":
        return f"output_blocks.{3 * block + 2}.2"
    if way == "down":
        return f"input_blocks.{3 * block + number + 1}.{part}"
    return f"output_blocks.{3 * block + number}.{part}"
