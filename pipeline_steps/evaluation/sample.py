"""Pictures of the test prompts (paper §5): the same seeds for every variant."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import IMAGES, SAMPLES, WHOLE, Row, Shard
from pipeline_steps.cli import run_step
from pipeline_steps.config import BaseRef, PromptSet, SampleConfig
from pipeline_steps.inputs.prompts import OWN, prompts_of
from pipeline_steps.seeds import derive_seed


def sample(
    images: Path,
    prompts: Path,
    samples: Path,
    culture: str,
    seed: int,
    base: BaseRef,
    config: SampleConfig,
    suffix: str = "",
    lora: Path | None = None,
    shard: Shard = WHOLE,
    prompt_set: PromptSet | None = None,
    country: Sequence[str] = (),
    offload: bool = False,
) -> None:
    """Generate ``images_per_prompt`` pictures of every prompt, a diffusion model's with DPM-Solver++.

    They are squares of the resolution at which the culture's pictures were cut: scores compare the two.
    Seeds are bound to (seed, culture, prompt, index): all variants start from the same noise, whatever
    the batch and whichever other prompts stand in the file. A prompt over the text encoder's limit is
    cut with the end token kept, and named in a warning.

    Args:
        images: the culture's pictures; only their origin and resolution are read.
        prompts: text file, one prompt a line; lines that begin with # are comments; or a table.
        samples: table to write.
        culture: its name.
        seed: the run's seed.
        base: the model to be mended.
        config: how many, steps, guidance.
        suffix: appended to every prompt.
        lora: LoRA to load; none for the un-tuned model.
        shard: which share of the pictures.
        prompt_set: how to read a set of prompts beside the test prompts; None: its columns are called prompt,
            category and era.
        country: what such a set may call the culture's country.
        offload: keep on the card only the network that is at work.

    Raises:
        UserError: no prompts, repeated prompts, or a LoRA made from other pictures.
    """
    import torch

    from pipeline_steps.models import text
    from pipeline_steps.models.families import family_of

    sources = [(IMAGES, images)] + ([(artifacts.LORA, lora)] if lora else [])
    origin = artifacts.same_origin(*sources, culture=culture)
    side = IMAGES.note(images).get("resolution")
    columns, most = (prompt_set.named, prompt_set.most) if prompt_set else (OWN, None)
    lines = [prompt.text for prompt in prompts_of(prompts, columns, country, most)]
    total = len(lines) * config.images_per_prompt
    family = family_of(base)
    pipeline, tokenizer = family.text_to_image(lora, offload), family.tokenizer()
    for line in lines:
        text.warn_if_long(tokenizer, line + suffix)
    wanted = _wanted(lines, culture, suffix, seed, config.images_per_prompt)
    with SAMPLES.writer(samples, origin) as table:
        for batch in artifacts.shard_batches(wanted, total, config.batch_size, shard, "sample"):
            pictures = pipeline(
                prompt=[row["prompt"] for row in batch],
                generator=[torch.Generator().manual_seed(row["seed"]) for row in batch],
                num_inference_steps=config.steps,
                guidance_scale=family.guidance(config.guidance_scale),
                height=side,
                width=side,
            ).images
            for row, picture in zip(batch, pictures, strict=True):
                name = f"{row['prompt_id']}_{row['index']:03d}.png"
                table.add({**row, "image": artifacts.encode_picture(picture, name)})


def _wanted(lines: list[str], culture: str, suffix: str, seed: int, count: int) -> Iterator[Row]:
    """Stream prompt and seed of every picture, in key order."""
    digits = max(4, len(str(len(lines) - 1)))  # numbers are compared as text
    for number, line in enumerate(lines):
        for index in range(count):
            yield {
                "prompt_id": f"{number:0{digits}d}",
                "index": index,
                "prompt": line + suffix,
                "seed": derive_seed(seed, "sample", culture, line, index),
            }


if __name__ == "__main__":
    run_step(sample, lever="lower sample.batch_size, or set sample.offload: true")
