"""The batched, cached forward pass against the naive transcription of the equations."""

import pytest
import torch
from diffusers import DDPMScheduler

from pipeline_steps.method import scoft
from pipeline_steps.method.denoising import recorded_step
from pipeline_steps.method.perceptual import view_features, vit_features
from pipeline_steps.method.pictures import draw_views
from pipeline_steps.method.processes import Diffusion
from pipeline_steps.method.scoft import Batch, Looks, Objective
from tests.method.extractors import EXTRACTORS, build_extractor
from tests.reference import scoft as naive

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ALPHA_BARS = DDPMScheduler(**SCHEDULE).alphas_cumprod
STEPS = 4
TIMESTEPS = [999, 0, 2, 500]  # t = 0 and t < steps among them
NEGATIVES = [2, 0, 1, 3]  # one picture has kept none


def draw(n, captions, views, seed=7):
    """Random pictures, latents, captions: what a batch and the reference both start from."""
    g = torch.Generator().manual_seed(seed)
    return {
        "z0": torch.randn(n, 4, 4, 4, generator=g),
        "noise": torch.randn(n, 4, 4, 4, generator=g),
        "t": TIMESTEPS[:n],
        "text": torch.randn(n, 5, 12, generator=g),
        "blip": torch.randn(n, captions, 5, 12, generator=g),
        "null": torch.randn(5, 12, generator=g),
        "positive": torch.rand(n, 3, 8, 8, generator=g),
        "negatives": [torch.rand(k, 3, 8, 8, generator=g) for k in NEGATIVES[:n]],
        "boxes": torch.stack([draw_views(views, g) for _ in range(n)]),
        "record": torch.rand(n, generator=g),
        "inner": torch.randn(n, STEPS, 4, 4, 4, generator=g),
        "losers": torch.randn(n, 4, 4, 4, generator=g),
    }


def to_batch(d, extract, ddpm, seen=None):
    """A batch of which the places ``seen`` are looked at; by default all."""
    seen = list(range(len(d["t"]))) if seen is None else seen
    n, most = len(d["t"]), max(map(len, d["negatives"]))
    present = torch.zeros(n, max(most, 1), dtype=torch.bool)
    padded = torch.zeros(n, max(most, 1), 3, 8, 8)
    for i, pictures in enumerate(d["negatives"]):
        present[i, : len(pictures)] = True
        padded[i, : len(pictures)] = pictures
    negative = [view_features(extract, padded[:, m], d["boxes"]) for m in range(padded.shape[1])]
    return Batch(
        z0=d["z0"],
        noise=d["noise"],
        t=torch.tensor(d["t"]),
        text={"encoder_hidden_states": d["text"]},
        blip={"encoder_hidden_states": d["blip"]},
        null={"encoder_hidden_states": d["null"].expand(n, -1, -1)},
        looks=Looks(
            rows=torch.tensor(seen),
            boxes=d["boxes"][seen],
            positive=[layer[seen] for layer in view_features(extract, d["positive"], d["boxes"])],
            negative=[torch.stack(layer, 1)[seen] for layer in zip(*negative, strict=True)],
            present=present[seen],
            record_draw=d["record"][seen],
            noise=(lambda j: d["inner"][seen, j]) if ddpm else None,
        ),
        generic={"encoder_hidden_states": d["blip"][:, 0]},
        losers=d["losers"],
        paired=torch.tensor([len(pictures) > 0 for pictures in d["negatives"]]),
    )


