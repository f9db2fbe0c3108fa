"""The only place that knows model ids, revisions, folders, dtype and device.

A model comes from the hub or from a folder of the same layout through the same ``from_pretrained``
call. Only safetensors are read where a model offers them; code from a model folder is never run.
"""

import json
import logging
import os
import pickle
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from torch import nn

from pipeline_steps.artifacts import file_sha256, folder_sha256
from pipeline_steps.config import BaseRef, ModelRef, PerceptualConfig
from pipeline_steps.errors import UserError
from pipeline_steps.gpus import CLAIMED
from pipeline_steps.method.denoising import Condition
from pipeline_steps.method.perceptual import (
    STAGES,
    Extractor,
    conv_features,
    dreamsim_features,
    lpips_features,
    vit_features,
)
from pipeline_steps.method.pictures import resize
from pipeline_steps.model_store import OPEN_CLIP, locate

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from transformers import PreTrainedModel, ProcessorMixin

PictureEncoder = Callable[[torch.Tensor], torch.Tensor]
"""RGB pictures of one size, uint8 (n, 3, h, w), to float32 features (n, d) on the CPU."""

LOG = logging.getLogger(__name__)

MIDAS_CHECKPOINT = "dpt_hybrid-midas-501f0c75.pt"
"""The file by which controlnet_aux's MidasDetector is recognised in a folder."""
DREAMSIM_TYPES = ("clip_vitb32", "open_clip_vitb32")
"""dreamsim's own checkpoints that load from files alone."""


def device() -> torch.device:
    """Return the GPU this process may see, or the CPU; warn where a GPU was claimed in vain."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if CLAIMED in os.environ:
        _warn_once(
            f"GPU {os.environ[CLAIMED]} is held, but torch {torch.__version__} sees none and works on the "
            "CPU: look at nvidia-smi, and install a torch built for CUDA"
        )
    return torch.device("cpu")


def dtype(ref: ModelRef) -> torch.dtype:
    """Return the model's precision; warn of float16 on a CPU."""
    if ref.dtype == "float16" and device().type == "cpu":
        _warn_once(
            f"'{ref.path}' in float16 on a CPU is slow, and not every operation is there: take float32"
        )
    return getattr(torch, ref.dtype)


@cache
def _warn_once(message: str) -> None:
    LOG.warning(message)


def weights(ref: ModelRef, base: ModelRef | None = None) -> dict[str, Any]:
    """Return how weights are loaded: which files, and the precision (the base model's for its parts)."""
    return {"dtype": dtype(base or ref)} | ({"variant": ref.variant} if ref.variant else {})


def load(kind: Any, ref: ModelRef, role: str, call: str = "from_pretrained", **options: Any) -> Any:
    """Call ``kind.from_pretrained`` (or another of its class methods) for a role of the "models" section.

    Raises:
        UserError: the model cannot be read; the message names the role, the id and the mend.
    """
    path = locate(ref, role)
    try:
        return getattr(kind, call)(str(path), **options)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        plain = f", or set models.{role}.variant: null for its plain weights" if ref.variant else ""
        raise UserError(
            f"models.{role}: cannot load '{path}' ({reason}); give a folder in the hub's layout{plain}"
        ) from error


def load_network(kind: Any, ref: ModelRef, role: str, base: ModelRef | None = None, **options: Any) -> Any:
    """Load a network of transformers or diffusers, and look whether its weights were found.

    Both libraries draw what is missing at random, and say so where nobody looks.

    Raises:
        UserError: the model cannot be read, or most of its weights are not in the files.
    """
    network, found = load(kind, ref, role, output_loading_info=True, **weights(ref, base), **options)
    missing, whole = sorted(found["missing_keys"]), len(network.state_dict())
    shown = f"models.{role}: '{ref.path}' lacks {len(missing)} of the {whole} tensors of a {kind.__name__}"
    if 2 * len(missing) > whole:
        raise UserError(f"{shown}: it is another kind of model; name one of this kind")
    if missing:
        LOG.warning("%s, which are drawn at random: %s", shown, ", ".join(missing[:3]))
    return network


def frozen(model: nn.Module) -> Any:
    """Put a network on the device for inference."""
    return model.requires_grad_(False).eval().to(device())


