"""The networks behind the perceptual distance S, differentiable (paper §4.3, §6)."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline_steps.config import ModelRef, PerceptualConfig
from pipeline_steps.errors import UserError
from pipeline_steps.method.perceptual import (
    STAGES,
    Extractor,
    conv_features,
    dreamsim_features,
    lpips_features,
    vit_features,
)
from pipeline_steps.models.loading import device, dtype, frozen, load, load_network, tensors_only
from pipeline_steps.models.store import OPEN_CLIP, locate

DREAMSIM_TYPES = {
    "ensemble": (
        "dino_vitb16_pretrain.pth",
        "clip_vitb16_pretrain.pth.tar",
        "open_clip_vitb16_pretrain.pth.tar",
    ),
    "clip_vitb32": ("clip_vitb32_pretrain.pth.tar",),
    "open_clip_vitb32": ("open_clip_vitb32_pretrain.pth.tar",),
}
"""dreamsim's own checkpoints that load from files alone, and the backbones that each holds."""
DINO_BACKBONE = "dino_vitbase16_pretrain.pth"
"""What torch.hub fetches for the ensemble's DINO, dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain."""
CLIP_CONV = "RN101-quickgelu"
"""open_clip's name of the network behind "clip_conv"."""


def dreamsim(ref: ModelRef) -> tuple[Callable[[torch.Tensor], torch.Tensor], int]:
    """Load DreamSim.

    Returns:
        Its differentiable embedding of pictures in [0, 1], (n, 3, side, side), and ``side``.
    """
    folder = locate(ref, "dreamsim")
    if (folder / "dreamsim.json").exists():
        side = json.loads((folder / "dreamsim.json").read_text())["image_size"]
        return load_dreamsim(folder).to(device()).embed, side
    kinds = [k for k, files in DREAMSIM_TYPES.items() if all((folder / file).exists() for file in files)]
    if not kinds:
        wanted = " or ".join(files[0] for files in DREAMSIM_TYPES.values())
        raise UserError(f"models.dreamsim: '{folder}' holds no {wanted} (a dreamsim checkpoint, unzipped)")
    from dreamsim import dreamsim as load_package_model

    for file in DREAMSIM_TYPES[kinds[0]]:
        tensors_only(folder / file, "dreamsim")
    with _dino_from(folder) if kinds[0] == "ensemble" else nullcontext():
        model, _ = load_package_model(device=str(device()), cache_dir=str(folder), dreamsim_type=kinds[0])
    return model.float().embed, 224


@contextmanager
def _dino_from(folder: Path) -> Iterator[None]:
    """Give the package, which asks torch.hub for another repository's code, its own copy of that network.

    The weights are the teacher's of the checkpoint, or those of :data:`DINO_BACKBONE` beside it.
    """
    from dreamsim.feature_extraction.vision_transformer import vit_base

    own, apart = folder / DREAMSIM_TYPES["ensemble"][0], folder / DINO_BACKBONE
    teacher = torch.load(own, map_location="cpu", weights_only=True).get("teacher", {})
    backbone = {n.removeprefix("backbone."): v for n, v in teacher.items() if n.startswith("backbone.")}
    if not backbone:
        if not apart.exists():
            raise UserError(
                f"models.dreamsim: '{own}' holds DINO's head alone; put {DINO_BACKBONE} of "
                "dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain beside it, or name the checkpoint of "
                "open_clip_vitb32"
            )
        tensors_only(apart, "dreamsim")
        backbone = torch.load(apart, map_location="cpu", weights_only=True)
    network = vit_base(patch_size=16)
    network.load_state_dict(backbone)
    before = torch.hub.load, torch.hub.get_dir()
    torch.hub.load = lambda *_, **__: network
    try:
        yield
    finally:
        torch.hub.load = before[0]
        torch.hub.set_dir(before[1])


