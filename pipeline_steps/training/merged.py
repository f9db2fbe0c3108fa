"""The denoiser with the LoRA added into its weights, for the many calls without gradient."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn


class MergedWeights:
    """W + s·BA in the place of W: one product a layer where the LoRA's own path takes three.

    The network's own W is put back untouched, so nothing drifts. Meant for float32 weights: in 16 bits
    a young LoRA would be rounded away.

    Args:
        denoiser: with a LoRA named "default".
    """

    def __init__(self, denoiser: nn.Module) -> None:
        # Any: LoraLayer does not name what all of its kinds have.
        self.layers: list[Any] = [layer for layer in denoiser.modules() if isinstance(layer, LoraLayer)]
        self.own = [layer.get_base_layer().weight.data for layer in self.layers]
        self.merged: list[Tensor] | None = None

    def forget(self) -> None:
        """The LoRA has changed."""
        self.merged = None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the network is called with merged weights; only for calls without gradient."""
        with torch.no_grad():
            if self.merged is None:
                pairs = zip(self.layers, self.own, strict=True)
                self.merged = [own + layer.get_delta_weight("default") for layer, own in pairs]
        try:
            for layer, weight in zip(self.layers, self.merged, strict=True):
                layer.get_base_layer().weight.data = weight
                layer.merged_adapters = ["default"]  # peft then leaves the LoRA's own path out
            yield
        finally:
            for layer, weight in zip(self.layers, self.own, strict=True):
                layer.get_base_layer().weight.data = weight
                layer.merged_adapters = []
