"""What describes a picture: BLIP in words, MiDaS in depth."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from PIL import Image

from pipeline_steps.config import ModelRef
from pipeline_steps.models.loading import device, frozen, load, load_network, tensors_only
from pipeline_steps.models.store import locate

if TYPE_CHECKING:
    from transformers import Blip2ForConditionalGeneration, BlipForConditionalGeneration

    Captioner = BlipForConditionalGeneration | Blip2ForConditionalGeneration

MIDAS_CHECKPOINT = "dpt_hybrid-midas-501f0c75.pt"
"""The file by which controlnet_aux's MidasDetector is recognised in a folder."""
MIDAS_SIDE = 512
"""Pixels of the short side that it looks at, at most: controlnet_aux's own default. The network learnt at
384, and loses the whole of a picture over its details where it is shown much more."""


def captioner(ref: ModelRef) -> "tuple[Captioner, Any]":
    """Load BLIP or BLIP-2 and its processor."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    kind = cast("type[Captioner]", AutoModelForImageTextToText)  # whose from_pretrained returns one
    return frozen(load_network(kind, ref, "captioner")), load(AutoProcessor, ref, "captioner")


def depth_estimator(ref: ModelRef) -> Callable[[Sequence[Image.Image]], list[Image.Image]]:
    """Load MiDaS: a list of RGB pictures to 8-bit inverse depth (255 near) of the same sizes.

    controlnet_aux's checkpoint, or a folder with it, is read by its ``MidasDetector``, anything else as
    a transformers DPT.
    """
    path = locate(ref, "depth")
    if path.name == MIDAS_CHECKPOINT or (path / MIDAS_CHECKPOINT).exists():
        return _midas_detector(path if path.is_dir() else path.parent)
    from transformers import AutoImageProcessor, DPTForDepthEstimation

    model = frozen(load_network(DPTForDepthEstimation, ref, "depth"))
    processor = load(AutoImageProcessor, ref, "depth")

    @torch.inference_mode()
    def estimate(pictures: Sequence[Image.Image]) -> list[Image.Image]:
        pixels = processor(list(pictures), return_tensors="pt").pixel_values
        maps = model(pixels.to(model.device, model.dtype)).predicted_depth.float()
        return [
            _eight_bit(F.interpolate(inverse[None, None], picture.size[::-1], mode="bicubic")[0, 0])
            for inverse, picture in zip(maps, pictures, strict=True)
        ]

    return estimate


def _eight_bit(inverse: torch.Tensor) -> Image.Image:
    """Stretch to 0-255; a flat map, which has no depth to show, becomes mid-grey."""
    low, high = inverse.min(), inverse.max()
    stretched = (inverse - low) / (high - low) * 255 if high > low else torch.full_like(inverse, 128)
    return Image.fromarray(stretched.round().to(torch.uint8).cpu().numpy())


def _midas_detector(folder: Path) -> Callable[[Sequence[Image.Image]], list[Image.Image]]:
    from controlnet_aux import MidasDetector

    tensors_only(folder / MIDAS_CHECKPOINT, "depth")
    detector = MidasDetector.from_pretrained(str(folder)).to(device())

    def estimate(pictures: Sequence[Image.Image]) -> list[Image.Image]:
        maps = []
        for picture in pictures:
            side = min(picture.size)
            looked_at = min(side, MIDAS_SIDE)
            found = detector(picture, detect_resolution=looked_at, image_resolution=side, output_type="pil")
            grey = found.convert("L").resize(picture.size, Image.Resampling.BICUBIC)
            low, high = grey.getextrema()
            maps.append(grey if high > low else Image.new("L", picture.size, 128))
        return maps

    return estimate