def captioner(ref: ModelRef) -> "tuple[PreTrainedModel, ProcessorMixin]":
    """Load BLIP or BLIP-2 and its processor."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = load_network(AutoModelForImageTextToText, ref, "captioner")
    return frozen(model), load(AutoProcessor, ref, "captioner")


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

    _tensors_only(folder / MIDAS_CHECKPOINT, "depth")
    detector = MidasDetector.from_pretrained(str(folder)).to(device())

    def estimate(pictures: Sequence[Image.Image]) -> list[Image.Image]:
        maps = []
        for picture in pictures:
            side = min(picture.size)
            found = detector(picture, detect_resolution=side, image_resolution=side, output_type="pil")
            grey = found.convert("L").resize(picture.size, Image.Resampling.BICUBIC)
            low, high = grey.getextrema()
            maps.append(grey if high > low else Image.new("L", picture.size, 128))
        return maps

    return estimate


def _tensors_only(path: Path, role: str) -> Any:
    """Return what a file holds; a pickle of anything but tensors is refused before a package reads it.

    Raises:
        UserError: it does, or is no PyTorch file.
    """
    try:
        # Files from before torch 1.6, Inception's among them, are no archives and cannot be mapped.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"models.{role}: {path} holds more than tensors, or is damaged ({reason})") from error


def unet(base: BaseRef) -> "UNet2DConditionModel":
    """Load the denoiser, frozen."""
    from diffusers import UNet2DConditionModel

    return frozen(load_network(UNet2DConditionModel, base, "base", subfolder="unet"))


def vae(base: BaseRef) -> "AutoencoderKL":
    """Load the autoencoder, frozen: the model's own or the one named in its place.

    SDXL's own says of itself that it overflows in float16 (``force_upcast``) and then works in float32.
    """
    model = frozen(_vae(base))
    return (
        model.float() if model.dtype == torch.float16 and model.config.force_upcast and is_xl(base) else model
    )


def _vae(base: BaseRef) -> "AutoencoderKL":
    from diffusers import AutoencoderKL

    if base.vae:
        model = load_network(AutoencoderKL, base.vae, "base.vae", base)
    else:
        model = load_network(AutoencoderKL, base, "base", subfolder="vae")
    if base.vae_slicing:
        model.enable_slicing()
    return model


def pipeline_class(base: BaseRef) -> str:
    """Return the pipeline that the model's own model_index.json names.

    Raises:
        UserError: no such file, or a pipeline this method cannot train.
    """
    from diffusers import DiffusionPipeline

    found = load(DiffusionPipeline, base, "base", "load_config")["_class_name"]
    if found not in ("StableDiffusionPipeline", "StableDiffusionXLPipeline"):
        raise UserError(
            f"models.base: '{base.path}' is a {found}; name a Stable Diffusion 1.x, 2.x or XL model "
            "(StableDiffusionPipeline or StableDiffusionXLPipeline in its model_index.json)"
        )
    return found


def is_xl(base: BaseRef) -> bool:
    """Whether the model has SDXL's two text encoders and size conditions."""
    return pipeline_class(base) == "StableDiffusionXLPipeline"


def _pipeline(base: BaseRef, controlled: bool = False, **parts: Any) -> Any:
    """Load the model's pipeline with some parts replaced or, by None, left out."""
    import diffusers

    name = pipeline_class(base)
    if controlled:
        name = name.replace("Pipeline", "ControlNetPipeline")
    # No black pictures of a safety checker among the scored ones, nor a watermark where a package
    # for it happens to be installed.
    unscored = (
        {"add_watermarker": False} if is_xl(base) else {"safety_checker": None, "feature_extractor": None}
    )
    pipeline = load(getattr(diffusers, name), base, "base", **weights(base), **parts, **unscored)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device())


def prompt_encoder(base: BaseRef) -> "Callable[[Sequence[str]], Condition]":
    """Load the text encoders as a function of prompts to what the UNet is conditioned on.

    The pipeline's own code encodes: prompts over the limit of 77 tokens are cut with the end token
    kept. Of Stable Diffusion 1.x and 2.x there is ``encoder_hidden_states`` (n, 77, d); of SDXL those
    of both encoders side by side, and ``text_embeds`` (n, p), the pooled state of the second. Where
    SDXL was trained on zeros for the empty prompt, the empty prompt is zeros.
    """
    pipeline = _pipeline(base, unet=None, vae=None)
    zeros = pipeline.config.get("force_zeros_for_empty_prompt", False)
    names = ["encoder_hidden_states"] + ["text_embeds"] * is_xl(base)

    @torch.inference_mode()
    def encode(prompts: Sequence[str]) -> Condition:
        found = pipeline.encode_prompt(
            list(prompts), device=device(), num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        # The pipelines return (caption, null) and, for SDXL, (pooled caption, pooled null) after them.
        condition = dict(zip(names, found[::2], strict=True))
        if zeros:
            for value in condition.values():
                value[[prompt == "" for prompt in prompts]] = 0
        return condition

    return encode


def noise_schedule(base: BaseRef) -> "SchedulerMixin":
    """Load the training noise schedule (``alphas_cumprod``, ``prediction_type``)."""
    from diffusers import DDPMScheduler

    return load(DDPMScheduler, base, "base", subfolder="scheduler")


def _generation(pipeline: Any) -> Any:
    """DPM-Solver++ (paper §5 setting)."""
    from diffusers import DPMSolverMultistepScheduler

    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, algorithm_type="dpmsolver++"
    )
    return pipeline


