"""The LoRA for other programs (kohya keys) and its model card for people."""

import json
import re
from pathlib import Path
from typing import Any

from pipeline_steps import artifacts
from pipeline_steps.artifacts import KOHYA, LORA
from pipeline_steps.cli import run_step
from pipeline_steps.config import DEFINITIONS, BaseRef
from pipeline_steps.errors import UserError


def export(lora: Path, data_card: Path, kohya: Path, model_card: Path, culture: str, suffix: str) -> None:
    """Write the LoRA with the keys of kohya-ss, ComfyUI and AUTOMATIC1111, and a model card.

    Args:
        lora: the LoRA with diffusers' keys.
        data_card: Markdown about the pictures it was trained on.
        kohya: safetensors file to write.
        model_card: Markdown file to write.
        culture: its name.
        suffix: what prompts end with, e.g. ", in Korea".
    """
    import torch

    from pipeline_steps.models.families import family_of

    origin = artifacts.same_origin((LORA, lora), culture=culture)
    metadata = LORA.metadata(lora)
    training = json.loads(metadata["scoft_training"])
    family = family_of(BaseRef.model_validate({k: v for k, v in training["base"].items() if k != "commit"}))
    alpha = json.loads(metadata["lora_adapter_metadata"])[f"{family.denoiser_part}.lora_alpha"]
    weights: dict[str, torch.Tensor] = {}
    for name, weight in LORA.read(lora).items():
        layer, factor = _layer(name, family.denoiser_part)
        module = family.kohya_module(layer)
        weights[f"{module}.{factor}.weight"] = weight
        weights[f"{module}.alpha"] = torch.tensor(float(alpha))
    rank = str(training["settings"]["lora_rank"])
    KOHYA.write(kohya, weights, origin, {"ss_network_dim": rank, "ss_network_alpha": str(alpha)})
    card = _card(culture, suffix, training, data_card.read_text(encoding="utf-8"))
    artifacts.write_text(model_card, card)


def _layer(name: str, part: str) -> tuple[str, str]:
    """Split a key of ours, ``unet.….to_q.lora_A.weight``, into the layer's path and kohya's factor."""
    found = re.fullmatch(rf"{part}\.(.+)\.lora_([AB])\.weight", name)
    if not found:
        raise UserError(f"the LoRA holds '{name}', which is no layer of the denoiser; train it anew")
    return found[1], {"A": "lora_down", "B": "lora_up"}[found[2]]


def _card(culture: str, suffix: str, training: dict[str, Any], data: str) -> str:
    settings = training["settings"]
    base = training["base"]
    losses = ", ".join(f"L_{loss.upper()}" for loss in DEFINITIONS[training["variant"]].losses)
    return f"""# LoRA: {culture}

A low-rank adapter that moves a text-to-image model's pictures of one culture towards pictures chosen by
people of that culture, and away from the model's own earlier idea of it (SCoFT, CVPR 2024).

## Model

- Base model: `{base["path"]}`, commit {base["commit"] or "not known (not from the hub)"}
- Losses: {losses}
- Rank {settings["lora_rank"]}, {settings["updates"]} updates, seed {training["seed"]}
- Data fingerprint: `{training["fingerprint"]}`
- Licence: the base model's binds this adapter as well; those of the pictures stand in the data card below
- Versions: {", ".join(f"{name} {number}" for name, number in training["versions"].items())}

## Use it

It fits {base["path"]} and models of the same kind, no other. Prompts end with "{suffix}".

```python
import torch
from diffusers import AutoPipelineForText2Image

base = "{base["path"].partition("@")[0]}"
pipeline = AutoPipelineForText2Image.from_pretrained(base, dtype=torch.float32)
pipeline.load_lora_weights(".", weight_name="lora.safetensors")  # in this folder
pipeline("a house{suffix}").images[0].save("house.png")
```

For ComfyUI and AUTOMATIC1111 take `lora_kohya.safetensors`, with strength 1.

## Intended use

Drawing scenes of this culture with fewer stereotypes, for uses the people who gave the pictures agreed to.
Have people of the culture look at the results before they are shown to others: no score replaces that.

## Limits

It learned from a small collection, which shows some of a culture and not all of it. It keeps whatever
the base model draws wrongly elsewhere, may bleed into prompts that do not name the culture, and can still
produce offensive or false pictures. It must not be used to pass generated pictures off as documents, nor to
depict real persons without their consent.

---

{data.replace("# Data card", "## Data card", 1)}"""


if __name__ == "__main__":
    run_step(export)
