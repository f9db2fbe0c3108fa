"""One forward pass: all losses of a batch, nothing computed twice (paper §4, Fig. 3)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline_steps.method import losses
from pipeline_steps.method.denoising import Condition, Predict, denoise, recorded_step, take
from pipeline_steps.method.perceptual import Extractor, view_distance, view_features
from pipeline_steps.method.processes import NoiseProcess

LOOKS = ("p", "c")
"""The losses that look at the picture x̂."""


@dataclass(frozen=True)
class Objective:
    """The weight of each loss, and how each is evaluated.

    Attributes:
        a: weight of L_LDM.
        b: weight of L_M; 0 leaves its forward pass out.
        p: weight of L_P.
        c: weight of L_C.
        prior: weight of the prior of generic captions.
        dpo: weight of Diffusion-DPO's loss.
        mapo: weight of MaPO's.
        lam: λ of Eq. 4.
        margin: m of Eq. 4.
        hinge: Eq. 4's triplet, or the authors' difference.
        snr_gamma: γ of min-SNR weighting of L_LDM; None for w_t = 1.
        steps: most inner denoising steps.
        by_time: fewer of them the less noise there is.
        scale: inner guidance, 1 + w.
        record: which inner network call is recorded.
        beta: β of the preference loss.
        spread: s of MaPO.
    """

    a: float = 0.7
    b: float = 0.3
    p: float = 0.0
    c: float = 0.0
    prior: float = 0.0
    dpo: float = 0.0
    mapo: float = 0.0
    lam: float = 1.0
    margin: float = 0.0
    hinge: bool = True
    snr_gamma: float | None = None
    steps: int = 20
    by_time: bool = False
    scale: float = 4.5
    record: Literal["first", "last", "random"] = "first"
    beta: float = 5000.0
    spread: float = 1.0

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of each loss by its name in :data:`Parts`."""
        return {
            "ldm": self.a,
            "m": self.b,
            "p": self.p,
            "c": self.c,
            "prior": self.prior,
            "dpo": self.dpo,
            "mapo": self.mapo,
        }

    @property
    def perceptual(self) -> bool:
        """Whether any loss looks at x̂."""
        return self.p > 0 or self.c > 0

    @property
    def preference(self) -> bool:
        """Whether any loss compares a picture's noise with a negative's."""
        return self.dpo > 0 or self.mapo > 0


@dataclass
class Looks:
    """What is looked at: k of a batch's n pictures, with what their x̂ is compared to.

    Attributes:
        rows: which of the batch, (k,).
        boxes: views, (k, V, 4).
        positive: features of x⁺ per layer, (k, V, positions, channels); mirrored where z0 is.
        negative: features of x⁻ per layer, (k, most negatives, V, positions, channels).
        present: bool (k, most negatives).
        record_draw: uniform numbers (k,) for random recording.
        noise: step number to (k, c, h, w) for stochastic inner steps; None for deterministic ones.
    """

    rows: Tensor
    boxes: Tensor
    positive: list[Tensor]
    negative: list[Tensor]
    present: Tensor
    record_draw: Tensor
    noise: Callable[[int], Tensor] | None = None


@dataclass
class Batch:
    """n pictures with everything random already drawn.

    Attributes:
        z0: latents, (n, c, h, w).
        noise: ε, like z0.
        t: (n,).
        text: the hand-written caption's condition.
        blip: conditions of the BLIP captions, tensors (n, k, ...).
        null: the empty caption's condition.
        generic: the condition of one caption each that names no culture; needed by the prior.
        looks: the pictures that L_P and L_C look at; None for none.
        losers: latents of one negative each, like z0, for the preference losses.
        paired: bool (n,): which pictures have one.
    """

    z0: Tensor
    noise: Tensor
    t: Tensor
    text: Condition
    blip: Condition
    null: Condition
    generic: Condition = field(default_factory=dict)
    looks: Looks | None = None
    losers: Tensor | None = None
    paired: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Return the same on a device."""
        return replace(self, **{each.name: _moved(getattr(self, each.name), device) for each in fields(self)})


def _moved(value: Any, device: torch.device) -> Any:
    """Return tensors, also those inside of something, on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list):
        return [_moved(each, device) for each in value]
    if isinstance(value, dict):
        return {name: _moved(each, device) for name, each in value.items()}
    if isinstance(value, Looks):
        return replace(
            value, **{each.name: _moved(getattr(value, each.name), device) for each in fields(value)}
        )
    return value  # None, and the function that draws an inner step's noise


