"""SCoFT's losses (paper §4), one value per picture, so that batches can be split in any way.

L = a·L_LDM + b·L_M + p·L_P + c·L_C
"""

import torch
from torch import Tensor


def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each picture: (n, c, h, w) twice to (n,)."""
    return (predicted.float() - target.float()).square().mean(dim=(1, 2, 3))


def ldm_loss(predicted: Tensor, target: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Eq. 1, squared: w_t ‖ε − ε_θ(z_t, c_ccub, t)‖², as a mean over elements; (n,)."""
    return weight * squared_error(predicted, target)


def memorisation_loss(predicted: Tensor, blip_predictions: Tensor) -> Tensor:
    """Eq. 2, squared: ‖ε_θ(z_t, c_ccub, t) − sg[mean_i ε_θ(z_t, c_blip^i, t)]‖²; (n,).

    With one caption drawn at random the gradient is the same in expectation, since
    2(a − mean b_i) = mean 2(a − b_i), at 1/k of the cost.

    Args:
        predicted: (n, c, h, w), with gradient.
        blip_predictions: (n, k, c, h, w), the current network's, without gradient.
    """
    return squared_error(predicted, blip_predictions.detach().float().mean(dim=1))


def perceptual_loss(positive: Tensor) -> Tensor:
    """Eq. 3: S(x̂, x⁺), averaged over views: (n, views) to (n,)."""
    return positive.mean(1)


def contrastive_loss(
    positive: Tensor, negative: Tensor, present: Tensor, *, lam: float, margin: float, hinge: bool = True
) -> Tensor:
    """Eq. 4: mean over negatives of max(S(x̂, x⁺) − λ S(x̂, x⁻) + m, 0); (n,).

    S is the mean over views, as in Eq. 3: the hinge compares pictures, not each of their views.
    Without ``hinge``, the authors' code: S⁺ − mean S⁻ (λ and m unused).

    Args:
        positive: S(x̂, x⁺), (n, views).
        negative: S(x̂, x⁻), (n, most negatives, views).
        present: bool (n, most negatives): which negatives there are. A picture without any gives 0.
        lam: λ.
        margin: m.
        hinge: Eq. 4's, or the authors' difference.
    """
    plus, minus = positive.mean(1)[:, None], negative.mean(2)
    terms = (plus - lam * minus + margin).clamp(min=0) if hinge else plus - minus
    count = present.sum(1)
    total = (terms * present).sum(1)
    return torch.where(count > 0, total / count.clamp(min=1), 0.0)
