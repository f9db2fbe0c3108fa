"""Every feature extractor of S at tiny width: the embedded family's, or real classes with random weights."""

from pathlib import Path

import torch

from pipeline_steps import models
from pipeline_steps.config import ModelRef, PerceptualConfig
from pipeline_steps.method.perceptual import Extractor, conv_features, lpips_features
from pipeline_steps.method.pictures import resize

MINI = {"clip": "clip", "dino": "dino", "dreamsim": "dreamsim", "blip": "captioner"}
EXTRACTORS = [*MINI, "blip2", "lpips", "clip_conv"]


def tiny_blip2(folder: Path) -> ModelRef:
    from transformers import Blip2VisionConfig, Blip2VisionModel, CLIPImageProcessor

    torch.manual_seed(3)
    config = Blip2VisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    Blip2VisionModel(config).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return ModelRef(path=str(folder))


def tiny_lpips():
    import lpips

    torch.manual_seed(4)
    network = lpips.LPIPS(net="squeeze", pretrained=False, pnet_rand=True, verbose=False).eval()
    for linear in network.lins:  # the published weights are not negative either
        linear.model[-1].weight.data.abs_()
    return network.requires_grad_(False)


def tiny_resnet():
    from open_clip.modified_resnet import ModifiedResNet

    torch.manual_seed(5)
    return ModifiedResNet((1, 1, 1, 1), output_dim=8, heads=2, image_size=32, width=8).eval()


def build_extractor(name: str, folder: Path) -> Extractor:
    """Return the extractor with two layers where it has layers; ``folder`` may hold its weights."""
    if name == "lpips":
        features = lpips_features(tiny_lpips())
        return lambda unit: features(resize(unit, 32))
    if name == "clip_conv":
        return conv_features(tiny_resnet().requires_grad_(False), (1, -1), 32)
    ref = ModelRef(path=f"resources/mini/{MINI[name]}") if name in MINI else tiny_blip2(folder)
    return models.feature_extractor(ref, PerceptualConfig(extractor=name, layers=(1, -1)))
