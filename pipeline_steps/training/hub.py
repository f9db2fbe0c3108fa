"""A folder that can be uploaded to a hub as it is: LoRA, card, pictures, and how to load it elsewhere.

Nothing is uploaded here. Every picture in it was drawn by the model; none is of the training set.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_steps import artifacts
from pipeline_steps.artifacts import KOHYA, LORA, SAMPLES, SCORES, Row, rebuild
from pipeline_steps.cli import run_step
from pipeline_steps.config import BaseRef, ExportConfig, SampleConfig
from pipeline_steps.drawing.labels import SCORES as CALLED
from pipeline_steps.drawing.pictures import drawn_png
from pipeline_steps.errors import UserError
from pipeline_steps.models.bases import Parts, licence_of, published
from pipeline_steps.models.store import HubId, source

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

SHOWN = 4
"""Prompts whose pictures are shown, at most."""
SECTION = "## Intended use"
"""Of the model card: what is added here stands before it."""
LARGEST_SEED = 2**32
"""AUTOMATIC1111 knows no larger ones, and ComfyUI's window rounds those over 2**53."""
METRICS = tuple(name for name, label in CALLED.items() if label.title)
"""Scores that the card states: those that the report draws first."""


def hub(
    lora: Path,
    named: Path,
    model_card: Path,
    data_card: Path,
    samples: list[Path],
    scores: list[Path],
    folder: Path,
    culture: str,
    suffix: str,
    sampling: SampleConfig,
    config: ExportConfig,
) -> None:
    """Write the folder: README.md with the hub's metadata, both LoRA files, samples, data card, workflows.

    Args:
        lora: the LoRA for diffusers.
        named: the LoRA for other programs; its name goes into the folder.
        model_card: Markdown, which becomes README.md with scores and pictures added.
        data_card: Markdown about the pictures it was trained on.
        samples: tables of the un-tuned model and of the LoRA, the same prompts and seeds.
        scores: tables of both.
        folder: to be written whole.
        culture: its name.
        suffix: what prompts end with, e.g. ", in Korea".
        sampling: how the samples were drawn.
        config: the licence.

    Raises:
        UserError: the files are of different pictures or cultures, the samples of different prompts, or the
            base model is none that the workflows load.
    """
    tables = [*((SAMPLES, path) for path in samples), *((SCORES, path) for path in scores)]
    artifacts.same_origin((LORA, lora), (KOHYA, named), *tables, culture=culture)
    base = json.loads(LORA.metadata(lora)["scoft_training"])["base"]
    # Of other kinds there is no checkpoint in one file that these programs load.
    in_one_file = "ss_base_model_version" in KOHYA.metadata(named)
    shown = _shown(*samples)
    found: list[dict[str, Row]] = [{row["metric"]: row for row in SCORES.rows(path)} for path in scores]
    data = _metadata(base["path"], culture, suffix, shown, found[1], config)
    with artifacts.folder_appears_whole(folder) as part:
        for path in (lora, named, data_card):
            shutil.copyfile(path, part / path.name)
        for number, (before, after) in enumerate(shown, 1):
            for name, row in ((f"{number}_before", before), (f"{number}", after)):
                picture = artifacts.decode_picture(row["image"])
                drawn = _drawn(row, sampling, base["path"], named.stem if row is after else None)
                (part / "samples").mkdir(exist_ok=True)
                (part / "samples" / f"{name}.png").write_bytes(drawn_png(picture, drawn))
        # Managers of models show a picture with the file's name as its cover.
        shutil.copyfile(part / "samples/1.png", part / f"{named.stem}.png")
        workflow, pasted = None, ""
        known = published(base["path"])
        if in_one_file:
            workflow = _comfyui(shown[0][1], base["path"], named, sampling)
            pasted = _automatic1111(shown[0][1], base["path"], named, sampling)
            (part / "automatic1111.txt").write_text(pasted, encoding="utf-8")
        elif known and known.parts:
            workflow = _comfyui_of_parts(shown[0][1], known.parts, named, sampling)
        if workflow:
            written = json.dumps(workflow, indent=2) + "\n"
            (part / "comfyui_workflow.json").write_text(written, encoding="utf-8")
        text = _readme(model_card, shown, found, named, pasted, workflow is not None)
        (part / "README.md").write_text(f"---\n{data.to_yaml()}\n---\n\n{text}", encoding="utf-8")


