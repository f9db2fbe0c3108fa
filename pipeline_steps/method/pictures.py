"""Pictures as tensors: ranges, normalisation, fixed views."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def to_unit(pictures: Sequence[Image.Image] | np.ndarray) -> Tensor:
    """RGB pictures of one size, or uint8 (n, h, w, 3), to float32 (n, 3, h, w) in [0, 1]."""
    array = pictures if isinstance(pictures, np.ndarray) else np.stack([np.asarray(p) for p in pictures])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float().div_(255)


def to_pictures(unit: Tensor) -> list[Image.Image]:
    """Float (n, 3, h, w) in [0, 1] to RGB pictures; values outside are clamped."""
    array = (
        unit.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    )
    return [Image.fromarray(picture) for picture in array]


def normalise(unit: Tensor, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> Tensor:
    """Subtract the channel means and divide by the deviations; shape (n, 3, h, w)."""
    centre, spread = (
        torch.tensor(v, dtype=unit.dtype, device=unit.device).view(1, 3, 1, 1) for v in (mean, std)
    )
    return (unit - centre) / spread


def resize(unit: Tensor, side: int) -> Tensor:
    """Resize to ``side`` × ``side`` (bicubic, antialiased, differentiable); no-op at that size."""
    if unit.shape[-2:] == (side, side):
        return unit
    return F.interpolate(unit, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def draw_views(count: int, random: torch.Generator) -> Tensor:
    """Draw the fixed views of one picture: the whole of it, then random crops.

    Args:
        count: number of views V ≥ 1.
        random: the picture's own generator.

    Returns:
        Boxes (V, 4): left, top, right, bottom in [0, 1]; crops have 0.5 to 0.9 of the side.
    """
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(count, 1)
    for view in range(1, count):
        side = 0.5 + 0.4 * torch.rand((), generator=random)
        corner = torch.rand(2, generator=random) * (1 - side)
        boxes[view] = torch.cat([corner, corner + side])
    return boxes


def crop(unit: Tensor, boxes: Tensor) -> Tensor:
    """Cut one box from each picture and scale it to the picture's size (bilinear, differentiable).

    Args:
        unit: (n, 3, h, w).
        boxes: (n, 4) as :func:`draw_views` returns them.
    """
    if torch.equal(boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=boxes.device).expand_as(boxes)):
        return unit
    left, top, right, bottom = boxes.unbind(-1)
    theta = torch.zeros(len(unit), 2, 3, dtype=unit.dtype, device=unit.device)
    theta[:, 0, 0], theta[:, 0, 2] = right - left, left + right - 1
    theta[:, 1, 1], theta[:, 1, 2] = bottom - top, top + bottom - 1
    grid = F.affine_grid(theta, list(unit.shape), align_corners=False)
    return F.grid_sample(unit, grid, mode="bilinear", padding_mode="border", align_corners=False)
