"""The training cache: what every update needs and no update changes (latents and text)."""

import json
from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS, IMAGES, TRAIN_CACHE, WHOLE, Shard
from pipeline_steps.cli import run_step
from pipeline_steps.config import CacheConfig, ModelRef


def cache(
    images: Path,
    captions: Path,
    train_cache: Path,
    culture: str,
    base: ModelRef,
    config: CacheConfig,
    shard: Shard = WHOLE,
) -> None:
    """Encode the training pictures, plain and flipped, and all their captions.

    The file holds, for N pictures with k BLIP captions each: ``latents_mean`` and ``latents_std``
    (N, 2, c, h, w), the scaled VAE posterior of the picture and its mirror image; ``text``
    (N, 77, d) of c_ccub; ``text_blip`` (N, k, 77, d) of c_blip^i; ``text_null`` (77, d).

    Args:
        images: table of pictures; its ``train`` rows are used.
        captions: BLIP captions.
        train_cache: file to write.
        culture: its name.
        base: Stable Diffusion.
        config: batch size.
        shard: which share of the pictures.
    """
    import torch

    from pipeline_steps import models
    from pipeline_steps.method.pictures import to_unit

    origin = artifacts.same_origin((IMAGES, images), (CAPTIONS, captions), culture=culture)
    vae = models.vae(base)
    encode_text = models.prompt_encoder(base)
    blip: dict[str, list[str]] = {}
    for row in CAPTIONS.rows(captions):
        blip.setdefault(row["image_id"], []).append(row["caption"])

    image_ids: list[str] = []
    columns: dict[str, list[torch.Tensor]] = {
        "latents_mean": [],
        "latents_std": [],
        "text": [],
        "text_blip": [],
    }
    with torch.inference_mode():
        for batch in artifacts.train_batches(images, config.batch_size, "cache", shard):
            unit = to_unit([artifacts.decode_picture(row["image"]) for row in batch])
            both = torch.stack([unit, unit.flip(-1)], 1).flatten(0, 1).to(vae.device, vae.dtype)
            posterior = vae.encode(both * 2 - 1).latent_dist
            scale = vae.config.scaling_factor
            columns["latents_mean"].append((posterior.mean * scale).unflatten(0, (-1, 2)).cpu())
            columns["latents_std"].append((posterior.std * scale).unflatten(0, (-1, 2)).cpu())
            columns["text"].append(encode_text([row["caption"] for row in batch]).cpu())
            described = [encode_text(blip[row["image_id"]]).cpu() for row in batch]
            columns["text_blip"].append(torch.stack(described))
            image_ids += [row["image_id"] for row in batch]
        tensors = {name: torch.cat(parts) for name, parts in columns.items() if parts}
        tensors["text_null"] = encode_text([""])[0].cpu()
    TRAIN_CACHE.write(train_cache, tensors, origin, {"image_ids": json.dumps(image_ids)})


if __name__ == "__main__":
    run_step(cache)