def _shown(before: Path, after: Path) -> list[tuple[Row, Row]]:
    """The first picture of the first prompts, before and after."""
    pairs = []
    for first, second in zip(_firsts(before), _firsts(after), strict=True):
        if (first["prompt"], first["seed"]) != (second["prompt"], second["seed"]):
            raise UserError(f"{after}: draws other prompts than {before}; {rebuild(before, after)}")
        pairs.append((first, second))
    return pairs


def _firsts(path: Path) -> list[Row]:
    found: list[Row] = []
    for row in SAMPLES.rows(path):
        if row["index"] == 0:
            found.append(row)
        if len(found) == SHOWN:
            break
    return found


def _metadata(
    path: str,
    culture: str,
    suffix: str,
    shown: list[tuple[Row, Row]],
    scores: Mapping[str, Row],
    config: ExportConfig,
) -> "ModelCardData":
    """What the hub reads of a card: what it fits, under which terms, how it looks and how it was scored."""
    from huggingface_hub import EvalResult, ModelCardData

    licence = licence_of(path, config.licence)
    fits = source(BaseRef(path=path))
    results = [
        EvalResult(
            task_type="text-to-image",
            dataset_type="held-out",
            dataset_name=f"held-out pictures of {culture}",
            metric_type=metric,
            metric_name=CALLED[metric].name,
            metric_value=round(float(scores[metric]["value"]), 5),
        )
        for metric in METRICS
        if metric in scores
    ]
    return ModelCardData(
        base_model=fits.name if isinstance(fits, HubId) else None,
        base_model_relation="adapter" if isinstance(fits, HubId) else None,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        license=licence or "other",
        license_name=None if licence else "see-the-card",
        license_link=None if licence else "README.md",
        tags=["text-to-image", "diffusers", "lora", "template:sd-lora", "scoft"],
        instance_prompt=suffix.strip(" ,"),
        widget=[
            {"text": after["prompt"], "output": {"url": f"samples/{number}.png"}}
            for number, (_, after) in enumerate(shown, 1)
        ],
        model_name=f"SCoFT {culture}",
        eval_results=results or None,
    )


def _readme(
    model_card: Path,
    shown: list[tuple[Row, Row]],
    found: list[dict[str, Row]],
    named: Path,
    pasted: str,
    workflow: bool,
) -> str:
    """The model card, with pictures, scores and what else lies here before what it is meant for."""
    card = model_card.read_text(encoding="utf-8")
    if SECTION not in card:
        raise UserError(f"{model_card}: has no section '{SECTION}'; {rebuild(model_card)}")
    pictures = "\n".join(
        f"| {_cell(row['prompt'])} | ![](samples/{number}_before.png) | ![](samples/{number}.png) |"
        for number, (_, row) in enumerate(shown, 1)
    )
    scores = "\n".join(
        f"| {CALLED[metric].title} | {_value(found[0].get(metric))} | {_value(found[1].get(metric))} |"
        for metric in METRICS
        if metric in found[0] or metric in found[1]
    )
    added = f"""## Pictures

The same prompt and seed, drawn by the un-tuned model and with this LoRA. None was chosen, and none is a
picture of the training set.

| prompt | un-tuned | with the LoRA |
|---|---|---|
{pictures}

## How it was judged

By networks that look at pictures, with intervals in brackets where there is one. Intervals that overlap much
are not told apart by these pictures, and no score takes the place of people of the culture.

| score | un-tuned | with the LoRA |
|---|---:|---:|
{scores}

"""
    if workflow:
        added += f"""## In other programs

- ComfyUI: put `{named.name}` into `models/loras` and drag `comfyui_workflow.json` into the window.
"""
    if pasted:
        told = "put it into `models/Lora`, and paste `automatic1111.txt` into the prompt"
        added += f"- AUTOMATIC1111, Forge: {told}:\n\n```text\n{pasted.rstrip()}\n```\n"
    added += "\n" * workflow
    return card.replace(SECTION, added + SECTION, 1)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _value(row: Row | None) -> str:
    if row is None:
        return "not measured"
    ends = "" if row["low"] is None else f" ({row['low']:.4g} to {row['high']:.4g})"
    return f"{row['value']:.4g}{ends}"


