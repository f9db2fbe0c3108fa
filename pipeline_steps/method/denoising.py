"""From z_t to the picture's latents x̂ with the gradient recorded in one UNet call (paper §4.3).

Every picture has its own t, so the steps are written per row instead of with a scheduler object;
tests compare them with diffusers' DDIM and DDPM schedulers.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Condition = dict[str, Tensor]
"""What the UNet is conditioned on beside z and t: one row per picture in every tensor."""
Predict = Callable[[Tensor, Tensor, Condition], Tensor]
"""(z, t, condition) to the network's prediction."""
Prediction = Literal["epsilon", "v_prediction"]


def add_noise(z0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """z_t = √ᾱ_t z_0 + √(1 − ᾱ_t) ε; ``alpha_bar`` is (n,)."""
    a = alpha_bar.view(-1, 1, 1, 1)
    return a.sqrt() * z0 + (1 - a).sqrt() * noise


def velocity(z0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """V = √ᾱ_t ε − √(1 − ᾱ_t) z_0, the target of v-prediction models."""
    a = alpha_bar.view(-1, 1, 1, 1)
    return a.sqrt() * noise - (1 - a).sqrt() * z0


def inner_timesteps(t: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Spread up to ``steps`` timesteps evenly from t down.

    Args:
        t: (n,) integers in [0, T).
        steps: most steps; a picture takes max(1, min(steps, t)).

    Returns:
        Timesteps (n, steps), τ_j = ⌊t (k − j) / k⌋ for the picture's k steps and 0 after them, and k (n,).
    """
    count = t.clamp(min=1, max=steps)
    j = torch.arange(steps, device=t.device)
    timesteps = torch.div(t[:, None] * (count[:, None] - j), count[:, None], rounding_mode="floor")
    return timesteps.clamp(min=0), count


def recorded_step(record: Literal["first", "last", "random"], count: Tensor, draw: Tensor | None) -> Tensor:
    """Choose the step whose UNet call is recorded: (n,) of step numbers.

    Args:
        record: which (Fig. 7).
        count: steps of each picture, (n,).
        draw: uniform numbers in [0, 1), (n,); needed by "random".
    """
    if record == "first":
        return torch.zeros_like(count)
    if record == "last":
        return count - 1
    assert draw is not None
    return (draw * count).long()


def guided(conditional: Tensor, null: Tensor | None, scale: float) -> Tensor:
    """(1 + w) ε(z, c) − w ε(z, ∅) with 1 + w = ``scale``; the null branch takes no gradient."""
    return conditional if null is None else scale * conditional - (scale - 1) * null.detach()


def clean_and_noise(
    z: Tensor, predicted: Tensor, alpha_bar: Tensor, kind: Prediction
) -> tuple[Tensor, Tensor]:
    """Split z_t into its predicted z_0 and ε; ``alpha_bar`` is (n, 1, 1, 1)."""
    a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    if kind == "epsilon":
        return (z - s * predicted) / a, predicted
    return a * z - s * predicted, a * predicted + s * z


def step_down(
    z: Tensor,
    predicted: Tensor,
    alpha_bar: Tensor,
    alpha_bar_next: Tensor,
    kind: Prediction,
    noise: Tensor | None,
) -> Tensor:
    """One reverse step from ᾱ_t to ᾱ_{t'}: DDIM (Song et al. 2021, η = 0), or DDPM where ``noise`` is given.

    DDPM (Ho et al. 2020, Eq. 7) takes the posterior mean and adds √β̃ · noise, β̃ = β (1 − ᾱ') / (1 − ᾱ)
    with β = 1 − ᾱ / ᾱ'.
    """
    z0, epsilon = clean_and_noise(z, predicted, alpha_bar, kind)
    if noise is None:
        return alpha_bar_next.sqrt() * z0 + (1 - alpha_bar_next).sqrt() * epsilon
    alpha = alpha_bar / alpha_bar_next
    beta = 1 - alpha
    mean = (alpha_bar_next.sqrt() * beta * z0 + alpha.sqrt() * (1 - alpha_bar_next) * z) / (1 - alpha_bar)
    variance = beta * (1 - alpha_bar_next) / (1 - alpha_bar)
    return mean + variance.clamp(min=0).sqrt() * noise


def take(condition: Condition, rows: Tensor) -> Condition:
    """Select rows of a condition."""
    return {name: value[rows] for name, value in condition.items()}


def _both(
    predict: Predict, z: Tensor, t: Tensor, condition: Condition, null: Condition, scale: float
) -> tuple[Tensor, Tensor | None]:
    """Predict with and without the caption in one batch; without guidance only with it."""
    if scale == 1:
        return predict(z, t, condition), None
    joined = {name: torch.cat([value, null[name]]) for name, value in condition.items()}
    conditional, unconditional = predict(z.repeat(2, 1, 1, 1), t.repeat(2), joined).chunk(2)
    return conditional, unconditional


def denoise(
    predict: Predict,
    z_t: Tensor,
    t: Tensor,
    condition: Condition,
    null: Condition,
    *,
    alpha_bars: Tensor,
    steps: int,
    scale: float,
    record: Tensor,
    first: Tensor | None = None,
    first_null: Tensor | None = None,
    kind: Prediction = "epsilon",
    noise: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """Denoise z_t to x̂'s latents; only the recorded call of each picture carries a gradient.

    The latent path stays differentiable through the linear steps after that call.

    Args:
        predict: the current network.
        z_t: (n, c, h, w).
        t: (n,).
        condition: the caption's.
        null: the empty caption's.
        alpha_bars: ᾱ, (T,).
        steps: most inner steps.
        scale: 1 + w; 1 needs no null pass.
        record: step recorded for each picture, (n,).
        first: ε_θ(z_t, c, t) with gradient, L_LDM's own forward, so that step 0 needs no other.
        first_null: ε_θ(z_t, ∅, t), likewise.
        kind: what the network predicts.
        noise: step number to (n, c, h, w) for DDPM; None for DDIM.

    Returns:
        Latents (n, c, h, w).
    """
    timesteps, count = inner_timesteps(t, steps)
    chosen = record.tolist()  # once: asking in every step would make a GPU wait
    z = z_t
    for j in range(int(count.max())):
        tau, active = timesteps[:, j], j < count
        if j == 0 and first is not None:
            plain = torch.where((record == 0).view(-1, 1, 1, 1), first, first.detach())
            unconditional = first_null
        else:
            with torch.no_grad():
                plain, unconditional = _both(predict, z.detach(), tau, condition, null, scale)
            if j in chosen:
                recorded = torch.tensor(
                    [row for row, step in enumerate(chosen) if step == j], device=z.device
                )
                with_gradient = predict(z.detach()[recorded], tau[recorded], take(condition, recorded))
                plain = plain.index_copy(0, recorded, with_gradient.to(plain.dtype))
        following = torch.where(j + 1 < count, alpha_bars[timesteps[:, min(j + 1, steps - 1)]], 1.0)
        stepped = step_down(
            z,
            guided(plain, unconditional, scale).float(),
            alpha_bars[tau].view(-1, 1, 1, 1),
            following.view(-1, 1, 1, 1),
            kind,
            None if noise is None else noise(j),
        )
        z = torch.where(active.view(-1, 1, 1, 1), stepped, z)
    return z
