"""FLUX.2 klein: a transformer over packed latents and a Qwen3's states, on a rectified flow."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from pipeline_steps.errors import UserError
from pipeline_steps.method.denoising import Condition
from pipeline_steps.models import blueprints
from pipeline_steps.models.families.flow import FlowFamily
from pipeline_steps.models.loading import device

LAYERS = 3
"""Layers of the text encoder whose states the pipeline puts side by side."""
STEPS = 50
"""Steps for which the schedule's shift is taken, the pipeline's own number: it depends a little on them."""


class Flux2Klein(FlowFamily):
    """Its condition is ``encoder_hidden_states`` (n, 512, d), padding included, as the pipeline has it.

    Its latents are 2 × 2 patches of the autoencoder's, put to mean 0 and deviation 1 channel by channel.
    """

    title = "FLUX.2 klein"
    pipeline = "Flux2KleinPipeline"
    denoiser_class = "Flux2Transformer2DModel"
    denoiser_part = "transformer"
    autoencoder_class = "AutoencoderKLFlux2"
    tokens = 512
    thinking = False
    patch = 2
    usual_positions = 64 * 64
    lora_layers: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0", "to_qkv_mlp_proj")

    def refuse(self) -> None:
        """Refuse the distilled model, which says so in its index."""
        index = blueprints.lookup(self.base, "model_index") or {}
        if index.get("is_distilled"):
            raise UserError(
                f"models.base: '{self.base.path}' is distilled to a few steps without guidance, which these "
                "losses would undo; train on black-forest-labs/FLUX.2-klein-base-4B, whose LoRA it takes"
            )

    def _mu(self, positions: int, settings: Any) -> float:
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return compute_empirical_mu(positions, STEPS)

    def predict(self, denoiser: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Call the transformer at σ; every position has its coordinates."""
        from diffusers import Flux2KleinPipeline

        states = condition["encoder_hidden_states"]
        found: Tensor = denoiser(
            hidden_states=z.flatten(2).transpose(1, 2),
            encoder_hidden_states=states,
            timestep=t,
            img_ids=Flux2KleinPipeline._prepare_latent_ids(z[:1]).to(z.device),
            txt_ids=Flux2KleinPipeline._prepare_text_ids(states[:1]).to(z.device),
            return_dict=False,
        )[0]
        return found.transpose(1, 2).unflatten(2, z.shape[2:])

    def _encode_prompts(self, pipeline: Any, prompts: list[str]) -> Condition:
        return {"encoder_hidden_states": pipeline.encode_prompt(prompts, device=device())[0]}

    def condition_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return that of the states."""
        settings = blueprints.configuration(self.base, "transformer", "transformer")
        return {"encoder_hidden_states": (self.tokens, settings["joint_attention_dim"])}

    def encode_pictures(self, vae: Any, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of pictures' latents, in patches, by the statistics kept in the vae."""
        posterior = vae.encode(unit.to(vae.device, vae.dtype) * 2 - 1).latent_dist
        mean, std = _statistics(vae)
        return (_patched(posterior.mean) - mean) / std, _patched(posterior.std) / std

    def decode_latents(self, vae: Any, latents: Tensor) -> Tensor:
        """Return latents' pictures, float32, with gradient."""
        mean, std = _statistics(vae)
        inner = torch.pixel_shuffle(latents * std + mean, 2)
        pictures: Tensor = vae.decode(inner.to(vae.dtype)).sample
        return (pictures.float() / 2 + 0.5).clamp(0, 1)

    def kohya_module(self, layer: str) -> str:
        """Return ComfyUI's name: it reads the layers of diffusers' transformer under a prefix.

        ComfyUI, comfy/lora.py::model_lora_keys_unet, the branch of ``Flux``, with
        comfy/utils.py::flux_to_diffusers, which knows FLUX.2's joined layers.
        """
        return f"transformer.{layer}"


def _statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of the patches, (1, 4c, 1, 1)."""
    mean, variance = (value.view(1, -1, 1, 1) for value in (vae.bn.running_mean, vae.bn.running_var))
    return mean, (variance + vae.config.batch_norm_eps).sqrt()


def _patched(latents: Tensor) -> Tensor:
    """Put 2 × 2 positions into channels."""
    return torch.pixel_unshuffle(latents, 2)
