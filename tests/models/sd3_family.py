"""Stable Diffusion 3 as a further family, for tests alone: its own classes at tiny size, random weights."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch import Tensor

from pipeline_steps.method.denoising import Condition
from pipeline_steps.method.processes import RectifiedFlow
from pipeline_steps.models import blueprints
from pipeline_steps.models.families.family import Family
from pipeline_steps.models.loading import device, load

TOKENIZER = Path("resources/mini/base/tokenizer")


class StableDiffusion3(Family):
    """Its condition is ``encoder_hidden_states`` (n, 77 + 256, d), ``pooled_projections`` (n, p)."""

    title = "Stable Diffusion 3"
    pipeline = "StableDiffusion3Pipeline"
    denoiser_class = "SD3Transformer2DModel"
    denoiser_part = "transformer"
    text_encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    tokenizer_part = "tokenizer_3"
    tokens = 256
    patch = 2

    def noise_process(self, positions=None, density="logit_normal") -> RectifiedFlow:
        settings = load(FlowMatchEulerDiscreteScheduler, self.base, "base", subfolder="scheduler").config
        return RectifiedFlow(settings.shift, density, settings.num_train_timesteps)

    def predict(self, denoiser: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return denoiser(hidden_states=z, timestep=1000 * t, **condition).sample

    def _encode_prompts(self, pipeline: Any, prompts: list[str]) -> Condition:
        hidden, _, pooled, _ = pipeline.encode_prompt(
            prompts, None, None, device=device(), do_classifier_free_guidance=False
        )
        return {"encoder_hidden_states": hidden, "pooled_projections": pooled}

    def condition_shapes(self) -> dict[str, tuple[int, ...]]:
        settings = blueprints.configuration(self.base, "transformer", "transformer")
        return {
            "encoder_hidden_states": (77 + self.tokens, settings["joint_attention_dim"]),
            "pooled_projections": (settings["pooled_projection_dim"],),
        }

    def kohya_module(self, layer: str) -> str:
        return f"lora_transformer_{layer.replace('.', '_')}"


def build(folder: Path) -> Path:
    """Write a model in the hub's layout."""
    torch.manual_seed(0)
    clip = transformers.CLIPTokenizer.from_pretrained(TOKENIZER)
    ids = json.loads((TOKENIZER.parent / "text_encoder/config.json").read_text())
    words = {name: ids[name] for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}

    def text_encoder(width: int, projection: int) -> transformers.CLIPTextModelWithProjection:
        settings = {"hidden_size": width, "intermediate_size": 16, "projection_dim": projection}
        settings |= {"num_attention_heads": 2, "num_hidden_layers": 2}
        return transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**words, **settings))

    letters = ["<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz,"]
    t5 = transformers.T5Config(
        vocab_size=len(letters), d_model=24, d_kv=4, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    pipeline = StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=24,
            caption_projection_dim=16,
            pooled_projection_dim=12,
            pos_embed_max_size=12,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4, 4, 8, 8),
            norm_num_groups=2,
            latent_channels=4,
            scaling_factor=1.5,
            shift_factor=0.06,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=text_encoder(8, 4),
        text_encoder_2=text_encoder(12, 8),
        text_encoder_3=transformers.T5EncoderModel(t5),
        tokenizer=clip,
        tokenizer_2=clip,
        tokenizer_3=transformers.T5Tokenizer(
            vocab=[(letter, -float(rank)) for rank, letter in enumerate(letters)], extra_ids=0
        ),
    )
    pipeline.save_pretrained(folder)
    return folder
