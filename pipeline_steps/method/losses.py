"""The losses, one value per picture, so that batches can be split in any way.

SCoFT's (paper §4), L = a·L_LDM + b·L_M + p·L_P + c·L_C, and those of the baselines beside it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def exact(device: torch.device) -> torch.dtype:
    """Return the type of sums and small differences: MPS has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


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
    Without ``hinge``, the authors' code: S⁺ − mean S⁻ (λ and m unused); this holds L_P within itself, so that
    a picture without negatives keeps S⁺.

    Args:
        positive: S(x̂, x⁺), (n, views).
        negative: S(x̂, x⁻), (n, most negatives, views).
        present: bool (n, most negatives): which negatives there are. A picture without any gives 0, or S⁺.
        lam: λ.
        margin: m.
        hinge: Eq. 4's, or the authors' difference.
    """
    plus, minus = positive.mean(1)[:, None], negative.mean(2)
    terms = (plus - lam * minus + margin).clamp(min=0) if hinge else plus - minus
    count = present.sum(1)
    total = (terms * present).sum(1)
    alone = torch.zeros_like(total) if hinge else plus[:, 0]
    return torch.where(count > 0, total / count.clamp(min=1), alone)


def dpo_loss(
    winner: Tensor, loser: Tensor, winner_base: Tensor, loser_base: Tensor, present: Tensor, beta: float
) -> Tensor:
    """Diffusion-DPO (Wallace et al. 2023, Eq. 14); (n,).

    −log σ(−β/2 ((e⁺ − e⁺_base) − (e⁻ − e⁻_base))), e the squared errors of predictions of the real picture
    and of a negative, at one t and noise. β holds T ω(λ_t), as in the public script of its authors. With the
    un-tuned model's own pictures as losers this is the first round of SPIN-Diffusion (Yuan et al. 2024).

    Args:
        winner: squared errors of the network, (n,), with gradient.
        loser: likewise, of the negative.
        winner_base: squared errors of the un-tuned model, (n,).
        loser_base: likewise.
        present: bool (n,): which pictures have a negative; another gives 0.
        beta: β.
    """
    margin = (winner - winner_base) - (loser - loser_base)
    return torch.where(present, -F.logsigmoid(-0.5 * beta * margin), 0.0)


def mapo_loss(
    winner: Tensor, loser: Tensor, present: Tensor, beta: float, scale: float, times: int = 1000
) -> Tensor:
    """Margin-aware preference without a reference (MaPO, Hong et al. 2024); (n,).

    −β log σ(T (φ(e⁺) − φ(e⁻))) with φ(e) = s e / (exp(s e) − 1), which falls from 1 as the error e grows. It
    is added to L_LDM.

    Args:
        winner: squared errors of predictions of the real picture, (n,), with gradient.
        loser: likewise, of a negative at the same t and noise.
        present: bool (n,): which pictures have a negative; another gives 0.
        beta: β.
        scale: s.
        times: T.
    """
    # T times a small difference: in float32 little of it would be left.
    scaled = [scale * error.to(exact(error.device)) for error in (winner, loser)]
    likelihood = [error / torch.expm1(error) for error in scaled]
    return torch.where(present, -beta * F.logsigmoid(times * (likelihood[0] - likelihood[1])), 0.0).float()


def prior_loss(predicted: Tensor, base: Tensor) -> Tensor:
    """‖ε_θ(z_t, c) − ε_base(z_t, c)‖² for a caption c that names no culture; (n,).

    Holds the tuned network to the un-tuned one where nothing was to be changed (prior preservation as a
    distillation; Ruiz et al. 2023 do it with pictures).
    """
    return squared_error(predicted, base.detach())