def _drawn(row: Row, sampling: SampleConfig, base: str, lora: str | None) -> dict[str, Any]:
    """How a picture was drawn, for its file."""
    return {
        "prompt": row["prompt"],
        "seed": row["seed"],
        "steps": sampling.steps,
        "guidance_scale": sampling.guidance_scale,
        "base": base,
        "lora": lora,
        "strength": 1.0 if lora else 0.0,
    }


def _checkpoint(base: str) -> str:
    """The base model's single file: its published name, or one to be replaced by the user's own."""
    known = published(base)
    return known.checkpoint if known and known.checkpoint else f"{BaseRef(path=base).short_name}.safetensors"


def _comfyui(row: Row, base: str, named: Path, sampling: SampleConfig) -> dict[str, Any]:
    """A workflow as ComfyUI's API and window take it: nodes by number, inputs as [node, output]."""
    lora = {"lora_name": named.name, "strength_model": 1.0, "strength_clip": 1.0}
    return {
        "1": _node("CheckpointLoaderSimple", ckpt_name=_checkpoint(base)),
        "2": _node("LoraLoader", model=["1", 0], clip=["1", 1], **lora),
        **_drawing(row, named, sampling, "EmptyLatentImage", ("dpmpp_2m", "normal"), ["2", 1], ["1", 2]),
    }


def _comfyui_of_parts(row: Row, parts: Parts, named: Path, sampling: SampleConfig) -> dict[str, Any]:
    """The same for a rectified flow, whose parts are files of their own, on the model's own schedule."""
    return {
        "9": _node("UNETLoader", unet_name=parts.denoiser, weight_dtype="default"),
        "10": _node("CLIPLoader", clip_name=parts.text_encoder, type=parts.kind),
        "11": _node("VAELoader", vae_name=parts.vae),
        "1": _node("LoraLoaderModelOnly", model=["9", 0], lora_name=named.name, strength_model=1.0),
        "2": _node("ModelSamplingAuraFlow", model=["1", 0], shift=parts.shift),
        **_drawing(row, named, sampling, "EmptySD3LatentImage", ("euler", "simple"), ["10", 0], ["11", 0]),
    }


def _drawing(
    row: Row,
    named: Path,
    sampling: SampleConfig,
    empty: str,
    sampler: tuple[str, str],
    clip: list[Any],
    vae: list[Any],
) -> dict[str, Any]:
    """What every workflow ends with: prompts, noise, steps of node 2's model, the picture."""
    width, height = artifacts.picture_size(row["image"])
    return {
        "3": _node("CLIPTextEncode", clip=clip, text=row["prompt"]),
        "4": _node("CLIPTextEncode", clip=clip, text=""),
        "5": _node(empty, width=width, height=height, batch_size=1),
        "6": _node(
            "KSampler",
            model=["2", 0],
            positive=["3", 0],
            negative=["4", 0],
            latent_image=["5", 0],
            seed=row["seed"] % LARGEST_SEED,
            steps=sampling.steps,
            cfg=sampling.guidance_scale,
            sampler_name=sampler[0],
            scheduler=sampler[1],
            denoise=1.0,
        ),
        "7": _node("VAEDecode", samples=["6", 0], vae=vae),
        "8": _node("SaveImage", images=["7", 0], filename_prefix=named.stem),
    }


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _automatic1111(row: Row, base: str, named: Path, sampling: SampleConfig) -> str:
    """What AUTOMATIC1111 reads back from its prompt: the prompt, and a line of settings."""
    width, height = artifacts.picture_size(row["image"])
    settings = {
        "Steps": sampling.steps,
        "Sampler": "DPM++ 2M",
        "CFG scale": sampling.guidance_scale,
        "Seed": row["seed"] % LARGEST_SEED,
        "Size": f"{width}x{height}",
        "Model": Path(_checkpoint(base)).stem,
    }
    line = ", ".join(f"{key}: {value}" for key, value in settings.items())
    return f"{row['prompt']} <lora:{named.stem}:1>\n{line}\n"


if __name__ == "__main__":
    run_step(hub)
