"""The LoRA for other programs (kohya-ss' names) and its model card for people."""

import json
import re
from pathlib import Path
from typing import Any

from pipeline_steps import artifacts
from pipeline_steps.artifacts import KOHYA, LORA
from pipeline_steps.cli import run_step
from pipeline_steps.config import DEFINITIONS, BaseRef, ExportConfig, without_commit
from pipeline_steps.errors import UserError


def export(
    lora: Path,
    data_card: Path,
    named: Path,
    kohya: Path,
    model_card: Path,
    culture: str,
    suffix: str,
    config: ExportConfig,
) -> None:
    """Write the LoRA with kohya-ss' names of its layers, which every program reads, and a model card.

    Args:
        lora: the LoRA with diffusers' keys.
        data_card: Markdown about the pictures it was trained on.
        named: safetensors file to write; its name says culture and base model.
        kohya: the same file by a name that is the same for all cultures.
        model_card: Markdown file to write.
        culture: its name.
        suffix: what prompts end with, e.g. ", in Korea".
        config: what the file says of itself beside.
    """
    import torch

    from pipeline_steps.models.families import family_of
    from pipeline_steps.training.header import header

    origin = artifacts.same_origin((LORA, lora), culture=culture)
    metadata = LORA.metadata(lora)
    training = json.loads(metadata["scoft_training"])
    family = family_of(BaseRef.model_validate({k: v for k, v in training["base"].items() if k != "commit"}))
    adapter = json.loads(metadata["lora_adapter_metadata"])
    rank, alpha = (adapter[f"{family.denoiser_part}.{name}"] for name in ("r", "lora_alpha"))
    weights: dict[str, torch.Tensor] = {}
    for name, weight in LORA.read(lora).items():
        layer, factor = _layer(name, family.denoiser_part)
        module = family.kohya_module(layer)
        # LoRAs of earlier versions have alpha beside them
        weights[f"{module}.{factor}.weight"] = weight * (alpha / rank) if factor == "lora_up" else weight
        weights[f"{module}.alpha"] = torch.tensor(float(rank))
    names = header(weights, training, family, culture, suffix, family.kind().layers, config)
    KOHYA.write(named, weights, origin, names)
    artifacts.write_same(kohya, named)
    data = data_card.read_text(encoding="utf-8")
    card = _card(culture, suffix, training, named.name, data, config.contact)
    artifacts.write_text(model_card, card)


def _layer(name: str, part: str) -> tuple[str, str]:
    """Split a key of ours, ``unet.….to_q.lora_A.weight``, into the layer's path and kohya's factor."""
    found = re.fullmatch(rf"{part}\.(.+)\.lora_([AB])\.weight", name)
    if not found:
        raise UserError(f"the LoRA holds '{name}', which is no layer of the denoiser; train it anew")
    return found[1], {"A": "lora_down", "B": "lora_up"}[found[2]]


def _card(
    culture: str, suffix: str, training: dict[str, Any], named: str, data: str, contact: str | None
) -> str:
    settings = training["settings"]
    base = training["base"]
    name = without_commit(base["path"])
    contact = f"write to {contact}" if contact else "tell whoever gave you this file"
    losses = ", ".join(f"L_{loss.upper()}" for loss in DEFINITIONS[training["variant"]].losses)
    return f"""# LoRA: {culture}

A low-rank adapter that moves a text-to-image model's pictures of one culture towards pictures chosen by
people of that culture, and away from the model's own earlier idea of it (SCoFT, CVPR 2024).

## Model

- Base model: `{name}`, commit {base["commit"] or "not known (not from the hub)"}
- Losses: {losses}
- Rank {settings["lora_rank"]}, {settings["updates"]} updates, seed {training["seed"]}
- Data fingerprint: `{training["fingerprint"]}`
- Licence: the base model's binds this adapter as well; those of the pictures stand in the data card below
- Versions: {", ".join(f"{package} {number}" for package, number in training["versions"].items())}

## Use it

It fits {name} and models of the same kind, no other. Prompts end with "{suffix}".

```python
import torch
from diffusers import AutoPipelineForText2Image

base = "{name}"
pipeline = AutoPipelineForText2Image.from_pretrained(base, dtype=torch.float32)
pipeline.load_lora_weights(".", weight_name="lora.safetensors")  # in this folder
pipeline("a house{suffix}").images[0].save("house.png")
```

| program | file |
|---|---|
| diffusers | `lora.safetensors` |
| ComfyUI, AUTOMATIC1111, Forge, kohya-ss | `{named}`, with strength 1 |

`lora.safetensors` does nothing in AUTOMATIC1111. `lora_kohya.safetensors` is `{named}`
under a name that is the same for every culture: do not copy that one beside others.

## Intended use

Drawing scenes of this culture with fewer stereotypes, for uses the people who gave the pictures agreed to.
Have people of the culture look at the results before they are shown to others: no score replaces that.

## Withdrawal

Whoever gave a picture can take it back: {contact}. The data set is then built again without
it and a LoRA trained anew; the data fingerprint above tells the two apart. Files that others have
copied cannot be called back.

## Limits

It learned from a small collection, which shows some of a culture and not all of it. It keeps whatever
the base model draws wrongly elsewhere, may bleed into prompts that do not name the culture, and can still
produce offensive or false pictures. It must not be used to pass generated pictures off as documents, nor to
depict real persons without their consent.

---

{data.replace("# Data card", "## Data card", 1)}"""


if __name__ == "__main__":
    run_step(export)
