"""The only place that knows model ids, revisions, folders, dtype and device.

A model comes from the hub or from a folder of the same layout through the same ``from_pretrained``
call. Only safetensors are read where a model offers them; code from a model folder is never run.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from pipeline_steps.config import ModelRef
from pipeline_steps.errors import UserError

if TYPE_CHECKING:
    from diffusers import (
        AutoencoderKL,
        SchedulerMixin,
        StableDiffusionControlNetPipeline,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedModel, ProcessorMixin

MIDAS_CHECKPOINT = "dpt_hybrid-midas-501f0c75.pt"
"""The file by which controlnet_aux's MidasDetector is recognised in a folder."""
DREAMSIM_TYPES = ("clip_vitb32", "open_clip_vitb32")
"""dreamsim's own checkpoints that load from files alone."""


def device() -> torch.device:
    """Return the GPU this process may see, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(ref: ModelRef) -> torch.dtype:
    """Return the model's precision."""
    return getattr(torch, ref.dtype)


def load(kind: Any, ref: ModelRef, role: str, **options: Any) -> Any:
    """Call ``kind.from_pretrained`` for a role of the "models" section.

    Raises:
        UserError: the folder or hub model cannot be read; the message names the role, the id and the mend.
    """
    try:
        return kind.from_pretrained(ref.path, revision=ref.revision, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"models.{role}: cannot load '{ref.path}' ({reason}); "
            "give a folder in the hub's layout, or fetch the model while there is a network"
        ) from error


def frozen(model: nn.Module) -> Any:
    """Put a network on the device for inference."""
    return model.requires_grad_(False).eval().to(device())


def captioner(ref: ModelRef) -> "tuple[PreTrainedModel, ProcessorMixin]":
    """Load BLIP or BLIP-2 and its processor."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = load(AutoModelForImageTextToText, ref, "captioner", dtype=dtype(ref))
    return frozen(model), load(AutoProcessor, ref, "captioner")


def depth_estimator(ref: ModelRef) -> Callable[[Sequence[Image.Image]], list[Image.Image]]:
    """Load MiDaS: a list of RGB pictures to 8-bit inverse depth (255 near) of the same sizes.

    A folder with controlnet_aux's checkpoint is read by its ``MidasDetector``, anything else as a
    transformers DPT.
    """
    if (Path(ref.path) / MIDAS_CHECKPOINT).exists():
        return _midas_detector(ref)
    from transformers import AutoImageProcessor, DPTForDepthEstimation

    model = frozen(load(DPTForDepthEstimation, ref, "depth", dtype=dtype(ref)))
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


def _midas_detector(ref: ModelRef) -> Callable[[Sequence[Image.Image]], list[Image.Image]]:
    from controlnet_aux import MidasDetector

    detector = MidasDetector.from_pretrained(ref.path).to(device())

    def estimate(pictures: Sequence[Image.Image]) -> list[Image.Image]:
        maps = []
        for picture in pictures:
            side = min(picture.size)
            found = detector(picture, detect_resolution=side, image_resolution=side, output_type="pil")
            maps.append(found.convert("L").resize(picture.size, Image.Resampling.BICUBIC))
        return maps

    return estimate


def unet(base: ModelRef) -> "UNet2DConditionModel":
    """Load the denoiser, frozen."""
    from diffusers import UNet2DConditionModel

    return frozen(load(UNet2DConditionModel, base, "base", subfolder="unet", dtype=dtype(base)))


def vae(base: ModelRef) -> "AutoencoderKL":
    """Load the autoencoder, frozen."""
    from diffusers import AutoencoderKL

    return frozen(load(AutoencoderKL, base, "base", subfolder="vae", dtype=dtype(base)))


def text_encoder(base: ModelRef) -> "tuple[CLIPTextModel, CLIPTokenizer]":
    """Load the diffusion model's text encoder and tokenizer."""
    from transformers import CLIPTextModel, CLIPTokenizer

    encoder = frozen(load(CLIPTextModel, base, "base", subfolder="text_encoder", dtype=dtype(base)))
    return encoder, load(CLIPTokenizer, base, "base", subfolder="tokenizer")


def noise_schedule(base: ModelRef) -> "SchedulerMixin":
    """Load the training noise schedule (``alphas_cumprod``, ``prediction_type``)."""
    from diffusers import DDPMScheduler

    return load(DDPMScheduler, base, "base", subfolder="scheduler")


def _generation(pipeline: Any) -> Any:
    """DPM-Solver++ (paper §5 setting), no safety checker, no bar per call."""
    from diffusers import DPMSolverMultistepScheduler

    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, algorithm_type="dpmsolver++"
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device())


def text_to_image(base: ModelRef, lora: Path | None = None) -> "StableDiffusionPipeline":
    """Load Stable Diffusion for sampling, with a LoRA where one is given."""
    from diffusers import StableDiffusionPipeline

    pipeline = load(StableDiffusionPipeline, base, "base", dtype=dtype(base), safety_checker=None)
    if lora is not None:
        pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    return _generation(pipeline)


def depth_to_image(base: ModelRef, controlnet: ModelRef) -> "StableDiffusionControlNetPipeline":
    """Load the un-tuned model with depth control for the negatives."""
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    control = load(ControlNetModel, controlnet, "controlnet", dtype=dtype(base))
    pipeline = load(
        StableDiffusionControlNetPipeline, base, "base", controlnet=control, dtype=dtype(base), safety_checker=None
    )
    return _generation(pipeline)


def dreamsim(ref: ModelRef) -> tuple[Callable[[torch.Tensor], torch.Tensor], int]:
    """Load DreamSim.

    Returns:
        Its differentiable embedding of pictures in [0, 1], (n, 3, side, side), and ``side``.
    """
    folder = Path(ref.path)
    if (folder / "dreamsim.json").exists():
        side = json.loads((folder / "dreamsim.json").read_text())["image_size"]
        return load_dreamsim(folder).to(device()).embed, side
    kinds = [kind for kind in DREAMSIM_TYPES if (folder / f"{kind}_pretrain.pth.tar").exists()]
    if not kinds:
        wanted = " or ".join(f"{kind}_pretrain.pth.tar" for kind in DREAMSIM_TYPES)
        raise UserError(f"models.dreamsim: '{folder}' holds no {wanted} (a dreamsim checkpoint, unzipped)")
    from dreamsim import dreamsim as load_package_model

    model, _ = load_package_model(device=str(device()), cache_dir=str(folder), dreamsim_type=kinds[0])
    return model.float().embed, 224


def load_dreamsim(folder: Path, adapter: bool = True) -> nn.Module:
    """Load a DreamSim checkpoint of the package's ``clip_vitl14`` kind, which may have any size.

    Its file carries the constructor's arguments beside the weights. The adapter is left out when
    it is about to be trained.
    """
    from dreamsim.model import PerceptualModel
    from peft import PeftModel

    settings = json.loads((folder / "dreamsim.json").read_text())
    settings.pop("image_size")
    model = PerceptualModel(**settings, lora=True, normalize_embeds=True, load_dir=str(folder), device="cpu")
    for extractor in model.extractor_list:  # plain attributes: .to() and .float() do not reach them
        extractor.proj, extractor.device = extractor.proj.detach().float().to(device()), device()
    if adapter:
        model = PeftModel.from_pretrained(model, folder / "clip_vitl14_single_lora")
    return model.float().eval()
