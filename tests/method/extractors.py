"""Every feature extractor of S at tiny width: the embedded family's, or real classes with random weights."""

from pathlib import Path

import torch

from pipeline_steps.config import ModelRef, PerceptualConfig
from pipeline_steps.method.perceptual import Extractor, conv_features, lpips_features
from pipeline_steps.method.pictures import resize
from pipeline_steps.models import extractors

MINI = {"clip": "clip", "dino": "dino", "dreamsim": "dreamsim", "blip": "captioner"}
EXTRACTORS = [*MINI, "blip2", "lpips", "clip_conv"]


def tiny_blip2(folder: Path) -> ModelRef:
    """A whole BLIP-2, as it lies on the hub; S looks through its vision tower."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, CLIPImageProcessor

    torch.manual_seed(3)
    size = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"word_embed_proj_dim": 8, "ffn_dim": 16, "vocab_size": 16, "max_position_embeddings": 8}
    config = Blip2Config(
        vision_config=size | {"image_size": 16, "patch_size": 8},
        qformer_config=size | {"encoder_hidden_size": 8, "vocab_size": 16},
        text_config=size | text | {"model_type": "opt"},
        num_query_tokens=2,
    )
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
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
    return extractors.feature_extractor(ref, PerceptualConfig(extractor=name, layers=(1, -1)))
