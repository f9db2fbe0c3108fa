"""Networks without weights, on the meta device, from their configurations: what plans are made of.

A model that lies on this machine has its configuration beside it; of those that the presets name and
that are not yet fetched, the published one is in ``resources/published``, with its source.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline_steps.config import ModelRef
from pipeline_steps.errors import UserError
from pipeline_steps.home import find
from pipeline_steps.models.store import HubId, Link, place, read_json, source

PUBLISHED = Path("resources/published")
FILES = {"model_index": "model_index.json", "scheduler": "scheduler_config.json"}
"""What diffusers calls a part's configuration, where that is not config.json."""


def lookup(ref: ModelRef, part: str, folder: str = "") -> dict[str, Any] | None:
    """Return a configuration, or None where it is neither fetched nor published here.

    Args:
        ref: the model.
        part: its name among the published ones: model_index, unet, vae, text_encoder, controlnet, clip, dino…
        folder: where it lies inside the model, if not at its top.
    """
    file = place(ref) / folder / FILES.get(part, "config.json")
    if file.exists():
        return read_json(file)
    match source(ref):
        case HubId(name, _) | Link(name, _):
            for entry in _published():
                if name in entry["ids"] and entry["part"].startswith(part):
                    return entry["config"]
    return None


def configuration(ref: ModelRef, part: str, folder: str = "") -> dict[str, Any]:
    """Return a configuration as :func:`lookup` does.

    Raises:
        UserError: neither fetched nor published here.
    """
    if (found := lookup(ref, part, folder)) is None:
        raise UserError(f"'{ref.path}' is not on this machine: fetch it to plan with it")
    return found


@cache
def _published() -> list[dict[str, Any]]:
    return [
        entry | {"part": part}
        for file in sorted(find(PUBLISHED).glob("*.json"))
        for part, entry in json.loads(file.read_text(encoding="utf-8")).items()
    ]


def diffusion(ref: ModelRef, part: str, folder: str = "") -> Any:
    """Build a denoiser, an autoencoder or a ControlNet of diffusers."""
    import diffusers

    config = configuration(ref, part, folder)
    with torch.device("meta"):
        return getattr(diffusers, config["_class_name"]).from_config(config).requires_grad_(False).eval()


def text_encoder(ref: ModelRef, part: str) -> Any:
    """Build a text encoder of transformers."""
    import transformers

    config = dict(configuration(ref, part, part))
    settings = transformers.CONFIG_MAPPING[config.pop("model_type")].from_dict(config)
    with torch.device("meta"):
        network = getattr(transformers, config["architectures"][0])(settings)
    return network.requires_grad_(False).eval()


LOOKING = {
    "clip": ("clip", "CLIPModel"),
    "dino": ("dinov2", "Dinov2Model"),
    "depth": ("dpt", "DPTForDepthEstimation"),
    "captioner": ("blip", "BlipForConditionalGeneration"),
}
"""What looks at pictures: the model type of its configuration, and its class in transformers."""


def looking(ref: ModelRef, part: str) -> Any:
    """Build CLIP, DINOv2, BLIP or DPT of transformers.

    Raises:
        UserError: it is of another kind, or neither fetched nor published here.
    """
    import transformers

    kind, network = LOOKING[part]
    config = dict(configuration(ref, part))
    if (found := config.pop("model_type", None)) != kind:
        raise UserError(f"'{ref.path}' is a model of type {found}, which is not planned with; {kind} is")
    settings = transformers.CONFIG_MAPPING[kind].from_dict(config)
    with torch.device("meta"):
        return getattr(transformers, network)(settings).requires_grad_(False).eval()


def parameters(network: nn.Module) -> int:
    """Count the parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
