"""Device, precision, and the one way in which weights are read.

A model comes from the hub or from a folder of the same layout through the same ``from_pretrained``
call. Only safetensors are read where a model offers them; code from a model folder is never run.
"""

import logging
import os
import pickle
import zipfile
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import nn

from pipeline_steps.artifacts import file_sha256, folder_sha256
from pipeline_steps.config import ModelRef
from pipeline_steps.errors import UserError, first_line
from pipeline_steps.machine.gpus import CLAIMED
from pipeline_steps.models.store import locate

LOG = logging.getLogger(__name__)
Network = TypeVar("Network", bound=nn.Module)


def device() -> torch.device:
    """Return torch's accelerator (CUDA, ROCm, XPU, MPS), or the CPU; warn where a GPU was claimed in vain."""
    if accelerator := torch.accelerator.current_accelerator(check_available=True):
        return torch.device(accelerator.type)
    if CLAIMED in os.environ:
        warn_once(
            f"GPU {os.environ[CLAIMED]} is held, but torch {torch.__version__} sees none and works on the "
            "CPU: look at nvidia-smi or rocm-smi, and install a torch built for it"
        )
    return torch.device("cpu")


def dtype(ref: ModelRef) -> torch.dtype:
    """Return the model's precision; warn of float16 on a CPU."""
    if ref.dtype == "float16" and device().type == "cpu":
        warn_once(f"'{ref.path}' in float16 on a CPU is slow, and not every operation is there: take float32")
    return getattr(torch, ref.dtype)


@cache
def warn_once(message: str) -> None:
    """Log a warning, however often it is due."""
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
        plain = f", or set models.{role}.variant: null for its plain weights" if ref.variant else ""
        raise UserError(
            f"models.{role}: cannot load '{path}' ({first_line(error)}); give a folder in the hub's "
            f"layout{plain}"
        ) from error


def load_network(
    kind: type[Network], ref: ModelRef, role: str, base: ModelRef | None = None, **options: Any
) -> Network:
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


def frozen(model: Network) -> Network:
    """Put a network on the device for inference."""
    return model.requires_grad_(False).eval().to(device())


def tensors_only(path: Path, role: str) -> Any:
    """Return what a file holds; a pickle of anything but tensors is refused before a package reads it.

    Raises:
        UserError: it does, or is no PyTorch file.
    """
    try:
        # Files from before torch 1.6, Inception's among them, are no archives and cannot be mapped.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        raise UserError(
            f"models.{role}: {path} holds more than tensors, or is damaged ({first_line(error)})"
        ) from error


def weights_sha256(ref: ModelRef, role: str) -> str:
    """Return one SHA-256 over a model's weight files."""
    path = locate(ref, role)
    return file_sha256(path) if path.is_file() else folder_sha256(path)