def text_to_image(base: BaseRef, lora: Path | None = None) -> "DiffusionPipeline":
    """Load the model's pipeline for sampling, with a LoRA where one is given."""
    pipeline = _pipeline(base, vae=_vae(base))
    if lora is not None:
        pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    return _generation(pipeline)


def depth_to_image(base: BaseRef, controlnet: ModelRef) -> "DiffusionPipeline":
    """Load the un-tuned model with depth control for the negatives."""
    from diffusers import ControlNetModel

    control = load_network(ControlNetModel, controlnet, "controlnet", base)
    return _generation(_pipeline(base, controlled=True, controlnet=control, vae=_vae(base)))


def dreamsim(ref: ModelRef) -> tuple[Callable[[torch.Tensor], torch.Tensor], int]:
    """Load DreamSim.

    Returns:
        Its differentiable embedding of pictures in [0, 1], (n, 3, side, side), and ``side``.
    """
    folder = locate(ref, "dreamsim")
    if (folder / "dreamsim.json").exists():
        side = json.loads((folder / "dreamsim.json").read_text())["image_size"]
        return load_dreamsim(folder).to(device()).embed, side
    kinds = [kind for kind in DREAMSIM_TYPES if (folder / f"{kind}_pretrain.pth.tar").exists()]
    if not kinds:
        wanted = " or ".join(f"{kind}_pretrain.pth.tar" for kind in DREAMSIM_TYPES)
        raise UserError(f"models.dreamsim: '{folder}' holds no {wanted} (a dreamsim checkpoint, unzipped)")
    from dreamsim import dreamsim as load_package_model

    _tensors_only(folder / f"{kinds[0]}_pretrain.pth.tar", "dreamsim")
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
    for path in (*folder.glob("*.pth.tar"), *folder.glob("clip_vitl14_single_lora/*.bin")):
        _tensors_only(path, "dreamsim")
    model = PerceptualModel(**settings, lora=True, normalize_embeds=True, load_dir=str(folder), device="cpu")
    for extractor in model.extractor_list:  # plain attributes: .to() and .float() do not reach them
        extractor.proj, extractor.device = extractor.proj.detach().float().to(device()), device()
    if adapter:
        model = PeftModel.from_pretrained(model, folder / "clip_vitl14_single_lora")
    return model.float().eval()


# --- what looks at generated pictures: RGB of one size, uint8 (n, 3, h, w), to one CPU row each ---


def kid_network(ref: ModelRef) -> "FeatureExtractorBase":
    """Load the feature network for KID as torch-fidelity's extractor, called with uint8 (n, 3, h, w).

    A file is torch-fidelity's InceptionV3 (its download ``weights-inception-2015-12-05-6726825d.pth``);
    a folder is the embedded network.
    """
    path = locate(ref, "inception")
    if path.is_file():
        _tensors_only(path, "inception")  # torch-fidelity itself reads any pickle
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        return frozen(
            FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
            )
        )
    if (path / "config.json").exists():
        from pipeline_steps.mini.kid_network import EmbeddedExtractor

        return frozen(EmbeddedExtractor("embedded", ["grid"], feature_extractor_weights_path=str(path)))
    raise UserError(
        f"models.inception: '{ref.path}' is neither torch-fidelity's InceptionV3 weights nor the embedded "
        "network's folder; name the downloaded weights-inception-2015-12-05-6726825d.pth"
    )


def kid_encoder(ref: ModelRef) -> PictureEncoder:
    """Load the encoder for KID: 2048 features of InceptionV3, or the embedded network's grid."""
    network = kid_network(ref)

    @torch.inference_mode()
    def encode(rgb: torch.Tensor) -> torch.Tensor:
        return network(rgb.to(device()))[0].float().cpu()

    return encode


