"""What each stage of one culture costs: operations, memory and disk, counted from the networks' own code."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pipeline_steps.config import (
    BaseRef,
    ModelRef,
    NegativesConfig,
    PipelineConfig,
    SampleConfig,
    TrainConfig,
)
from pipeline_steps.home import find
from pipeline_steps.inputs.prompts import prompts_of
from pipeline_steps.planning.cards import CONTEXT, FRAGMENTS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipeline_steps.planning.footprint import Footprint

PNG = 1.6
"""Assumed: bytes of a PNG a pixel."""
HALF, FULL = 2, 4
PLAIN = ModelRef(path="float32")
"""Stands for numbers of full precision."""


@dataclass
class Stage:
    """One stage of one culture.

    Attributes:
        name: of the step.
        flops: of all its pictures.
        weights: bytes of the networks, and of what belongs to them while training.
        activations: bytes beside them, as configured.
        levers: bytes beside them under ever stronger levers, by what to set.
        disk: bytes of what it writes.
    """

    name: str
    flops: float
    weights: float
    activations: float
    levers: dict[str, float] = field(default_factory=dict)
    disk: float = 0.0

    def memory(self, activations: float) -> float:
        """Return the card's memory it takes, in bytes."""
        return CONTEXT + FRAGMENTS * (self.weights + activations)

    def fit(self, memory: float) -> str:
        """Say under which lever it fits into so many bytes."""
        for lever, activations in {"yes": self.activations, **self.levers}.items():
            if self.memory(activations) <= memory:
                return lever
        return "no"


def _bytes(ref: ModelRef) -> int:
    return FULL if ref.dtype == "float32" else HALF


def _half(network: Any, ref: ModelRef) -> Any:
    import torch

    return network.to(getattr(torch, ref.dtype))


def _numbers(ref: ModelRef, *shape: int) -> "Tensor":
    import torch

    return torch.empty(*shape, dtype=getattr(torch, ref.dtype))


def _cost(run: Callable[[], Any], back: Callable[[Any], object] | None = None) -> "Footprint":
    import torch

    from pipeline_steps.planning.footprint import footprint

    with torch.set_grad_enabled(back is not None):
        return footprint(run, back)


class _Base:
    """The base model's networks, and what one picture costs in each."""

    def __init__(self, base: BaseRef, side: int) -> None:
        import torch

        from pipeline_steps.models import blueprints
        from pipeline_steps.models.families import family_of

        self.base, self.family = base, family_of(base)
        own, part = (base.vae, "") if base.vae else (base, "vae"), self.family.denoiser_part
        self.denoiser = _half(blueprints.diffusion(base, part, part), base)
        self.vae = _half(blueprints.diffusion(own[0], "vae", own[1]), base)
        self.texts = [blueprints.text_encoder(base, text) for text in self.family.text_encoders]
        self.picture, self.time = _numbers(base, 1, 3, side, side), torch.zeros(1)
        self.latents = self.family.encode_pictures(self.vae, self.picture)[0].clone()
        shapes = self.family.condition_shapes()
        self.condition = {name: _numbers(base, 1, *shape) for name, shape in shapes.items()}

    def weights(self, *networks: "nn.Module") -> float:
        """Bytes of networks in the model's precision."""
        from torch import nn

        from pipeline_steps.models.blueprints import parameters

        return _bytes(self.base) * parameters(nn.ModuleList(networks))  # what two of them share counts once

    def held(self, drawing: "Sequence[nn.Module]", beside: "Sequence[nn.Module]" = ()) -> tuple[float, float]:
        """Bytes of what is on the card while pictures are drawn: all of it, and the largest part at work.

        Args:
            drawing: what is at work in every step.
            beside: what stays in any case.
        """
        parts = [self.texts, drawing, [self.vae]]
        whole = self.weights(*(network for part in parts for network in part))
        return whole, max(self.weights(*part, *beside) for part in parts)

    def noise(self, gradient: "Sequence[Tensor] | None" = None) -> "Footprint":
        """One picture through the denoiser, and back to the given LoRA."""
        import torch

        return _cost(
            lambda: self.family.predict(self.denoiser, self.latents, self.time, self.condition),
            (lambda found: torch.autograd.grad(found.sum(), gradient)) if gradient else None,
        )

    def decoding(self, gradient: bool = False) -> "Footprint":
        """One picture's latents to pixels, and back."""
        import torch

        start = self.latents.clone().requires_grad_(gradient)
        return _cost(
            lambda: self.family.decode_latents(self.vae, start * 1),  # not of a leaf, as in training
            (lambda found: torch.autograd.grad(found.sum(), start)) if gradient else None,
        )

    def encoding(self) -> "Footprint":
        """One picture to latents."""
        return _cost(lambda: self.family.encode_pictures(self.vae, self.picture)[0])

    def text(self) -> float:
        """Operations of one prompt: two for each weight and token."""
        from pipeline_steps.models.blueprints import parameters

        return 2 * self.family.tokens * sum(map(parameters, self.texts))


