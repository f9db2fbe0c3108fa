"""Feature extractors of the perceptual distance S (paper §4.3 and §6).

Each takes RGB pictures in [0, 1], (n, 3, h, w), is differentiable, and returns one tensor
(n, positions, channels) per layer, scaled so that :func:`view_distance`
is the published distance.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline_steps.method.pictures import CLIP_MEAN, CLIP_STD, crop, normalise, resize

Extractor = Callable[[Tensor], tuple[Tensor, ...]]

STAGES = 4
"""Of a ModifiedResNet."""


def _tokens(states: Sequence[Tensor], layers: Sequence[int]) -> tuple[Tensor, ...]:
    """Tokens of the chosen blocks, of length 1/√2: their squared distance is 1 − cosine, token-wise."""
    return tuple(F.normalize(states[layer].float(), dim=-1) / math.sqrt(2) for layer in layers)


def vit_features(
    vision: nn.Module,
    layers: Sequence[int],
    side: int,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
) -> Extractor:
    """Token-wise features of a transformers vision tower (CLIP, DINOv2, BLIP, BLIP-2).

    Args:
        vision: called with ``pixel_values`` and ``output_hidden_states=True``.
        layers: numbers of blocks, 1 the first; negative numbers count from the last.
        side: input size in pixels.
        mean: of the normalisation.
        std: of the normalisation.
    """

    def extract(unit: Tensor) -> tuple[Tensor, ...]:
        pixels = normalise(resize(unit, side), mean, std)
        return _tokens(vision(pixel_values=pixels, output_hidden_states=True).hidden_states, layers)

    return extract


def conv_features(trunk: Any, layers: Sequence[int], side: int) -> Extractor:
    """Convolutional activations of an open_clip ModifiedResNet (CLIPasso's choice: RN101, squared error).

    Args:
        trunk: with ``stem`` and ``layer1`` to ``layer4``.
        layers: numbers of stages, 1 the first of four; negative numbers count from the last.
        side: input size in pixels.
    """

    def extract(unit: Tensor) -> tuple[Tensor, ...]:
        x = trunk.stem(normalise(resize(unit, side)))
        stages = []
        for stage in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
            x = stage(x)
            stages.append(x)
        chosen = [stages[layer - 1 if layer > 0 else layer] for layer in layers]
        # Mean over positions *and* channels, as CLIPasso's mean squared error.
        return tuple(x.float().flatten(2).transpose(1, 2) / math.sqrt(x.shape[1]) for x in chosen)

    return extract


def dreamsim_features(embed: Callable[[Tensor], Tensor], side: int) -> Extractor:
    """DreamSim's embedding; the distance is 1 − cosine (Fu et al. 2023)."""

    def extract(unit: Tensor) -> tuple[Tensor, ...]:
        return (F.normalize(embed(resize(unit, side)).float(), dim=-1)[:, None] / math.sqrt(2),)

    return extract


def lpips_features(network: Any, side: int = 224) -> Extractor:
    """LPIPS' activations, scaled by its learned weights (Zhang et al. 2018, Eq. 1).

    Args:
        network: ``lpips.LPIPS`` without spatial averaging.
        side: larger pictures are made as small as this; its networks grew up with 224 pixels.
    """

    def extract(unit: Tensor) -> tuple[Tensor, ...]:
        if unit.shape[-1] > side:
            unit = resize(unit, side)
        activations = network.net(network.scaling_layer(unit * 2 - 1))
        layers = []
        for activation, linear in zip(activations, network.lins, strict=True):
            # Where a position is all zero, vector_norm's gradient is zero; that of a written-out root is NaN.
            length = torch.linalg.vector_norm(activation, dim=1, keepdim=True)
            unit_length = activation / (length + 1e-10)
            weight = linear.model[-1].weight.clamp(min=0).sqrt()  # (1, c, 1, 1)
            scaled = unit_length * weight * math.sqrt(network.L)  # S averages layers, LPIPS sums them
            layers.append(scaled.float().flatten(2).transpose(1, 2))
        return tuple(layers)

    return extract


def view_features(extract: Extractor, unit: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
    """Features of every view of every picture in one batch.

    Args:
        extract: the extractor.
        unit: (n, 3, h, w) in [0, 1].
        boxes: (n, V, 4).

    Returns:
        One tensor (n, V, positions, channels) per layer.
    """
    n, views = boxes.shape[:2]
    cut = crop(unit.repeat_interleave(views, 0), boxes.flatten(0, 1).to(unit))
    return tuple(layer.unflatten(0, (n, views)) for layer in extract(cut))


def view_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """S per view: layers (..., V, positions, channels), broadcast against each other, to (..., V)."""
    layers = [(x.float() - y.float()).square().sum(-1).mean(-1) for x, y in zip(a, b, strict=True)]
    return torch.stack(layers).mean(0)
