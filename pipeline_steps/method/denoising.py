"""From z_t to the picture's latents x̂ with the gradient recorded in one network call (paper §4.3)."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline_steps.method.processes import NoiseProcess

Condition = dict[str, Tensor]
"""What the network is conditioned on beside z and t: one row per picture in every tensor."""
Predict = Callable[[Tensor, Tensor, Condition], Tensor]
"""(z, t, condition) to the network's prediction."""


def recorded_step(record: Literal["first", "last", "random"], count: Tensor, draw: Tensor | None) -> Tensor:
    """Choose the step whose network call is recorded: (n,) of step numbers.

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
    """(1 + w) ε(z, c) − w ε(z, ∅) with 1 + w = ``scale``, in float32; the null branch takes no gradient."""
    conditional = conditional.float()  # of 16 bits the difference would be rounded once more
    return conditional if null is None else scale * conditional - (scale - 1) * null.detach().float()


def take(condition: Condition, rows: Tensor) -> Condition:
    """Select rows of a condition."""
    return {name: value[rows] for name, value in condition.items()}


def aligned(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Pad rows that differ in length with zeros behind: a condition says in a mask which are padding.

    Args:
        tensors: the same of several conditions, a row for each prompt.
    """
    rows = [tensor.shape[1:] for tensor in tensors]
    longest = [max(sizes) for sizes in zip(*rows, strict=True)]
    gaps = [[most - size for most, size in zip(longest, row, strict=True)] for row in rows]
    return [
        F.pad(tensor, [side for missing in reversed(gap) for side in (0, missing)]) if any(gap) else tensor
        for tensor, gap in zip(tensors, gaps, strict=True)
    ]


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
    process: NoiseProcess,
    steps: int,
    scale: float,
    record: Tensor,
    by_time: bool = False,
    first: Tensor | None = None,
    first_null: Tensor | None = None,
    noise: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """Denoise z_t to x̂'s latents; only the recorded call of each picture carries a gradient.

    The latent path stays differentiable through the linear steps after that call. A picture that has taken
    all its steps leaves the batch.

    Args:
        predict: the current network.
        z_t: (n, c, h, w).
        t: (n,).
        condition: the caption's.
        null: the empty caption's.
        process: the model's noise process.
        steps: most inner steps.
        scale: 1 + w; 1 needs no null pass.
        record: step recorded for each picture, (n,); −1: none.
        by_time: fewer steps the less noise there is (:meth:`NoiseProcess.grid`).
        first: ε_θ(z_t, c, t) with gradient, L_LDM's own forward, so that step 0 needs no other.
        first_null: ε_θ(z_t, ∅, t), likewise.
        noise: step number to (n, c, h, w) for stochastic steps; None for deterministic ones.

    Returns:
        Latents (n, c, h, w).
    """
    times, count = process.grid(t, steps, by_time)
    lengths, chosen = count.tolist(), record.tolist()  # once: asking in every step would make a GPU wait
    finished: dict[int, Tensor] = {}
    z, going, given, empty = z_t, list(range(len(lengths))), condition, null
    rows = torch.arange(len(lengths), device=z.device)
    for j in range(max(lengths)):
        if any(lengths[row] == j for row in going):
            finished |= {row: z[place] for place, row in enumerate(going) if lengths[row] == j}
            staying = torch.tensor([p for p, row in enumerate(going) if lengths[row] > j], device=z.device)
            going = [row for row in going if lengths[row] > j]
            z, rows, given, empty = z[staying], rows[staying], take(given, staying), take(empty, staying)
        tau = times[rows, j]
        if j == 0 and first is not None:
            plain = torch.where((record == 0).view(-1, 1, 1, 1), first, first.detach())
            unconditional = first_null
        else:
            with torch.no_grad():
                plain, unconditional = _both(predict, z.detach(), tau, given, empty, scale)
            recorded = [place for place, row in enumerate(going) if chosen[row] == j]
            if recorded:
                at = torch.tensor(recorded, device=z.device)
                with_gradient = predict(z.detach()[at], tau[at], take(given, at))
                plain = plain.index_copy(0, at, with_gradient.to(plain.dtype))
        z = process.step(
            z,
            guided(plain, unconditional, scale),
            tau,
            torch.where(count[rows] == j + 1, process.end, times[rows, min(j + 1, steps - 1)]),
            None if noise is None else noise(j)[rows],
        )
    finished |= {row: z[place] for place, row in enumerate(going)}
    return torch.stack([finished[row] for row in range(len(lengths))])
