"""The generative half of the embedded family: VAE, UNet and ControlNet of Stable Diffusion's classes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDPMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from pipeline_steps.method.pictures import to_unit
from pipeline_steps.mini.corpora import Corpus
from pipeline_steps.mini.fitting import fit

NOISE_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}
"""Stable Diffusion 1.x's own."""
CAPTION_DROPOUT = 0.1


def train_vae(corpus: Corpus, steps: int) -> AutoencoderKL:
    """Train an 8× autoencoder with 8 latent channels: L1 + MSE + a small KL term."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=64,
    ).to(memory_format=torch.channels_last)

    def loss(rows: np.ndarray, step: int) -> Tensor:
        pictures = to_unit(corpus.pictures[rows]) * 2 - 1
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pictures).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        error = decoded - pictures
        return error.abs().mean() + error.square().mean() + 3e-4 * posterior.kl().mean() / 512

    fit("vae", vae, loss, count=len(corpus.captions), steps=steps, batch_size=32, lr=2e-3)
    latents = encode(vae, corpus.pictures[:1024], scale=1.0)
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: np.ndarray, scale: float | None = None) -> Tensor:
    """Encode uint8 pictures to scaled latents (posterior mean), in batches of 256."""
    scale = vae.config["scaling_factor"] if scale is None else scale
    return torch.cat(
        [
            vae.encode(to_unit(pictures[start : start + 256]) * 2 - 1).latent_dist.mean * scale
            for start in range(0, len(pictures), 256)
        ]
    )


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> np.ndarray:
    """Decode scaled latents to uint8 pictures, in batches of 256."""
    pictures = torch.cat([vae.decode(z / vae.config["scaling_factor"]).sample for z in latents.split(256)])
    pictures = ((pictures + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)
    return (pictures * 255).round().to(torch.uint8).numpy()


@torch.no_grad()
def encode_text(
    tokenizer: CLIPTokenizer, encoder: CLIPTextModel, captions: list[str]
) -> tuple[Tensor, Tensor]:
    """Encode each distinct caption once.

    Returns:
        The distinct embeddings (u, 77, d), the empty caption's first, and the row of each caption (n,).
    """
    distinct = ["", *sorted(set(captions))]
    row = {caption: index for index, caption in enumerate(distinct)}

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(distinct), 256):
            tokens = tokenizer(
                distinct[start : start + 256], padding="max_length", truncation=True, return_tensors="pt"
            )
            yield encoder(tokens.input_ids)[0]

    return torch.cat(list(batches())), torch.tensor([row[caption] for caption in captions])


class _NoisePrediction:
    """Latents and text of a corpus, and Eq. 1 on a batch of them."""

    def __init__(
        self, corpus: Corpus, vae: AutoencoderKL, tokenizer: CLIPTokenizer, encoder: CLIPTextModel
    ) -> None:
        self.latents = encode(vae, corpus.pictures)
        self.text, self.row = encode_text(tokenizer, encoder, corpus.captions)
        self.schedule = DDPMScheduler(**NOISE_SCHEDULE)
        self.random = torch.Generator().manual_seed(0)

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return z_t, t, text embeddings (10% of them null) and ε."""
        z0 = self.latents[rows]
        noise = torch.randn(z0.shape, generator=self.random)
        t = torch.randint(0, 1000, (len(rows),), generator=self.random)
        text_row = self.row[rows].clone()
        text_row[torch.rand(len(rows), generator=self.random) < CAPTION_DROPOUT] = 0
        return self.schedule.add_noise(z0, noise, t), t, self.text[text_row], noise


def train_unet(
    corpus: Corpus, vae: AutoencoderKL, tokenizer: CLIPTokenizer, encoder: CLIPTextModel, steps: int
) -> UNet2DConditionModel:
    """Train the text-conditional denoiser on the biased corpus."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(64, 112),
        layers_per_block=1,
        cross_attention_dim=encoder.config.hidden_size,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    data = _NoisePrediction(corpus, vae, tokenizer, encoder)

    def loss(rows: np.ndarray, step: int) -> Tensor:
        z_t, t, text, noise = data.batch(rows)
        return F.mse_loss(unet(z_t, t, text).sample, noise)

    fit("unet", unet, loss, count=len(corpus.captions), steps=steps, batch_size=32, lr=1e-3, average=0.998)
    return unet


def train_controlnet(
    corpus: Corpus,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    encoder: CLIPTextModel,
    steps: int,
) -> ControlNetModel:
    """Train depth control on the frozen UNet."""
    torch.manual_seed(0)
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32, 64))
    # Eight default-initialised convolutions shrink the depth to a hundredth, and the last starts at zero:
    # in a thousand updates such a ControlNet never begins to look.
    for part in controlnet.controlnet_cond_embedding.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    unet.requires_grad_(False)
    data = _NoisePrediction(corpus, vae, tokenizer, encoder)
    depths = torch.from_numpy(corpus.depths)

    def loss(rows: np.ndarray, step: int) -> Tensor:
        z_t, t, text, noise = data.batch(rows)
        depth = depths[rows].float().div(255)[:, None].expand(-1, 3, -1, -1)
        down, middle = controlnet(z_t, t, text, controlnet_cond=depth, return_dict=False)
        predicted = unet(
            z_t, t, text, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample
        return F.mse_loss(predicted, noise)

    fit(
        "controlnet",
        controlnet,
        loss,
        count=len(corpus.captions),
        steps=steps,
        batch_size=32,
        lr=1e-3,
        average=0.99,
    )
    return controlnet


def save_base(
    folder: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    tokenizer: CLIPTokenizer,
    encoder: CLIPTextModel,
) -> None:
    """Save Stable Diffusion's folder layout in fp16."""
    scheduler = PNDMScheduler(
        **{k: v for k, v in NOISE_SCHEDULE.items() if k != "clip_sample"}, skip_prk_steps=True, steps_offset=1
    )
    vae.register_to_config(_name_or_path="")  # else the folder it was loaded from stays in the file
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        unet=unet.half(),
        text_encoder=encoder.half(),
        tokenizer=tokenizer,
        scheduler=scheduler,
        safety_checker=None,  # type: ignore[arg-type]  # may be left out, which its type forgets
        feature_extractor=None,  # type: ignore[arg-type]  # likewise
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    for part in (vae, unet, encoder):
        part.float()
