"""FLUX.2 klein's own classes at tiny size with random weights, in the hub's layout."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from transformers import Qwen3ForCausalLM

from tests.models import qwen


def build(folder: Path, distilled: bool = False) -> Path:
    """Write a model."""
    torch.manual_seed(0)
    tokenizer = qwen.tokenizer()
    # The pipeline reads the states of layers 9, 18 and 27.
    encoder = Qwen3ForCausalLM(qwen.config(28, len(tokenizer), tokenizer.pad_token_id))
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    vae = AutoencoderKLFlux2(
        block_out_channels=(4, 4, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=2
    )
    vae.bn.running_mean.normal_(std=0.2)
    vae.bn.running_var.uniform_(0.5, 2)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    pipeline = Flux2KleinPipeline(scheduler, vae, encoder, tokenizer, transformer, is_distilled=distilled)
    pipeline.save_pretrained(folder)
    return folder


def comfy_layers() -> set[str]:
    """The names under which ComfyUI knows those layers of its transformer that get a LoRA.

    As read in ComfyUI, comfy/lora.py::model_lora_keys_unet for ``Flux`` and
    comfy/utils.py::flux_to_diffusers: "transformer." and the layer's own path.
    """
    double = [
        f"transformer.transformer_blocks.0.attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")
    ]
    return {*double, "transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj"}
