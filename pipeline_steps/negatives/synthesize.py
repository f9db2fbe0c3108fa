"""Negatives: the un-tuned model's own pictures of the training scenes (paper §4.4)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS, DEPTH, IMAGES, NEGATIVES, WHOLE, Row, Shard
from pipeline_steps.cli import run_step
from pipeline_steps.config import BaseRef, ModelRef, NegativesConfig
from pipeline_steps.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_steps.models.families.family import Family

Draw = Callable[[list[Row]], list[Any]]
"""Wanted negatives of one size to their pictures."""


def synthesize(
    captions: Path,
    structure: Path,
    negatives: Path,
    culture: str,
    suffix: str,
    seed: int,
    base: BaseRef,
    controlnet: ModelRef,
    config: NegativesConfig,
    shard: Shard = WHOLE,
    offload: bool = False,
) -> None:
    """Draw x⁻ = Θ(structure of x⁺, c_blip + suffix) with the un-tuned model.

    The structure is D(x⁺), the depth, seen by a ControlNet (paper §4.4), or x⁺ itself under noise: z_t at
    ``strength`` of the model's schedule, from which it goes down to a picture of its own.

    Each negative has its own noise, bound to (seed, culture, image id, index), so that pictures do
    not depend on the batch size beyond rounding.

    Args:
        captions: BLIP captions; negative ``i`` takes caption ``i mod k``.
        structure: depth maps, or, where ``config.structure`` is "noise", the pictures.
        negatives: table to write, ``per_positive`` rows per training picture.
        culture: its name.
        suffix: of the culture, appended to the caption.
        seed: the run's seed.
        base: the model to be mended.
        controlnet: depth ControlNet for it; read where the structure is the depth.
        config: how many, by which structure, steps, guidance.
        shard: which share of them.
        offload: keep on the card only the networks that are at work.

    Raises:
        UserError: there is no depth control for this kind of model.
    """
    from pipeline_steps.models.families import family_of

    noised = config.structure == "noise"
    table = IMAGES if noised else DEPTH
    origin = artifacts.same_origin((CAPTIONS, captions), (table, structure), culture=culture)

    def pictures(*columns: str) -> Iterator[dict[str, Any]]:
        rows = table.rows(structure, list(columns) or None)
        return (row for row in rows if not noised or row["split"] == "train")

    wanted = _wanted(captions, pictures(), culture, suffix, seed, config.per_positive)
    total = sum(1 for _ in pictures("split" if noised else "image_id")) * config.per_positive
    family = family_of(base)
    draw = (
        _from_noise(family, config, offload) if noised else _from_depth(family, controlnet, config, offload)
    )
    with NEGATIVES.writer(negatives, origin) as out:
        batches = artifacts.shard_batches(wanted, total, config.batch_size, shard, "synthesize")
        for batch in artifacts.one_size(batches, lambda row: row["picture"].size):
            for row, drawn in zip(batch, draw(batch), strict=True):
                cell = artifacts.encode_picture(drawn, f"{row['image_id']}_negative{row['index']}.png")
                out.add({**{k: row[k] for k in ("image_id", "index", "prompt", "seed")}, "image": cell})


def _from_depth(family: "Family", controlnet: ModelRef, config: NegativesConfig, offload: bool) -> Draw:
    """Draw with the depth ControlNet."""
    import torch

    pipeline = family.depth_to_image(controlnet, offload)

    def draw(batch: list[Row]) -> list[Any]:
        pictures: list[Any] = pipeline(
            prompt=[row["prompt"] for row in batch],
            generator=[torch.Generator().manual_seed(row["seed"]) for row in batch],
            num_inference_steps=config.steps,
            guidance_scale=family.guidance(config.guidance_scale),
            controlnet_conditioning_scale=config.controlnet_scale,
            **family.depth_arguments([row["picture"] for row in batch]),
        ).images
        return pictures

    return draw


def _from_noise(family: "Family", config: NegativesConfig, offload: bool) -> Draw:
    """Draw from the noised picture, with the steps of x̂ and none recorded."""
    import torch
    from PIL import Image
    from tqdm import tqdm

    from pipeline_steps.method.denoising import aligned, denoise
    from pipeline_steps.method.pictures import to_unit
    from pipeline_steps.models.families.family import STEPS_BAR

    encode_prompts = family.prompt_encoder(offload)
    vae, denoiser = family.vae(), family.denoiser()
    place = denoiser.device

    @torch.inference_mode()
    def draw(batch: list[Row]) -> list[Any]:
        unit = to_unit([row["picture"] for row in batch])
        z0 = family.encode_pictures(vae, unit)[0].float()
        generators = [torch.Generator().manual_seed(row["seed"]) for row in batch]
        noise = torch.stack([torch.randn(z0.shape[1:], generator=g) for g in generators]).to(z0.device)
        process = family.noise_process(z0.shape[-2] * z0.shape[-1])
        t = torch.full((len(batch),), process.at(config.strength), device=z0.device)
        told = family.picture_condition(len(batch), unit.shape[-1], unit.shape[-2])
        told = {name: value.to(z0.device) for name, value in told.items()}
        if offload:
            denoiser.to("cpu")
        text = encode_prompts([row["prompt"] for row in batch])
        null = encode_prompts([""] * len(batch))
        denoiser.to(place)
        pairs = {name: aligned([value, null[name]]) for name, value in text.items()}
        bar = tqdm(total=config.steps, **STEPS_BAR)

        def predict(z: "Tensor", t: "Tensor", condition: dict[str, "Tensor"]) -> "Tensor":
            bar.update()
            return family.predict(denoiser, z.to(denoiser.dtype), t, condition)

        latents = denoise(
            predict,
            process.add_noise(z0, noise, t),
            t,
            {name: ours for name, (ours, _) in pairs.items()} | told,
            {name: empty for name, (_, empty) in pairs.items()} | told,
            process=process,
            steps=config.steps,
            scale=config.guidance_scale,
            record=torch.full((len(batch),), -1),
        )
        bar.close()
        pixels = (family.decode_latents(vae, latents) * 255).round().to(torch.uint8)
        return [Image.fromarray(picture) for picture in pixels.permute(0, 2, 3, 1).cpu().numpy()]

    return draw


def _wanted(
    captions: Path,
    pictures: Iterator[dict[str, Any]],
    culture: str,
    suffix: str,
    seed: int,
    per_positive: int,
) -> Iterator[Row]:
    """Stream prompt, seed and picture of the structure of every negative, in key order."""
    blip: dict[str, list[str]] = {}
    for row in CAPTIONS.rows(captions):
        blip.setdefault(row["image_id"], []).append(row["caption"])
    for row in pictures:
        image_id = row["image_id"]
        picture: Any = artifacts.decode_picture(row["image"]).convert("RGB")
        for index in range(per_positive):
            yield {
                "image_id": image_id,
                "index": index,
                "prompt": blip[image_id][index % len(blip[image_id])] + suffix,
                "seed": derive_seed(seed, "negative", culture, image_id, index),
                "picture": picture,
            }


if __name__ == "__main__":
    run_step(
        synthesize,
        lever="lower negatives.batch_size, or set negatives.offload: true or models.base.vae_slicing: true",
    )
