"""The only place that knows model ids, revisions, folders, dtype and device."""

import json
from pathlib import Path

import torch
from torch import nn


def load_dreamsim(folder: Path, adapter: bool = True, device: str = "cpu") -> nn.Module:
    """Load a DreamSim checkpoint of the package's ``clip_vitl14`` kind, which may have any size.

    Its file carries the constructor's arguments beside the weights.
    """
    from dreamsim.model import PerceptualModel
    from peft import PeftModel

    settings = json.loads((folder / "dreamsim.json").read_text())
    settings.pop("image_size")
    model = PerceptualModel(
        **settings, lora=True, normalize_embeds=True, load_dir=str(folder), device=device
    )
    for extractor in model.extractor_list:  # a plain attribute: .float() does not reach it
        extractor.proj = extractor.proj.detach().float()
    if adapter:
        model = PeftModel.from_pretrained(model, folder / "clip_vitl14_single_lora").to(device)
    return model.float().eval()
