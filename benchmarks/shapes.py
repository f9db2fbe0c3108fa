"""Random networks of published shapes, built where they are used: no weights, no files, no network.

The shapes are those of ``resources/published``; a tiny size of each is for machines without a GPU.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor, nn

from pipeline_steps.method.denoising import Condition
from pipeline_steps.method.processes import Diffusion, NoiseProcess, RectifiedFlow

PUBLISHED = Path(__file__).parent.parent / "resources/published"
FILES = {"sd15": "sd1", "sdxl": "sdxl", "zimage": "zimage"}
SIDES = {"sd15": 512, "sdxl": 1024, "zimage": 1024}
TOKENS, TRAINING_TIMES = 77, 1000
LONGEST = 512
"""Tokens that Z-Image reads."""
DIFFUSION = {"denoiser": "unet", "vae": "vae", "controlnet": "controlnet"}


class Networks:
    """The networks of one model, called as ``models/families`` calls them.

    Attributes:
        denoiser: the UNet, or the transformer.
        vae: the autoencoder.
        texts: one text encoder, or SDXL's two.
        vision: CLIP's vision transformer, for S.
        side: of pictures, in pixels.
        denoiser_part: what the trainer calls the denoiser.
    """

    denoiser_part = "unet"

    def __init__(self, denoiser: Any, vae: Any, texts: list[Any], vision: Any, side: int) -> None:
        self.denoiser, self.vae, self.texts, self.vision, self.side = denoiser, vae, texts, vision, side
        # 1000 times as diffusers' "scaled_linear" schedule has them.
        # In 16 bits the first of them would vanish beside 1.
        ends, options = (0.00085**0.5, 0.012**0.5), {"device": denoiser.device, "dtype": torch.float32}
        betas = torch.linspace(*ends, TRAINING_TIMES, **options) ** 2
        self.noise_process: NoiseProcess = Diffusion((1 - betas).cumprod(0))

    @property
    def latents_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of a picture's latents."""
        side = self.side // 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self.denoiser.config.in_channels, side, side

    def predict(self, denoiser: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Call the UNet."""
        added = {name: value for name, value in condition.items() if name != "encoder_hidden_states"}
        more = {"added_cond_kwargs": added} if added else {}
        return denoiser(z, t, encoder_hidden_states=condition["encoder_hidden_states"], **more).sample

    def encode_pictures(self, vae: Any, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of pictures' latents, shifted and scaled."""
        posterior, scale = vae.encode(unit.to(vae.dtype) * 2 - 1).latent_dist, vae.config.scaling_factor
        return (posterior.mean - (vae.config.shift_factor or 0)) * scale, posterior.std * scale

    def decode_latents(self, vae: Any, latents: Tensor) -> Tensor:
        """Return latents' pictures in [0, 1], float32, with gradient."""
        unscaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)
        found = vae.decode(unscaled.to(vae.dtype)).sample
        return (found.float() / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def encode(self, count: int = 1) -> Condition:
        """Encode ``count`` prompts of random tokens."""
        vocabulary = self.texts[0].config.vocab_size
        tokens = torch.randint(0, vocabulary, (count, TOKENS), device=self.texts[0].device)
        found = [text(tokens, output_hidden_states=True) for text in self.texts]
        if len(found) == 1:
            return {"encoder_hidden_states": found[0].last_hidden_state}
        size = torch.tensor([self.side, self.side, 0, 0, self.side, self.side], device=tokens.device)
        return {
            "encoder_hidden_states": torch.cat([each.hidden_states[-2] for each in found], -1),
            "text_embeds": found[1].text_embeds,
            "time_ids": size.float().expand(count, -1),
        }


class FlowNetworks(Networks):
    """Z-Image's: a transformer on a rectified flow. Its text encoder, which no update calls, is not built."""

    denoiser_part = "transformer"

    def __init__(self, denoiser: Any, vae: Any, vision: Any, side: int, shift: float) -> None:
        super().__init__(denoiser, vae, [], vision, side)
        self.noise_process = RectifiedFlow(shift)

    def predict(self, denoiser: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Call the transformer: pictures are videos of one frame, and time and velocity run the other way."""
        texts = list(condition["encoder_hidden_states"])
        return -torch.stack(denoiser(list(z.unsqueeze(2)), 1 - t, texts, return_dict=False)[0]).squeeze(2)

    def encode(self, count: int = 1) -> Condition:
        """Return random states in the place of ``count`` longest prompts."""
        shape = count, LONGEST, self.denoiser.config.cap_feat_dim
        states = torch.randn(shape, device=self.denoiser.device, dtype=self.denoiser.dtype)
        return {"encoder_hidden_states": states}


def published(name: str) -> dict[str, dict[str, Any]]:
    """Return the configurations of a model (sd15, sdxl, zimage) and of CLIP ViT-B/32, by part."""
    parts = json.loads((PUBLISHED / f"{FILES[name]}.json").read_text(encoding="utf-8"))
    parts |= json.loads((PUBLISHED / "looking.json").read_text(encoding="utf-8"))
    return {part: dict(entry["config"]) for part, entry in parts.items()}


def shrunk(part: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the same architecture at a tiny size."""
    levels = len(config.get("block_out_channels", ()))
    text = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    if part in ("unet", "controlnet"):
        large = "addition_embed_type" in config
        small = {"block_out_channels": [32] * levels, "attention_head_dim": 2, "layers_per_block": 1}
        small["cross_attention_dim"] = 64 if large else 32
        if large:
            small |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 32 + 6 * 8}
            small["transformer_layers_per_block"] = 1
        if part == "controlnet":
            small["conditioning_embedding_out_channels"] = [16, 16, 16, 16]
        return config | small
    if part == "transformer":
        small = {"dim": 32, "n_heads": 2, "n_kv_heads": 2, "n_layers": 2, "n_refiner_layers": 1}
        return config | small | {"cap_feat_dim": 16, "axes_dims": [4, 6, 6]}
    if part == "vae":
        return config | {"block_out_channels": [32] * levels, "layers_per_block": 1}
    if part == "clip":
        return config | {"vision_config": text | {"model_type": "clip_vision_model"}, "text_config": text}
    return config | text | {"projection_dim": 32} if part.startswith("text_encoder") else config


@contextmanager
def _built_as(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def build(name: str, device: torch.device, dtype: torch.dtype, tiny: bool, slicing: bool = False) -> Networks:
    """Build a model's networks, frozen, with random weights."""
    parts = _configurations(name, tiny)
    texts = [part for part in ("text_encoder", "text_encoder_2") if part in parts]
    with _built_as(device, dtype):
        vae = _frozen(diffusers.AutoencoderKL.from_config(parts["vae"]))
        if slicing:
            vae.enable_slicing()
        clip = transformers.CLIPConfig.from_dict(parts["clip"])
        vision = _frozen(transformers.CLIPVisionModel(clip.vision_config))
        side = 128 if tiny else SIDES[name]  # latents of 16 are halved three times
        if "transformer" in parts:
            denoiser = _frozen(diffusers.ZImageTransformer2DModel.from_config(parts["transformer"]))
            return FlowNetworks(denoiser, vae, vision, side, parts["scheduler"]["shift"])
        denoiser = _frozen(diffusers.UNet2DConditionModel.from_config(parts["unet"]))
        return Networks(denoiser, vae, [_frozen(_text_encoder(parts[part])) for part in texts], vision, side)


def controlnet(name: str, device: torch.device, dtype: torch.dtype, tiny: bool) -> Any:
    """Build a model's depth ControlNet."""
    with _built_as(device, dtype):
        return _frozen(diffusers.ControlNetModel.from_config(_configurations(name, tiny)["controlnet"]))


def _configurations(name: str, tiny: bool) -> dict[str, dict[str, Any]]:
    parts = published(name)
    return {part: shrunk(part, config) for part, config in parts.items()} if tiny else parts


def _text_encoder(config: dict[str, Any]) -> nn.Module:
    settings = transformers.CLIPTextConfig.from_dict(config)
    return getattr(transformers, config["architectures"][0])(settings)


def _frozen(network: Any) -> Any:
    return network.requires_grad_(False).eval()
