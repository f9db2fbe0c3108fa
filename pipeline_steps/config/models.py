"""Settings of the networks: where each lies, and in which precision it is loaded."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from pipeline_steps.config.base import Section

LINK = re.compile(r"(https?://([\w.-]+(?::\d+)?(?:/[\w+~-][\w.+~-]*)+))(?:#sha256=([0-9a-fA-F]{8,64}))?")
"""A model that is not on the hub: its address, which is also its place among the fetched ones, and hash."""
HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([0-9a-f]{7,40}))?")
"""A model on the hub: owner and name, and a commit."""


def without_commit(path: str) -> str:
    """Return what a model is called where no commit is asked for."""
    return path.partition("@")[0]


class ModelRef(Section):
    """A model on this machine, on the hub or behind a link."""

    path: str = Field(min_length=1)
    """Local folder or file; or what `snakemake --cores 1 models` fetches: a hub id, with a commit if you like
    ("owner/name@commit"; without, the one in config/models.lock.json, or the newest), or a link to a file
    or .zip, with its SHA-256 or the first digits of it ("https://…/net.pt#sha256=501f0c75")."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision the weights are loaded in. A ControlNet takes the base model's; DreamSim, LPIPS, Inception,
    the oracle, CLIP's convolutions and MiDaS' own file are always float32."""
    variant: str | None = Field(None, pattern=r"^[a-z0-9]+$")
    """Take the weight files with this in their names ("fp16": half the size); null: the plain ones."""

    @field_validator("path")
    @classmethod
    def _link_or_commit(cls, path: str) -> str:
        if "://" in path and not LINK.fullmatch(path):
            raise ValueError(
                "a link is written https://host/folder/file, with #sha256=… or without; no ?, %, ="
            )
        if re.fullmatch(r"[\w.-]+/[\w.-]+@.*", path) and not HUB_ID.fullmatch(path):
            raise ValueError("behind the @ stands a commit: 7 to 40 of its digits 0-9 and a-f")
        return path


class BaseRef(ModelRef):
    """The model to be mended, of a family of models/families, as its own model_index.json says."""

    vae: ModelRef | None = None
    """Autoencoder in the place of the model's own (SDXL's overflows in float16); null: its own. It is
    loaded in the base model's dtype."""
    vae_slicing: bool = False
    """Encode and decode pictures one by one: less memory, a little slower."""

    @property
    def short_name(self) -> str:
        """What files call it: the last part of its path, e.g. "sd-v1-5" for Stable Diffusion 1.5."""
        name = Path(without_commit(self.path)).name.replace("stable-diffusion-", "sd-")
        return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "model"


class Models(Section):
    """The networks behind each stage; the defaults are the embedded family."""

    base: BaseRef = BaseRef(path="resources/mini/base")
    """The model to be mended, its VAE, text encoders and scheduler."""
    controlnet: ModelRef = ModelRef(path="resources/mini/controlnet")
    """Depth ControlNet for the base model, a folder or, for Z-Image, one file; read where negatives.structure
    is "depth"."""
    captioner: ModelRef = ModelRef(path="resources/mini/captioner")
    """BLIP."""
    depth: ModelRef = ModelRef(path="resources/mini/depth")
    """MiDaS: a transformers DPT, or a folder with controlnet_aux's checkpoint."""
    dreamsim: ModelRef = ModelRef(path="resources/mini/dreamsim")
    """DreamSim, in the package's own file format."""
    clip: ModelRef = ModelRef(path="resources/mini/clip")
    """CLIP for CLIPScore and, by default, for the perceptual distance."""
    dino: ModelRef = ModelRef(path="resources/mini/dino")
    """DINOv2."""
    inception: ModelRef = ModelRef(path="resources/mini/inception")
    """Feature network for KID: torch-fidelity's Inception weights file, or the embedded network's folder."""
    judge: ModelRef | None = None
    """Vision-language model that answers the survey's pages, e.g. Qwen-VL; null: the oracle does, which knows
    the drawn cultures alone."""
    oracle: ModelRef | None = ModelRef(path="resources/mini/oracle")
    """Attribute reader of the embedded world; null for real pictures."""
