"""What the page for trying out draws: one prompt and seed, by the un-tuned model and by each LoRA."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pipeline_steps.artifacts import LORA, SCORES
from pipeline_steps.config import FULL_VARIANT, LABELS, BaseRef
from pipeline_steps.drawing.labels import SCORES as CALLED
from pipeline_steps.errors import UserError
from pipeline_steps.models.families import family_of

if TYPE_CHECKING:
    from PIL import Image

UNTUNED = LABELS["sd"]
GENERIC = "runs/generic_prompts/scores"
"""Where a culture's scores on prompts that name no culture lie."""


class Lora(NamedTuple):
    """A LoRA of a run.

    Attributes:
        label: what people read: its variant, and its run where that is not the default one.
        file: where it lies.
        base: the model it was trained on.
        phrase: how prompts name the culture, e.g. "in Korea"; empty where the file does not say.
        side: of the pictures it was trained on, in pixels; None where the file does not say.
    """

    label: str
    file: Path
    base: BaseRef
    phrase: str
    side: int | None


def loras(results: Path) -> dict[str, list[Lora]]:
    """Return the LoRAs below a folder of results by culture, the main one of each first.

    Raises:
        UserError: there is none.
    """
    found: dict[str, list[Lora]] = {}
    for place in ("", "ablations/*/", "runs/*/*/"):
        for file in sorted(results.glob(f"*/{place}lora.safetensors")):
            culture = str(LORA.note(file)["culture"])
            found.setdefault(culture, []).append(_lora(file, place))
    if not found:
        raise UserError(
            f"{results}: no culture there has a lora.safetensors; train one, or name the folder (--results)"
        )
    return dict(sorted(found.items()))


def _lora(file: Path, place: str) -> Lora:
    metadata = LORA.metadata(file)
    training = json.loads(metadata["scoft_training"])
    base = BaseRef.model_validate({k: v for k, v in training["base"].items() if k != "commit"})
    run = f", run {file.parents[1].name}" if place.startswith("runs") else ""
    label = LABELS[training["variant"]] + run
    side = int(training["resolution"]) if "resolution" in training else None
    return Lora(label, file, base, metadata.get("modelspec.trigger_phrase", ""), side)


class Artist:
    """One base model, into which LoRAs are loaded once and switched on and off.

    Args:
        base: the model.
    """

    def __init__(self, base: BaseRef) -> None:
        self.family = family_of(base)
        self.pipeline = self.family.text_to_image()
        self.loaded: dict[Path, str] = {}

    def draw(
        self,
        lora: Path | None,
        strength: float,
        prompt: str,
        seed: int,
        steps: int,
        scale: float,
        side: int | None = None,
    ) -> "Image.Image":
        """Draw one picture; the seed alone decides on its noise.

        Args:
            lora: the LoRA's file; None for the un-tuned model.
            strength: of the LoRA, 1 as it was trained.
            prompt: what to draw.
            seed: of the noise.
            steps: of denoising.
            scale: of classifier-free guidance.
            side: of the picture, in pixels; None: the base model's own.
        """
        self._switch(lora, strength)
        picture: Image.Image = self.pipeline(
            prompt=prompt,
            generator=torch.Generator().manual_seed(seed),
            num_inference_steps=steps,
            guidance_scale=self.family.guidance(scale),
            height=side,
            width=side,
        ).images[0]
        return picture

    def _switch(self, lora: Path | None, strength: float) -> None:
        if lora is None:
            if self.loaded:
                self.pipeline.disable_lora()
            return
        if lora not in self.loaded:
            name = f"lora{len(self.loaded)}"
            self.pipeline.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name=name)
            self.loaded[lora] = name
        self.pipeline.enable_lora()
        self.pipeline.set_adapters([self.loaded[lora]], [strength])


def series(
    artist: Artist, chosen: list[Lora], strength: float, count: int, settings: dict[str, Any]
) -> Iterator[tuple["Image.Image", dict[str, Any]]]:
    """Draw ``count`` pictures, seed after seed, each by the un-tuned model and by each LoRA.

    Args:
        artist: their base model.
        chosen: the LoRAs.
        strength: of each.
        count: pictures of each.
        settings: "prompt", "seed" of the first, "steps", "guidance_scale", and "side" of the pictures, if not
            the model's own.

    Yields:
        A picture, and all that it was drawn with.
    """
    prompt, first = settings["prompt"], settings["seed"]
    for seed in range(first, first + count):
        for lora in (None, *chosen):
            picture = artist.draw(
                lora.file if lora else None,
                strength,
                prompt,
                seed,
                settings["steps"],
                settings["guidance_scale"],
                settings.get("side"),
            )
            yield (
                picture,
                settings
                | {
                    "seed": seed,
                    "model": lora.label if lora else UNTUNED,
                    "lora": str(lora.file) if lora else None,
                    "strength": strength if lora else 0.0,
                },
            )


def bleed(results: Path, culture: str, prompt: str, phrase: str) -> str:
    """Return what to say of a prompt that names no culture, in Markdown; nothing for one that does.

    Args:
        results: folder of the results.
        culture: its name.
        prompt: what somebody wants to be drawn.
        phrase: how prompts name the culture.
    """
    said = prompt.lower()
    if not phrase or phrase.lower() in said or culture.lower() in said:
        return ""
    lines = [
        f"**This prompt does not name the culture** (“{phrase}”). The LoRA was made for prompts that do; "
        "what it changes in others is its *bleed*."
    ]
    files = [results / culture / GENERIC / f"{variant}.parquet" for variant in ("sd", FULL_VARIANT)]
    if not all(file.exists() for file in files):
        targets = " ".join(map(str, files))
        return f"{lines[0]} It has not been measured yet: `snakemake --cores 8 {targets}`"
    before, after = ({row["metric"]: row for row in SCORES.rows(file)} for file in files)
    lines += ["Measured on prompts that name no culture:", "", "| score | un-tuned | with the LoRA |"]
    lines += ["|---|---:|---:|"]
    for metric, label in CALLED.items():
        if label.title and metric in before and metric in after:
            lines.append(f"| {label.title} | {before[metric]['value']:.4g} | {after[metric]['value']:.4g} |")
    return "\n".join(lines)
