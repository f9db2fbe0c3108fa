"""One forward pass of SCoFT: all losses of a batch, nothing computed twice (paper §4, Fig. 3)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pipeline_steps.method import losses
from pipeline_steps.method.denoising import Condition, Predict, denoise, recorded_step
from pipeline_steps.method.perceptual import Extractor, view_distance, view_features
from pipeline_steps.method.processes import NoiseProcess


@dataclass(frozen=True)
class Objective:
    """L = a·L_LDM + b·L_M + p·L_P + c·L_C, and how each part is evaluated.

    Attributes:
        a: weight of L_LDM.
        b: weight of L_M; 0 leaves its forward pass out.
        p: weight of L_P.
        c: weight of L_C.
        lam: λ of Eq. 4.
        margin: m of Eq. 4.
        hinge: Eq. 4's triplet, or the authors' difference.
        snr_gamma: γ of min-SNR weighting of L_LDM; None for w_t = 1.
        t_weight: multiply L_P and L_C by the share of signal in z_t, ᾱ_t of a diffusion.
        steps: most inner denoising steps.
        scale: inner guidance, 1 + w.
        record: which inner network call is recorded.
    """

    a: float = 0.7
    b: float = 0.3
    p: float = 0.0
    c: float = 0.0
    lam: float = 1.0
    margin: float = 0.0
    hinge: bool = True
    snr_gamma: float | None = None
    t_weight: bool = False
    steps: int = 20
    scale: float = 4.5
    record: Literal["first", "last", "random"] = "first"

    @property
    def perceptual(self) -> bool:
        """Whether any loss looks at x̂."""
        return self.p > 0 or self.c > 0


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
        boxes: views, (n, V, 4).
        positive: features of x⁺ per layer, (n, V, positions, channels); mirrored where z0 is.
        negative: features of x⁻ per layer, (n, most negatives, V, positions, channels).
        present: bool (n, most negatives).
        record_draw: uniform numbers (n,) for random recording.
        inner_noise: step number to (n, c, h, w) for stochastic inner steps; None for deterministic ones.
    """

    z0: Tensor
    noise: Tensor
    t: Tensor
    text: Condition
    blip: Condition
    null: Condition
    boxes: Tensor | None = None
    positive: list[Tensor] = field(default_factory=list)
    negative: list[Tensor] = field(default_factory=list)
    present: Tensor | None = None
    record_draw: Tensor | None = None
    inner_noise: Callable[[int], Tensor] | None = None


@dataclass
class Parts:
    """Each loss of each picture, (n,), unweighted; None where it was not evaluated."""

    ldm: Tensor
    m: Tensor | None = None
    p: Tensor | None = None
    c: Tensor | None = None


def forward(
    batch: Batch,
    objective: Objective,
    predict: Predict,
    decode: Callable[[Tensor], Tensor] | None,
    extract: Extractor | None,
    process: NoiseProcess,
    *,
    perceptual: bool = True,
) -> Parts:
    """Evaluate the losses of a batch.

    Network passes: one with gradient for c_ccub, shared by L_LDM, L_M and the first inner step; one
    without for the BLIP captions and the first null branch together; then, on a perceptual update,
    one per further inner step for both branches together.

    Args:
        batch: the pictures.
        objective: weights and settings.
        predict: the current network, (z, t, condition) to its prediction.
        decode: latents to pictures in [0, 1], with gradient; needed for L_P and L_C.
        extract: feature extractor of S; likewise.
        process: the model's noise process.
        perceptual: evaluate L_P and L_C on this update.
    """
    o = objective
    perceptual = perceptual and o.perceptual
    z_t = process.add_noise(batch.z0, batch.noise, batch.t)
    predicted = predict(z_t, batch.t, batch.text)
    blip, null = _without_gradient(batch, o, predict, z_t, perceptual)

    weight: Tensor | float = 1.0 if o.snr_gamma is None else process.min_snr_weight(batch.t, o.snr_gamma)
    target = process.target(batch.z0, batch.noise, batch.t)
    parts = Parts(ldm=losses.ldm_loss(predicted, target, weight))
    if blip is not None:
        parts.m = losses.memorisation_loss(predicted, blip)
    if not perceptual:
        return parts

    assert decode is not None and extract is not None and batch.boxes is not None
    latents = denoise(
        predict,
        z_t,
        batch.t,
        batch.text,
        batch.null,
        process=process,
        steps=o.steps,
        scale=o.scale,
        record=recorded_step(o.record, process.grid(batch.t, o.steps)[1], batch.record_draw),
        first=predicted,
        first_null=null,
        noise=batch.inner_noise,
    )
    features = view_features(extract, decode(latents), batch.boxes)
    positive = view_distance(features, batch.positive)
    t_weight = process.signal(batch.t) if o.t_weight else 1.0
    if o.p > 0:
        parts.p = t_weight * losses.perceptual_loss(positive)
    if o.c > 0:
        assert batch.present is not None
        negative = view_distance([layer[:, None] for layer in features], batch.negative)
        parts.c = t_weight * losses.contrastive_loss(
            positive, negative, batch.present, lam=o.lam, margin=o.margin, hinge=o.hinge
        )
    return parts


def _without_gradient(
    batch: Batch, o: Objective, predict: Predict, z_t: Tensor, perceptual: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Predict for the BLIP captions, (n, k, c, h, w), and the first null branch in one pass.

    None stands for what this update does not use.
    """
    captions = next(iter(batch.blip.values())).shape[1] if o.b > 0 else 0
    needs_null = perceptual and o.scale != 1
    copies = captions + needs_null
    if copies == 0:
        return None, None
    conditions = {
        name: torch.cat(
            [batch.blip[name].transpose(0, 1).flatten(0, 1)] * (captions > 0)
            + [batch.null[name]] * needs_null
        )
        for name in batch.null
    }
    with torch.no_grad():
        found = predict(z_t.repeat(copies, 1, 1, 1), batch.t.repeat(copies), conditions)
    found = found.unflatten(0, (copies, len(z_t)))
    return found[:captions].transpose(0, 1) if captions else None, found[-1] if needs_null else None


def weighted(parts: Parts, objective: Objective) -> tuple[Tensor, Tensor | None]:
    """Return a·L_LDM + b·L_M and, where evaluated, p·L_P + c·L_C; each (n,)."""
    diffusion = objective.a * parts.ldm
    if parts.m is not None:
        diffusion = diffusion + objective.b * parts.m
    terms = [w * x for w, x in ((objective.p, parts.p), (objective.c, parts.c)) if x is not None]
    return diffusion, sum(terms[1:], terms[0]) if terms else None