def _batches(one: float, size: int, count: int, section: str) -> tuple[float, dict[str, float]]:
    """Activations of a batch, which ``count`` pictures may not fill, and of ever smaller ones."""
    size = min(size, count)
    levers, smaller = {}, size // 2
    while smaller >= 1:
        levers[f"{section}.batch_size {smaller}"] = one * smaller
        smaller //= 2
    return one * size, levers


def _drawing(
    settings: PipelineConfig,
    section: Literal["negatives", "sample"],
    count: int,
    one: float,
    decoding: float,
    held: tuple[float, float],
) -> tuple[float, float, dict[str, float]]:
    """Weights and activations of a batch that is drawn and then decoded, and what is left under levers.

    Args:
        settings: all of them.
        section: of the settings, with the size of a batch and ``offload``.
        count: pictures, which may not fill a batch.
        one: activations of a picture that is drawn.
        decoding: and of one that is decoded.
        held: bytes of networks on the card, without and with ``offload``.
    """
    config: NegativesConfig | SampleConfig = getattr(settings, section)
    drawing, smaller = _batches(one, config.batch_size, count, section)
    at_end = decoding * (1 if settings.models.base.vae_slicing else min(config.batch_size, count))
    sliced = {"models.base.vae_slicing": drawing} | {
        f"{name}, models.base.vae_slicing": value for name, value in smaller.items()
    }
    levers = {name: max(value, decoding) for name, value in sliced.items()}
    weights, least = held
    if config.offload:
        weights = least
    elif least < weights:
        name, value = [*levers.items()][-1]
        levers[f"{name}, {section}.offload"] = value - (weights - least)
    return weights, max(drawing, at_end), levers


def _caption(settings: PipelineConfig) -> Stage:
    import torch

    from pipeline_steps.models.blueprints import looking, parameters

    ref, config = settings.models.captioner, settings.caption
    blip = _half(looking(ref, "captioner"), ref)
    side = blip.config.vision_config.image_size
    seen = _cost(lambda: blip.vision_model(_numbers(ref, 1, 3, side, side)).last_hidden_state)
    count, each = settings.plan.pictures, config.captions_per_image
    words = config.max_new_tokens * 2 * parameters(blip.text_decoder)
    states = _numbers(
        ref, each, *blip.vision_model(_numbers(ref, 1, 3, side, side)).last_hidden_state.shape[1:]
    )
    # The first word of each caption keeps what all later ones look at in the picture.
    said = _cost(
        lambda: blip.text_decoder(
            torch.zeros(each, 1, dtype=torch.long), encoder_hidden_states=states, use_cache=True
        )
    )
    one = max(seen.peak, states.nbytes + said.peak)
    activations, levers = _batches(one, config.batch_size, count, "caption")
    flops, weights = count * (seen.flops + each * words), _bytes(ref) * parameters(blip)
    return Stage("caption", flops, weights, activations, levers, 100.0 * count * each)


def _depth(settings: PipelineConfig) -> Stage:
    from pipeline_steps.models.blueprints import looking, parameters
    from pipeline_steps.models.readers import MIDAS_SIDE
    from pipeline_steps.models.store import Link, source

    ref, count = settings.models.depth, settings.plan.pictures
    # controlnet_aux's file holds the same network as transformers' DPT-hybrid.
    one_file = isinstance(source(ref), Link)
    dpt = looking(ModelRef(path="Intel/dpt-hybrid-midas") if one_file else ref, "depth")
    # transformers' processor scales to the network's own size; controlnet_aux takes the side it is told.
    own = dpt.config.image_size
    one = _cost(lambda: dpt(_numbers(PLAIN, 1, 3, own, own)).predicted_depth)
    grow = (min(settings.data.resolution, MIDAS_SIDE) / own) ** 2 if one_file else 1.0
    # And it takes one picture after another.
    size = 1 if one_file else settings.depth.batch_size
    activations, levers = _batches(one.peak * grow, size, count, "depth")
    disk = count * settings.data.resolution**2 * 0.3
    return Stage("depth", count * one.flops * grow, FULL * parameters(dpt), activations, levers, disk)


