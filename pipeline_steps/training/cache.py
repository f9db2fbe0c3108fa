"""The training cache: what every update needs and no update changes (latents and text)."""

import json
from collections import defaultdict
from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS, IMAGES, TRAIN_CACHE, WHOLE, Shard
from pipeline_steps.cli import run_step
from pipeline_steps.config import BaseRef, CacheConfig


def cache(
    images: Path,
    captions: Path,
    train_cache: Path,
    culture: str,
    base: BaseRef,
    config: CacheConfig,
    shard: Shard = WHOLE,
) -> None:
    """Encode the training pictures, plain and flipped, and all their captions.

    The file holds, for N pictures with k BLIP captions each: ``latents_mean`` and ``latents_std``
    (N, 2, c, h, w), the scaled VAE posterior of the picture and its mirror image, padded to the largest
    where sizes differ, and then ``latents_size`` (N, 2), each one's own h and w; and of everything
    the UNet is conditioned on (``encoder_hidden_states`` (77, d); of SDXL also ``text_embeds`` (p,)
    and ``time_ids`` (6,)) ``text.*`` (N, ...) of c_ccub, ``text_blip.*`` (N, k, ...) of c_blip^i and
    ``text_null.*`` (...).

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
    import torch.nn.functional as F

    from pipeline_steps.method.pictures import to_unit
    from pipeline_steps.models.families import stable_diffusion

    origin = artifacts.same_origin((IMAGES, images), (CAPTIONS, captions), culture=culture)
    vae = stable_diffusion.vae(base)
    encode_prompts = stable_diffusion.prompt_encoder(base)
    blip: dict[str, list[str]] = {}
    for line in CAPTIONS.rows(captions):
        blip.setdefault(line["image_id"], []).append(line["caption"])

    sizes = [artifacts.picture_size(row["image"]) for row in IMAGES.rows(images) if row["split"] == "train"]
    widest, highest = (max(sides) for sides in zip(*sizes, strict=True))

    def conditions(prompts: list[str], width: int, height: int) -> dict[str, torch.Tensor]:
        """Add SDXL's size condition: the cropped picture is the whole of an original of that size."""
        found = {name: value.cpu() for name, value in encode_prompts(prompts).items()}
        if "text_embeds" in found:
            size = (height, width, 0, 0, height, width)
            found["time_ids"] = torch.tensor(size, dtype=torch.float32).expand(len(prompts), -1)
        return found

    image_ids: list[str] = []
    columns: dict[str, list[torch.Tensor]] = defaultdict(list)
    with torch.inference_mode():
        for batch in artifacts.one_size(artifacts.train_batches(images, config.batch_size, "cache", shard)):
            unit = to_unit([artifacts.decode_picture(row["image"]) for row in batch])
            both = torch.stack([unit, unit.flip(-1)], 1).flatten(0, 1).to(vae.device, vae.dtype)
            posterior = vae.encode(both * 2 - 1).latent_dist
            scale = vae.config["scaling_factor"]
            height, width = unit.shape[2:]
            h, w = posterior.mean.shape[2:]
            # Beyond its own size a picture is padded to the largest.
            padding = (0, widest * w // width - w, 0, highest * h // height - h)
            for name, value in (("latents_mean", posterior.mean), ("latents_std", posterior.std)):
                columns[name].append(F.pad((value * scale).unflatten(0, (-1, 2)).cpu(), padding))
            if len(set(sizes)) > 1:
                columns["latents_size"].append(torch.tensor([[h, w]] * len(batch)))
            for name, value in conditions([row["caption"] for row in batch], width, height).items():
                columns[f"text.{name}"].append(value)
            for row in batch:
                for name, value in conditions(blip[row["image_id"]], width, height).items():
                    columns[f"text_blip.{name}"].append(value[None])
            image_ids += [row["image_id"] for row in batch]
        tensors = {name: torch.cat(parts) for name, parts in columns.items()}
        tensors |= {f"text_null.{name}": value[0] for name, value in conditions([""], *sizes[0]).items()}
    TRAIN_CACHE.write(train_cache, tensors, origin, {"image_ids": json.dumps(image_ids)})


if __name__ == "__main__":
    run_step(cache, lever="lower cache.batch_size, or set models.base.vae_slicing: true")
