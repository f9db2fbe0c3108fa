"""CLIPScore, cosine similarities and DIV (paper §5, §6)."""

from collections.abc import Hashable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline_steps.method.estimate import codes


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of each row of x with the same row of y, in float64.

    Args:
        x: features, shape (n, d).
        y: features, shape (n, d).

    Returns:
        Shape (n,), in [-1, 1].

    Raises:
        ValueError: a row is zero or not finite, so that it has no direction.
    """
    return (_unit(x) * _unit(y)).sum(-1)


def clip_score(pictures: Tensor, texts: Tensor) -> Tensor:
    """CLIPScore 2.5 · max(cos, 0) of each picture with its prompt (Hessel et al. 2021, §3).

    Args:
        pictures: CLIP image embeddings, shape (n, d).
        texts: CLIP text embeddings, shape (n, d).

    Returns:
        Shape (n,), in [0, 2.5].
    """
    return 2.5 * cosine(pictures, texts).clamp(min=0)


def diversity(features: Tensor, prompts: Sequence[Hashable]) -> tuple[list[float], list[Hashable]]:
    """DIV (paper §6): mean pairwise cosine distance between the pictures of one prompt.

    Args:
        features: DreamSim embeddings, shape (n, d).
        prompts: the prompt of each picture.

    Returns:
        One value in [0, 2] per prompt with at least two pictures, and those prompts.
    """
    unit, label = _unit(features), torch.from_numpy(codes(prompts))
    values, named = [], []
    for number, prompt in enumerate(dict.fromkeys(prompts)):
        rows = unit[label == number]
        if len(rows) > 1:
            pairs = len(rows) * (len(rows) - 1)
            values.append(float(1 - ((rows @ rows.T).sum() - len(rows)) / pairs))
            named.append(prompt)
    return values, named


def _unit(features: Tensor) -> Tensor:
    features = features.double()
    length = features.norm(dim=-1)
    if not (length.isfinite() & (length > 0)).all():
        raise ValueError("features hold a row that is zero or not finite: it has no direction")
    return F.normalize(features, dim=-1)