def _synthesize(settings: PipelineConfig) -> Stage:
    from pipeline_steps.models import blueprints

    config, side = settings.negatives, settings.data.resolution
    model = _Base(settings.models.base, side)
    step, decoding = model.noise(), model.decoding()
    # Without a ControlNet the VAE stays: it encodes what the noise is laid over, and decodes.
    held = model.held([model.denoiser], beside=[model.vae])
    if config.structure == "depth":
        control = _half(blueprints.diffusion(settings.models.controlnet, "controlnet"), settings.models.base)

        def hinted() -> object:
            given = (model.latents, model.time, model.condition)
            hint = model.family.hint(model.denoiser, control, *given, model.picture)
            return hint, model.family.predict(model.denoiser, *given)  # which takes in what is kept here

        step, held = _cost(hinted), model.held([model.denoiser, control])
    branches = 2 if config.guidance_scale > 1 else 1
    count = settings.plan.pictures * config.per_positive
    flops = count * (config.steps * branches * step.flops + decoding.flops + model.text())
    weights, activations, levers = _drawing(
        settings, "negatives", count, branches * step.peak, decoding.peak, held
    )
    return Stage("synthesize", flops, weights, activations, levers, count * side**2 * PNG)


def _cache(settings: PipelineConfig) -> Stage:
    model = _Base(settings.models.base, settings.data.resolution)
    encoding, count = model.encoding(), settings.plan.pictures
    prompts = count * (1 + settings.caption.captions_per_image)
    if settings.cache.generic_captions:
        prompts += len(prompts_of(find(settings.cache.generic_captions)))
    flops = 2 * count * encoding.flops + prompts * model.text()
    if settings.models.base.vae_slicing:
        activations, levers = float(encoding.peak), dict[str, float]()
    else:  # each picture with its mirror image
        activations, levers = _batches(2 * encoding.peak, settings.cache.batch_size, count, "cache")
    text = sum(tensor.numel() for tensor in model.condition.values())
    disk = _bytes(settings.models.base) * (4 * count * model.latents.numel() + prompts * text)
    return Stage("cache", flops, model.weights(model.vae, *model.texts), activations, levers, disk)


class _Eye:
    """The network behind S: LPIPS or CLIP's RN101 where they are configured, else its vision transformer."""

    def __init__(self, settings: PipelineConfig) -> None:
        from pipeline_steps.method.perceptual import conv_features, lpips_features
        from pipeline_steps.models.blueprints import looking, parameters

        config, ref = settings.train.perceptual, settings.models.clip
        if config.extractor == "clip_conv":
            import open_clip

            ref, side = PLAIN, 224
            network = open_clip.create_model("RN101-quickgelu", device="meta").visual.requires_grad_(False)
            self.look = conv_features(network, config.layers, side)
        elif config.extractor == "lpips":
            import lpips

            ref, side = PLAIN, 224
            network = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False).to("meta")
            self.look = lpips_features(network.requires_grad_(False), side)
        else:
            network = looking(ref, "clip").vision_model
            side = network.config.image_size
            count = len(config.layers)

            def look(unit: "Tensor") -> tuple["Tensor", ...]:
                return (network(pixel_values=unit).last_hidden_state,) * count

            self.look = look
        self.views = _numbers(PLAIN, config.views, 3, side, side)
        self.weights = _bytes(ref) * parameters(network)
        self.numbers = sum(layer.numel() for layer in self.look(self.views))

    def seen(self) -> "Footprint":
        """One picture's views."""
        return _cost(lambda: self.look(self.views))

    def gradient(self) -> "Footprint":
        """One picture's views, and back to its pixels."""
        import torch

        start = self.views.clone().requires_grad_()
        return _cost(
            lambda: self.look(start * 1),  # not at a leaf, as in training
            lambda layers: torch.autograd.grad([layer.sum() for layer in layers], start),
        )