@dataclass
class Parts:
    """What a forward pass found.

    Attributes:
        losses: unweighted, by name: (n,), or (k,) of those that look at x̂; only what was evaluated.
        positive: S(x̂, x⁺) of each look, (k,).
        negative: mean S(x̂, x⁻) of each look, (k,); NaN where a picture has no negative.
        active: share of a look's negatives for which the hinge of Eq. 4 is open, (k,); likewise.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    positive: Tensor | None = None
    negative: Tensor | None = None
    active: Tensor | None = None


def forward(
    batch: Batch,
    objective: Objective,
    predict: Predict,
    process: NoiseProcess,
    *,
    base: Predict | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    extract: Extractor | None = None,
) -> Parts:
    """Evaluate the losses of a batch.

    Network passes: one with gradient for c_ccub, shared by L_LDM, L_M, the preference losses and the first
    inner step; one without for the BLIP captions and the first null branch together; then, where there is
    something to look at, one per further inner step for both branches together. The prior takes one with
    gradient for the generic captions and one of the un-tuned network, a preference loss one for the
    negatives and one of the un-tuned.

    Args:
        batch: the pictures.
        objective: weights and settings.
        predict: the current network, (z, t, condition) to its prediction.
        process: the model's noise process.
        base: the un-tuned network, likewise; needed by the prior and L_DPO.
        decode: latents to pictures in [0, 1], with gradient; needed for L_P and L_C.
        extract: feature extractor of S; likewise.
    """
    o, parts = objective, Parts()
    looks = batch.looks if o.perceptual else None
    z_t = process.add_noise(batch.z0, batch.noise, batch.t)
    predicted = predict(z_t, batch.t, batch.text)
    blip, null = _without_gradient(batch, o, predict, z_t, looks)

    target = process.target(batch.z0, batch.noise, batch.t)
    if o.a > 0:
        weight: Tensor | float = 1.0
        if o.snr_gamma is not None:
            weight = process.min_snr_weight(batch.t, o.snr_gamma)
        parts.losses["ldm"] = losses.ldm_loss(predicted, target, weight)
    if blip is not None:
        parts.losses["m"] = losses.memorisation_loss(predicted, blip)
    if o.prior > 0:
        assert base is not None
        parts.losses["prior"] = _prior(batch, predict, base, z_t)
    if o.preference:
        parts.losses |= _preference(
            batch, o, predict, base, process, z_t, losses.squared_error(predicted, target)
        )
    if looks is not None:
        assert decode is not None and extract is not None
        rows = looks.rows
        latents = denoise(
            predict,
            z_t[rows],
            batch.t[rows],
            take(batch.text, rows),
            take(batch.null, rows),
            process=process,
            steps=o.steps,
            scale=o.scale,
            by_time=o.by_time,
            record=recorded_step(
                o.record, process.grid(batch.t[rows], o.steps, o.by_time)[1], looks.record_draw
            ),
            first=predicted[rows],
            first_null=null,
            noise=looks.noise,
        )
        _compare(parts, o, looks, view_features(extract, decode(latents), looks.boxes))
    return parts


def _compare(parts: Parts, o: Objective, looks: Looks, features: tuple[Tensor, ...]) -> None:
    """Add L_P and L_C, and the distances behind them."""
    positive = view_distance(features, looks.positive)
    with torch.set_grad_enabled(o.c > 0):  # else the log alone reads it
        negative = view_distance([layer[:, None] for layer in features], looks.negative)
    if o.p > 0:
        parts.losses["p"] = losses.perceptual_loss(positive)
    if o.c > 0:
        parts.losses["c"] = losses.contrastive_loss(
            positive, negative, looks.present, lam=o.lam, margin=o.margin, hinge=o.hinge
        )
    with torch.no_grad():
        parts.positive, minus = positive.mean(1), negative.mean(2)
        opened = (parts.positive[:, None] - o.lam * minus + o.margin > 0) if o.hinge else minus > -1
        count = looks.present.sum(1)
        parts.negative = (minus * looks.present).sum(1) / count
        parts.active = (opened * looks.present).sum(1) / count


def _prior(batch: Batch, predict: Predict, base: Predict, z_t: Tensor) -> Tensor:
    """Hold the network to the un-tuned one for the generic captions."""
    with torch.no_grad():
        wanted = base(z_t, batch.t, batch.generic)
    return losses.prior_loss(predict(z_t, batch.t, batch.generic), wanted)


def _preference(
    batch: Batch,
    o: Objective,
    predict: Predict,
    base: Predict | None,
    process: NoiseProcess,
    z_t: Tensor,
    winner: Tensor,
) -> dict[str, Tensor]:
    """Compare a picture with one of its negatives at the same t, noise and caption."""
    assert batch.losers is not None and batch.paired is not None
    z_loser = process.add_noise(batch.losers, batch.noise, batch.t)
    target = process.target(batch.losers, batch.noise, batch.t)
    loser = losses.squared_error(predict(z_loser, batch.t, batch.text), target)
    found = {}
    if o.mapo > 0:
        found["mapo"] = losses.mapo_loss(winner, loser, batch.paired, o.beta, o.spread)
    if o.dpo > 0:
        assert base is not None
        twice = {name: torch.cat([value, value]) for name, value in batch.text.items()}
        with torch.no_grad():
            before = base(torch.cat([z_t, z_loser]), batch.t.repeat(2), twice)
            targets = torch.cat([process.target(batch.z0, batch.noise, batch.t), target])
            winner_base, loser_base = losses.squared_error(before, targets).chunk(2)
        found["dpo"] = losses.dpo_loss(winner, loser, winner_base, loser_base, batch.paired, o.beta)
    return found


def _without_gradient(
    batch: Batch, o: Objective, predict: Predict, z_t: Tensor, looks: Looks | None
) -> tuple[Tensor | None, Tensor | None]:
    """Predict for the BLIP captions, (n, k, c, h, w), and the looks' first null branch in one pass.

    None stands for what this update does not use.
    """
    n = len(z_t)
    captions = next(iter(batch.blip.values())).shape[1] if o.b > 0 else 0
    rows = torch.arange(n, device=z_t.device).repeat(captions)
    conditions = [{name: value.transpose(0, 1).flatten(0, 1) for name, value in batch.blip.items()}] * bool(
        captions
    )
    if looks is not None and o.scale != 1:
        rows = torch.cat([rows, looks.rows])
        conditions.append(take(batch.null, looks.rows))
    if not conditions:
        return None, None
    joined = {name: torch.cat([each[name] for each in conditions]) for name in conditions[0]}
    with torch.no_grad():
        found = predict(z_t[rows], batch.t[rows], joined)
    blip, null = found[: n * captions], found[n * captions :]
    return (
        blip.unflatten(0, (captions, n)).transpose(0, 1) if captions else None,
        null if len(null) else None,
    )


def weighted(
    parts: Parts, weights: Mapping[str, float]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Sum up over the pictures, each loss times its weight: what needs no x̂, L_P, and L_C; None for none."""
    plain = [weights[name] * value.sum() for name, value in parts.losses.items() if name not in LOOKS]
    p, c = (weights[n] * parts.losses[n].sum() if n in parts.losses else None for n in LOOKS)
    return (sum(plain[1:], plain[0]) if plain else None), p, c