def warn_if_long(tokenizer: Any, prompt: str) -> None:
    """Say that a text encoder will not read a prompt to its end."""
    count, limit = len(tokenizer(prompt).input_ids), tokenizer.model_max_length
    if count > limit:
        LOG.warning("'%s…' has %d tokens: only the first %d are read", prompt[:60], count, limit)


def clip_encoders(ref: ModelRef) -> tuple[PictureEncoder, Callable[[Sequence[str]], torch.Tensor]]:
    """Load CLIP's encoders of pictures and of texts (cut at 77 tokens with the end token kept)."""
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    model = frozen(load_network(CLIPModel, ref, "clip"))
    processor = load(AutoImageProcessor, ref, "clip")
    tokenizer = load(AutoTokenizer, ref, "clip", model_max_length=77)

    @torch.inference_mode()
    def pictures(rgb: torch.Tensor) -> torch.Tensor:
        pixels = processor(list(rgb), return_tensors="pt").pixel_values.to(model.device, model.dtype)
        return model.get_image_features(pixel_values=pixels).pooler_output.float().cpu()

    @torch.inference_mode()
    def texts(prompts: Sequence[str]) -> torch.Tensor:
        for prompt in dict.fromkeys(prompts):
            warn_if_long(tokenizer, prompt)
        tokens = tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt")
        return model.get_text_features(**tokens.to(model.device)).pooler_output.float().cpu()

    return pictures, texts


def dino_encoder(ref: ModelRef) -> PictureEncoder:
    """Load DINOv2's encoder: its class token after the last layer."""
    from transformers import AutoImageProcessor, Dinov2Model

    model = frozen(load_network(Dinov2Model, ref, "dino"))
    processor = load(AutoImageProcessor, ref, "dino")

    @torch.inference_mode()
    def encode(rgb: torch.Tensor) -> torch.Tensor:
        pixels = processor(list(rgb), return_tensors="pt").pixel_values.to(model.device, model.dtype)
        return model(pixel_values=pixels).pooler_output.float().cpu()

    return encode


def dreamsim_encoder(ref: ModelRef) -> PictureEncoder:
    """Load DreamSim's embedding."""
    embed, side = dreamsim(ref)

    @torch.inference_mode()
    def encode(rgb: torch.Tensor) -> torch.Tensor:
        return embed(resize(rgb.to(device()).float() / 255, side)).float().cpu()

    return encode


def attribute_encoder(ref: ModelRef) -> PictureEncoder:
    """Load the embedded world's oracle: (n, attributes), the number of each attribute's value, int64."""
    from pipeline_steps.mini.oracle import AttributeNet, resize_to_world

    net = frozen(AttributeNet.from_pretrained(locate(ref, "oracle")))

    @torch.inference_mode()
    def encode(rgb: torch.Tensor) -> torch.Tensor:
        logits = net.logits(resize_to_world(rgb.to(device()).float() / 255))
        return torch.stack([values.argmax(-1) for values in logits.values()], dim=1).cpu()

    return encode


def weights_sha256(ref: ModelRef, role: str) -> str:
    """Return one SHA-256 over a model's weight files."""
    path = locate(ref, role)
    return file_sha256(path) if path.is_file() else folder_sha256(path)


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
        visual = frozen(open_clip.create_model("RN101-quickgelu", pretrained=str(path))).visual
        return conv_features(visual, config.layers, visual.image_size[0])
    vision, mean, std = _vision_tower(ref, config.extractor)
    _check_layers(ref, config, vision.config.num_hidden_layers, "blocks")
    return vit_features(vision, config.layers, vision.config.image_size, mean, std)


def _lpips(path: Path) -> nn.Module:
    """Load LPIPS: its learned weights lie in its package, its VGG-16 in torchvision's file."""
    import lpips

    network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)  # random: it would download them itself
    found = _tensors_only(path, "lpips")
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


def _vision_tower(ref: ModelRef, extractor: str) -> tuple[Any, tuple[float, ...], tuple[float, ...]]:
    """Load a transformers vision tower and the normalisation it was trained with."""
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
    inside = {"key_mapping": {r"^vision_model\.": ""}} if extractor.startswith("blip") else {}
    tower = frozen(load_network(kinds[extractor], ref, extractor, **inside))
    return tower, tuple(processor.image_mean), tuple(processor.image_std)
