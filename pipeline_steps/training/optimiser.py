"""AdamW, what a checkpoint keeps of it, how its learning rate goes, and the loss scale of float16."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from pipeline_steps.errors import UserError

if TYPE_CHECKING:
    from pipeline_steps.config import TrainConfig


def schedule_factor(config: "TrainConfig", update: int) -> float:
    """Return the learning rate's factor at an update, in [0, 1]; unstretched, cosine and linear end at 0."""
    if update < config.warmup:
        return (update + 1) / config.warmup
    progress = (update - config.warmup) / (config.updates * config.schedule_stretch - config.warmup)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if config.schedule == "linear" else 1.0


class LossScale:
    """Dynamic loss scale for float16: halved at an overflow, doubled after 2000 good updates.

    Attributes:
        overflowed: the last gradient was not finite, which the smaller scale may mend.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled, self.overflowed = enabled, False
        self.value, self.good = (2.0**16, 0) if enabled else (1.0, 0)

    def accept(self, norm: float) -> bool:
        """Take note of a gradient norm; False means the update must be left out."""
        if not self.enabled:
            return True
        self.overflowed = not math.isfinite(norm) and self.value > 1
        if self.overflowed:
            self.value, self.good = self.value / 2, 0
            return False
        self.good += 1
        if self.good % 2000 == 0:
            self.value *= 2
        return True


def build_optimiser(parameters: list[Parameter], config: "TrainConfig") -> torch.optim.Optimizer:
    """Return AdamW in the form the settings name.

    Raises:
        UserError: the 8-bit form is wanted and bitsandbytes is not installed.
    """
    options: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": (0.9, 0.999),
        "weight_decay": config.weight_decay,
    }
    if config.optimiser == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **options)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise UserError(
            "train.optimiser: 'adamw_8bit' wants the package bitsandbytes, which is not installed; "
            "pip install bitsandbytes, or set train.optimiser to adamw"
        ) from error
    return AdamW8bit(parameters, **options)


def moments_of(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimiser keeps of each parameter, by dotted names, on the CPU."""
    tensors: dict[str, Tensor] = {}
    for index, kept in optimiser.state_dict()["state"].items():
        tensors |= _flat(f"moment.{index:04d}", kept)
    return tensors


def restore_moments(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], parameters: Sequence[Parameter]
) -> None:
    """Take back what :func:`moments_of` returned; of all tensors given those of its names are read."""
    state: dict[int, dict[str, Any]] = {}
    for name, found in tensors.items():
        if name.startswith("moment."):
            _, number, *outer, key = name.split(".")
            place = state.setdefault(int(number), {})
            for part in outer:
                place = place.setdefault(part, {})
            # bitsandbytes counts its steps in plain integers; AdamW's are a float32 tensor.
            plain = found.ndim == 0 and (found.dtype == torch.float64 or not found.is_floating_point())
            place[key] = found.item() if plain else _laid_out(found, parameters[int(number)])
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _laid_out(moments: Tensor, parameter: Tensor) -> Tensor:
    """Return moments in their parameter's memory order, which a file does not keep.

    On CUDA a convolution's is channels last: an optimiser that walks the memory would take another's moments.
    """
    if moments.shape != parameter.shape:
        return moments
    return torch.empty_like(parameter, dtype=moments.dtype, requires_grad=False).copy_(moments)


def _flat(name: str, value: Any) -> dict[str, Tensor]:
    """Give what an optimiser keeps dotted names: bitsandbytes nests dictionaries and counts in numbers."""
    if isinstance(value, dict):
        inner = (_flat(f"{name}.{key}", kept) for key, kept in value.items())
        return {path: tensor for tensors in inner for path, tensor in tensors.items()}
    if isinstance(value, Tensor):
        # A copy: its tables are shared by all parameters, and a safetensors file shares nothing.
        return {name: value.to("cpu", copy=True)}
    return {name: torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)}