def load_dreamsim(folder: Path, adapter: bool = True) -> Any:
    """Load a DreamSim checkpoint of the package's ``clip_vitl14`` kind, which may have any size.

    Its file carries the constructor's arguments beside the weights. The adapter is left out when
    it is about to be trained.
    """
    from dreamsim.model import PerceptualModel
    from peft import PeftModel

    settings = json.loads((folder / "dreamsim.json").read_text())
    settings.pop("image_size")
    for path in (*folder.glob("*.pth.tar"), *folder.glob("clip_vitl14_single_lora/*.bin")):
        tensors_only(path, "dreamsim")
    model = PerceptualModel(**settings, lora=True, normalize_embeds=True, load_dir=str(folder), device="cpu")
    for extractor in model.extractor_list:  # plain attributes: .to() and .float() do not reach them
        extractor.proj, extractor.device = extractor.proj.detach().float().to(device()), device()
    if adapter:
        model = PeftModel.from_pretrained(model, folder / "clip_vitl14_single_lora")
    return model.float().eval()


def feature_extractor(ref: ModelRef, config: PerceptualConfig) -> Extractor:
    """Load the network behind the perceptual distance S as a differentiable function of pictures.

    Raises:
        UserError: a layer number the network does not have.
    """
    if config.extractor == "dreamsim":
        return dreamsim_features(*dreamsim(ref))
    if config.extractor == "lpips":
        return lpips_features(frozen(_lpips(locate(ref, "lpips"))))
    if config.extractor == "clip_conv":
        import open_clip

        _check_layers(ref, config, STAGES, "stages")
        path = locate(ref, "clip_conv")
        path = path if path.is_file() else path / OPEN_CLIP
        visual = frozen(open_clip.create_model(CLIP_CONV, pretrained=str(path))).visual
        return conv_features(visual, config.layers, visual.image_size)
    vision, side, mean, std = _vision_tower(ref, config.extractor)
    _check_layers(ref, config, vision.config.num_hidden_layers, "blocks")
    return vit_features(vision, config.layers, side, mean, std)


def _lpips(path: Path) -> nn.Module:
    """Load LPIPS: its learned weights lie in its package, its VGG-16 in torchvision's file."""
    import lpips

    network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)  # random: it would download them itself
    found = tensors_only(path, "lpips")
    try:
        for name, parameter in network.net.named_parameters():
            _, layer, kind = name.split(".")
            parameter.data.copy_(found[f"features.{layer}.{kind}"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(
            f"models.lpips: {path} is no VGG-16 of torchvision; name "
            "https://download.pytorch.org/models/vgg16-397923af.pth#sha256=397923af"
        ) from error
    return network


def feature_dtype(ref: ModelRef, config: PerceptualConfig) -> torch.dtype:
    """Return the precision in which :func:`feature_extractor` computes, and in which features are stored."""
    always_float32 = config.extractor in ("dreamsim", "lpips", "clip_conv")
    return torch.float32 if always_float32 else dtype(ref)


def _check_layers(ref: ModelRef, config: PerceptualConfig, depth: int, kind: str) -> None:
    if not all(1 <= abs(layer) <= depth for layer in config.layers):
        raise UserError(
            f"train.perceptual.layers: {list(config.layers)}, but '{ref.path}' has {depth} {kind}, which "
            "count from 1, or from the last as -1"
        )


def _vision_tower(ref: ModelRef, extractor: str) -> tuple[Any, int, tuple[float, ...], tuple[float, ...]]:
    """Load a transformers vision tower, the side of its pictures, and the normalisation of its training."""
    from transformers import (
        Blip2VisionModel,
        BlipVisionModel,
        CLIPImageProcessor,
        CLIPVisionModel,
        Dinov2Model,
    )

    kinds = {"clip": CLIPVisionModel, "dino": Dinov2Model, "blip": BlipVisionModel, "blip2": Blip2VisionModel}
    processor = load(CLIPImageProcessor, ref, extractor)
    # A captioner's file names its vision tower; the tower by itself does not.
    inside: dict[str, Any] = {"key_mapping": {r"^vision_model\.": ""}} if extractor.startswith("blip") else {}
    tower: Any = frozen(load_network(kinds[extractor], ref, extractor, **inside))
    # DINOv2's own file names the side of its last days of training, 518, and its processor what it is
    # shown, 224; of the others the file is right, and BLIP's processors name no crop.
    side = processor.crop_size["height"] if extractor == "dino" else tower.config.image_size
    return tower, side, tuple(processor.image_mean), tuple(processor.image_std)