def reference(d, o, kind, network, decode, extract, ddpm, base=None, seen=None):
    """Mean loss of the batch, one picture and one equation at a time."""
    total = 0.0
    for i, t in enumerate(d["t"]):
        text, null = d["text"][i : i + 1], d["null"][None]
        z0, noise = d["z0"][i : i + 1], d["noise"][i : i + 1]
        value = o.a * naive.ldm(network, z0, noise, t, text, ALPHA_BARS, kind, o.snr_gamma)
        blips = [d["blip"][i : i + 1, k] for k in range(d["blip"].shape[1])]
        if o.b:
            value = value + o.b * naive.memorisation(network, z0, noise, t, text, blips, ALPHA_BARS)
        if o.prior:
            value = value + o.prior * naive.prior(network, base, z0, noise, t, blips[0], ALPHA_BARS)
        pair = z0, d["losers"][i : i + 1], noise, t, text, ALPHA_BARS, kind
        if o.dpo and len(d["negatives"][i]):
            value = value + o.dpo * naive.dpo(network, base, *pair, o.beta)
        if o.mapo and len(d["negatives"][i]):
            value = value + o.mapo * naive.mapo(network, *pair, o.beta, o.spread)
        if (o.p or o.c) and (seen is None or i in seen):
            count = naive.step_count(t, STEPS, len(ALPHA_BARS), o.by_time)
            recorded = {"first": 0, "last": count - 1, "random": int(d["record"][i] * count)}[o.record]
            x_hat = naive.picture(
                network, decode, z0, noise, t, text, null, ALPHA_BARS, kind, o.steps, o.scale, recorded,
                (lambda j, i=i: d["inner"][i : i + 1, j]) if ddpm else None, o.by_time,
            )  # fmt: skip
            positive, boxes = d["positive"][i : i + 1], d["boxes"][i]
            negatives = [x[None] for x in d["negatives"][i]]
            looks = o.p * naive.perceptual(extract, x_hat, positive, boxes)
            looks = looks + o.c * naive.contrastive(
                extract, x_hat, positive, negatives, boxes, o.lam, o.margin, o.hinge
            )
            value = value + looks
        total = total + value / len(d["t"])
    return total


VARIANTS = {
    "ldm": {"b": 0.0},
    "scoft_m": {},
    "scoft_mp": {"p": 0.5},
    "scoft_mpc": {"p": 0.5, "c": 0.4, "lam": 0.8, "margin": 0.05},
    "dpo": {"a": 0.0, "b": 0.0, "dpo": 1.0, "beta": 3.0},
    "mapo": {"a": 1.0, "b": 0.0, "mapo": 1.0, "beta": 0.1, "spread": 0.01},
    "prior": {"prior": 0.7},
}
CASES = [
    pytest.param(variant, record, n, extra, id=f"{variant}-{record}-{n}-{'-'.join(map(str, extra.values()))}")
    for variant in VARIANTS
    for record in (("first", "last", "random") if variant.startswith("scoft_mp") else ("first",))
    for n in (1, 4)
    for extra in ({}, {"kind": "v_prediction"})
] + [
    pytest.param("scoft_mpc", "first", 4, {"hinge": False}, id="difference"),
    pytest.param("scoft_mpc", "random", 4, {"ddpm": True}, id="ddpm"),
    pytest.param("scoft_mpc", "first", 4, {"snr_gamma": 5.0}, id="min-snr"),
    pytest.param("scoft_m", "first", 4, {"snr_gamma": 5.0, "kind": "v_prediction"}, id="min-snr-v"),
    pytest.param("scoft_mpc", "last", 4, {"by_time": True}, id="by time"),
    pytest.param("scoft_mpc", "first", 4, {"by_time": True, "seen": [1, 3]}, id="two are looked at"),
    pytest.param("scoft_mpc", "random", 4, {"ddpm": True, "seen": [0]}, id="one is looked at, ddpm"),
    pytest.param("scoft_mpc", "first", 4, {"scale": 1.0}, id="no guidance"),
    pytest.param("scoft_mpc", "first", 4, {"captions": 1}, id="one caption"),
]