def _targets(settings: PipelineConfig) -> Stage:
    eye = _Eye(settings)
    look = eye.seen()
    both = 2 * settings.plan.pictures * (1 + settings.negatives.per_positive)  # as they are and mirrored
    activations, levers = _batches(look.peak, settings.targets.batch_size, both, "targets")
    return Stage("targets", both * look.flops, eye.weights, activations, levers, FULL * both * eye.numbers)


def _inner_calls(config: TrainConfig) -> float:
    """Network calls of a look beside the recorded one, over times that are spread evenly."""
    import torch

    from pipeline_steps.method.processes import Diffusion

    inner, t = config.denoising, torch.arange(int(1000 * config.perceptual_from), 1000, device="cpu")
    _, count = Diffusion(torch.ones(1000, device="cpu")).grid(t, inner.steps, inner.by_time)
    branches = 1 + (inner.guidance_scale != 1)
    return branches * float(count.float().mean()) - 1


def _train(settings: PipelineConfig) -> Stage:
    from peft import LoraConfig

    from pipeline_steps.method.recomputed import recompute_decoder

    config, base = settings.train, settings.models.base
    model = _Base(base, settings.data.resolution)
    eye = _Eye(settings)
    noise, decoded, looked = model.noise(), model.decoding(gradient=True), eye.gradient()
    frozen = model.weights(model.denoiser, model.vae) + eye.weights
    model.denoiser.add_adapter(LoraConfig(r=config.lora_rank, target_modules=list(config.lora_targets)))
    lora = [p for p in model.denoiser.parameters() if p.requires_grad]
    for parameter in lora:
        parameter.data = _numbers(base, *parameter.shape)
    plain = model.noise(lora)
    model.denoiser.enable_gradient_checkpointing()
    model.denoiser.train()
    recompute_decoder(model.vae)
    saving, decoded_saving = model.noise(lora), model.decoding(gradient=True)
    chosen, decoding = (saving, decoded_saving) if config.gradient_checkpointing else (plain, decoded)

    captions = settings.caption.captions_per_image if config.memorisation_captions == "all" else 1
    once = chosen.flops + captions * (config.weight_m > 0) * noise.flops
    once += (config.weight_prior > 0) * (chosen.flops + noise.flops) / config.prior_every
    look = _inner_calls(config) * noise.flops + decoding.flops + looked.flops
    looks = (1 - config.perceptual_from) / config.perceptual_every
    pictures = config.updates * config.batch_size * config.accumulation * config.processes
    flops = pictures * (once + looks * look)

    def activations(call: "Footprint", decode: "Footprint", size: int) -> float:
        """The graph of the recorded call lives while pictures are decoded (all, or one by one) and seen."""
        at_once = 1 if decode is decoded_saving else size
        return max(size * call.peak, size * (call.kept + looked.peak) + at_once * decode.peak)

    numbers = sum(p.numel() for p in lora)
    # fp32 weights, two gradient sums, the gradient, two moments; the average where there is one
    learning = numbers * FULL * (6 + (config.ema_decay is not None))
    size = config.batch_size
    now = activations(chosen, decoding, size)
    levers = {
        "train.batch_size 1, more accumulation": activations(chosen, decoding, 1),
        "train.gradient_checkpointing, train.batch_size 1": activations(saving, decoded_saving, 1),
    }
    return Stage("train (scoft_mpc)", flops, frozen + learning, now, levers, numbers * FULL * 4)


def _sample(settings: PipelineConfig) -> Stage:
    config = settings.sample
    model = _Base(settings.models.base, settings.data.resolution)
    noise, decoding = model.noise(), model.decoding()
    branches = 2 if config.guidance_scale > 1 else 1
    count = settings.plan.prompts * config.images_per_prompt
    flops = count * (config.steps * branches * noise.flops + decoding.flops + model.text())
    held = model.held([model.denoiser])
    weights, activations, levers = _drawing(
        settings, "sample", count, branches * noise.peak, decoding.peak, held
    )
    disk = count * settings.data.resolution**2 * PNG
    return Stage("sample (a variant)", flops, weights, activations, levers, disk)


STAGES: dict[str, Callable[[PipelineConfig], Stage]] = {
    "caption": _caption,
    "depth": _depth,
    "synthesize": _synthesize,
    "cache": _cache,
    "targets": _targets,
    "train": _train,
    "sample": _sample,
}
VARIANT_TRAININGS = 4
"""ldm, scoft_m, scoft_mp, scoft_mpc: at most as long as the last."""
