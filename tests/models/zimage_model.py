"""Z-Image's own classes at tiny size with random weights, in the hub's layout."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImageControlNetModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import Qwen3Model

from tests.models import qwen

SIZES = {"dim": 32, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2}


def build(folder: Path, shift: float = 6.0) -> Path:
    """Write ``base/`` and ``controlnet/``."""
    torch.manual_seed(0)
    tokenizer = qwen.tokenizer()
    encoder = Qwen3Model(qwen.config(3, len(tokenizer), tokenizer.pad_token_id))
    transformer = ZImageTransformer2DModel(
        in_channels=4, n_layers=2, cap_feat_dim=16, axes_dims=[4, 6, 6], axes_lens=[640, 16, 16], **SIZES
    )
    control = ZImageControlNetModel(control_layers_places=[0, 1], control_in_dim=5, **SIZES)
    for network in (transformer, control):
        for name, parameter in network.named_parameters():
            if "norm" not in name:  # zeros at the start would hide what is left out
                torch.nn.init.normal_(parameter, std=0.1)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        norm_num_groups=2,
        latent_channels=4,
        scaling_factor=0.5,
        shift_factor=0.1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    ZImagePipeline(scheduler, vae, encoder, tokenizer, transformer).save_pretrained(folder / "base")
    control.save_pretrained(folder / "controlnet")
    return folder


def comfy_layers(folder: Path) -> set[str]:
    """The names under which ComfyUI knows the layers of a diffusers' transformer of these settings.

    As read in ComfyUI, comfy/lora.py::model_lora_keys_unet for ``Lumina2`` and
    comfy/utils.py::z_image_to_diffusers: "diffusion_model." and, in each block of layers,
    context_refiner and noise_refiner, attention.to_q, to_k, to_v and to_out.0 among others.
    """
    settings = json.loads((folder / "transformer/config.json").read_text())
    blocks = [f"layers.{n}" for n in range(settings["n_layers"])]
    for part in ("context_refiner", "noise_refiner"):
        blocks += [f"{part}.{n}" for n in range(settings["n_refiner_layers"])]
    names = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")
    return {f"diffusion_model.{block}.{name}" for block in blocks for name in names}