@pytest.mark.parametrize(("variant", "record", "n", "extra"), CASES)
def test_losses_and_gradients_agree_with_the_equations(
    variant, record, n, extra, tiny_unet, tiny_vae, tiny_vision
):
    extra = dict(extra)
    ddpm, captions, seen = extra.pop("ddpm", False), extra.pop("captions", 3), extra.pop("seen", None)
    kind = extra.pop("kind", "epsilon")
    o = Objective(record=record, steps=STEPS, **{"scale": 3.0, **VARIANTS[variant], **extra})
    unet, un_tuned = tiny_unet(), tiny_unet(seed=1)
    parameters = [p for p in unet.parameters() if p.requires_grad]
    extract = vit_features(tiny_vision, (1, 2), 8)

    def decode(latents):
        return (tiny_vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)

    d = draw(n, captions, views=2)
    parts = scoft.forward(
        to_batch(d, extract, ddpm, seen),
        o,
        lambda z, t, c: unet(z, t, **c).sample,
        Diffusion(ALPHA_BARS, kind),
        base=lambda z, t, c: un_tuned(z, t, **c).sample,
        decode=decode,
        extract=extract,
    )
    ours = sum(loss for loss in scoft.weighted(parts, o.weights) if loss is not None) / n
    theirs = reference(
        d, o, kind, lambda z, t, text: unet(z, torch.tensor([t]), text).sample, decode, extract, ddpm,
        lambda z, t, text: un_tuned(z, torch.tensor([t]), text).sample, seen,
    )  # fmt: skip
    assert_agree(ours, theirs, parameters)


def assert_agree(ours, theirs, parameters):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    ours, theirs = (torch.autograd.grad(loss, parameters) for loss in (ours, theirs))
    difference = sum((x - y).square().sum() for x, y in zip(ours, theirs, strict=True)).sqrt()
    size = sum(y.square().sum() for y in theirs).sqrt()
    assert size > 0
    assert difference <= 1e-4 * size


@pytest.mark.parametrize("name", EXTRACTORS)
def test_every_extractor_agrees_with_the_equations(name, tmp_path, tiny_unet, tiny_vae):
    o = Objective(steps=STEPS, scale=3.0, a=0.1, b=0.1, p=1.0, c=1.0, lam=0.5, margin=0.5)
    unet, extract = tiny_unet(), build_extractor(name, tmp_path)
    parameters = [p for p in unet.parameters() if p.requires_grad]

    def decode(latents):
        return (tiny_vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)

    d = draw(2, captions=1, views=2)
    parts = scoft.forward(
        to_batch(d, extract, ddpm=False),
        o,
        lambda z, t, c: unet(z, t, **c).sample,
        Diffusion(ALPHA_BARS),
        decode=decode,
        extract=extract,
    )
    ours = sum(scoft.weighted(parts, o.weights)) / 2
    theirs = reference(
        d, o, "epsilon", lambda z, t, x: unet(z, torch.tensor([t]), x).sample, decode, extract, False
    )
    assert_agree(ours, theirs, parameters)


def test_the_hinge_compares_pictures_not_each_of_their_views():
    """Views that disagree: S⁺ − S⁻ is −0.5 and 0.3, −0.1 on the mean, so nothing is left to gain."""
    positive, negative = torch.tensor([[0.1, 0.8]]), torch.tensor([[[0.6, 0.5]]])
    present = torch.ones(1, 1, dtype=torch.bool)
    settled = scoft.losses.contrastive_loss(positive, negative, present, lam=1.0, margin=0.0)
    assert settled.tolist() == [0.0]
    margin = scoft.losses.contrastive_loss(positive, negative, present, lam=1.0, margin=0.3)
    torch.testing.assert_close(margin, torch.tensor([0.2]))


def test_one_random_caption_gives_an_unbiased_gradient_of_eq_2():
    """2(a − mean b_i) = mean 2(a − b_i): the mean of the k one-caption gradients is the all-caption one."""
    g = torch.Generator().manual_seed(0)
    a = torch.randn(2, 4, 4, 4, generator=g, dtype=torch.float64).float().requires_grad_()
    b = torch.randn(2, 3, 4, 4, 4, generator=g)
    (whole,) = torch.autograd.grad(scoft.losses.memorisation_loss(a, b).sum(), a)
    single = [
        torch.autograd.grad(scoft.losses.memorisation_loss(a, b[:, i : i + 1]).sum(), a)[0] for i in range(3)
    ]
    torch.testing.assert_close(whole, sum(single) / 3)


def test_recorded_step_stays_inside_each_pictures_steps():
    count = torch.tensor([1, 3, 20])
    assert recorded_step("first", count, torch.zeros(3)).tolist() == [0, 0, 0]
    assert recorded_step("last", count, torch.zeros(3)).tolist() == [0, 2, 19]
    assert recorded_step("random", count, torch.full((3,), 0.999)).tolist() == [0, 2, 19]
