"""A decoder whose activations are computed anew on the way back, for train.gradient_checkpointing."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recompute_decoder(vae: Any) -> None:
    """Let the decoder's layers be computed anew on the way back, each by itself.

    diffusers' own way takes whole blocks, of which the last holds most of all activations.
    """
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.upsampling import Upsample2D

    for layer in vae.decoder.modules():
        if isinstance(layer, ResnetBlock2D | Upsample2D):
            again = partial(checkpoint, layer.forward, use_reentrant=False)
            layer.forward = again  # type: ignore[method-assign]


def one_by_one(decode: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    """Decode pictures one by one, each computed anew on the way back: one picture's activations live."""
    if len(latents) == 1:
        return decode(latents)
    return torch.cat([checkpoint(decode, one, use_reentrant=False) for one in latents.split(1)])
