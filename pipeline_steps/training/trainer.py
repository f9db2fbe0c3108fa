"""The denoiser with its LoRA, the optimiser, and one update."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor
from torch.nn import Module

from pipeline_steps.errors import UserError
from pipeline_steps.method import scoft
from pipeline_steps.method.denoising import Condition, denoise
from pipeline_steps.method.losses import exact, ldm_loss
from pipeline_steps.method.perceptual import Extractor
from pipeline_steps.method.processes import NoiseProcess
from pipeline_steps.method.recomputed import one_by_one, recompute_decoder
from pipeline_steps.method.scoft import Looks, Objective, Parts
from pipeline_steps.training.merged import MergedWeights
from pipeline_steps.training.optimiser import (
    LossScale,
    build_optimiser,
    moments_of,
    restore_moments,
    schedule_factor,
)
from pipeline_steps.training.parallel import Processes

# Nothing else of these is used here, so that the trainer runs with torch and peft alone.
if TYPE_CHECKING:
    from pipeline_steps.config import TrainConfig
    from pipeline_steps.models.families.family import Family
    from pipeline_steps.training.dataset import TrainingSet

PARTS = ("ldm", "m", "p", "c", "prior", "dpo", "mapo")
LOOK = ("share", "positive", "negative", "active")
"""What is logged of a look at x̂: t as a share of the schedule, S⁺, mean S⁻, share of open hinges."""


class Trainer:
    """One LoRA in training.

    Args:
        denoiser: the frozen network; it gets a LoRA.
        family: what its architecture is.
        noise_process: what it was trained on.
        objective: the losses.
        config: the section "train".
        seed: of the LoRA's first factor.
        processes: those that train it together.

    Raises:
        UserError: a layer that is to get a LoRA is not there.
    """

    def __init__(
        self,
        denoiser: Any,
        family: "Family",
        noise_process: NoiseProcess,
        objective: Objective,
        config: "TrainConfig",
        seed: int,
        processes: Processes,
    ) -> None:
        self.denoiser, self.family, self.noise_process = denoiser, family, noise_process
        self.objective, self.config, self.processes = objective, config, processes
        self.device, self.dtype = denoiser.device, denoiser.dtype
        self.decode: Callable[[Tensor], Tensor] | None = None
        self.extract: Extractor | None = None
        _check_layers(denoiser, config.lora_targets, family)
        torch.manual_seed(seed)
        denoiser.add_adapter(
            LoraConfig(
                r=config.lora_rank,
                lora_alpha=config.lora_alpha or config.lora_rank,  # type: ignore[arg-type]  # a float will do
                init_lora_weights="gaussian",
                target_modules=list(config.lora_targets),
            )
        )
        self.parameters = [p for p in denoiser.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.data = parameter.data.float()
        self.average = [p.detach().clone() for p in self.parameters] if config.ema_decay else None
        if config.gradient_checkpointing:
            denoiser.enable_gradient_checkpointing()
            denoiser.train()
        if self.device.type == "cuda":
            denoiser.to(memory_format=torch.channels_last)
        if config.compile:
            denoiser.compile()
        # A compiled network fuses the LoRA's own products, and would be compiled anew for exchanged weights.
        merge = self.dtype == torch.float32 and not config.compile
        self.merged = MergedWeights(denoiser) if merge else None
        self.loss_scale = LossScale(self.dtype == torch.float16)
        self.optimiser = build_optimiser(self.parameters, config)

    def look(
        self, vae: Any, extract: Extractor | None = None, precision: torch.dtype = torch.float32
    ) -> None:
        """Give the trainer eyes: the VAE's decoder and, for L_P and L_C, the feature extractor of S.

        Where one of them computes in float16, the way back through it wants a loss scale, whatever the
        denoiser computes in.

        Args:
            vae: the model's.
            extract: the extractor.
            precision: what it computes in.
        """
        if torch.float16 in (vae.dtype, precision):
            self.loss_scale = LossScale(enabled=True)
        del vae.encoder  # nothing is encoded here, and it is two fifths of the weights
        self.decode, self.extract = partial(self.family.decode_latents, vae), extract
        if self.config.gradient_checkpointing:
            recompute_decoder(vae)
            self.decode = partial(one_by_one, self.decode)

    def predict(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Call the denoiser in its own precision; LoRA weights stay float32."""
        merged = None if torch.is_grad_enabled() else self.merged
        with nullcontext() if merged is None else merged.applied():
            return self._call(z, t, condition)

    @torch.no_grad()
    def predict_base(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Call the un-tuned denoiser: the same one without its LoRA."""
        self.denoiser.disable_adapters()
        try:
            return self._call(z, t, condition)
        finally:
            self.denoiser.enable_adapters()

    def _call(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.family.predict(self.denoiser, z.to(self.dtype), t, condition)

    @contextmanager
    def _as_saved(self) -> Iterator[None]:
        """Have the moving average, if there is one, in the place of the weights: it is what will be saved."""
        trained = [parameter.data for parameter in self.parameters]
        self._exchange(self.average or trained)
        try:
            yield
        finally:
            self._exchange(trained)

    def _exchange(self, weights: Sequence[Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.data = weight
        if self.merged is not None:
            self.merged.forget()

    @torch.no_grad()
    def samples(self, data: "TrainingSet", count: int) -> Tensor:
        """Draw pictures in a row, (3, h, n·w) in [0, 1], as x̂ is drawn but from pure noise.

        Captions and noise are those of the first epoch's first pictures, so they are the same every time.
        """
        batch = data.batch(data.alike(count), self.device)
        start = torch.full_like(batch.t, self.noise_process.start)
        with self._as_saved():
            latents = denoise(
                self.predict,
                batch.noise,
                start,
                batch.text,
                batch.null,
                process=self.noise_process,
                steps=self.objective.steps,
                scale=self.objective.scale,
                by_time=self.objective.by_time,
                record=torch.full_like(start, -1),
            )
        assert self.decode is not None
        return torch.cat(list(self.decode(latents).cpu()), dim=-1)

    def update(self, update: int, data: "TrainingSet") -> dict[str, Any]:
        """Run one optimiser update on the next batch_size × accumulation × processes pictures.

        Returns:
            The row of the training log; losses are means over the pictures, gradient norms those
            before clipping.
        """
        config, objective = self.config, self._objective(update)
        size = config.batch_size * config.accumulation * self.processes.count
        gradients, sums, seen = self._gradients(update, size, objective, data)
        norms = {}
        for name, found in gradients.items():
            torch._foreach_div_(found, self.loss_scale.value)
            norms[name] = _norm(found)
        gradient = gradients["diffusion"]
        for name in list(gradients)[1:]:  # in one order: the sum is to have the same bytes
            torch._foreach_add_(gradient, gradients[name], alpha=self._factor(name, norms))
        norm = _norm(gradient) if len(gradients) > 1 else norms["diffusion"]
        learning_rate = config.learning_rate * schedule_factor(config, update)
        if self.loss_scale.accept(norm) and math.isfinite(norm):
            self._step(gradient, min(1.0, config.max_gradient_norm / (norm + 1e-6)), learning_rate, update)
        return {
            "update": update,
            "epoch": update * size // len(data),
            "learning_rate": learning_rate,
            **_means(objective.weights, sums.tolist(), seen, norm, norms),
            "loss_held_out": None,
        }

    def _gradients(
        self, update: int, size: int, objective: Objective, data: "TrainingSet"
    ) -> tuple[dict[str, list[Tensor]], Tensor, Tensor]:
        """Add up an update's gradients over its micro-batches and processes.

        Returns:
            The gradients by name, times the loss scale; the sums of the losses, (PARTS,); and what the looks
            saw, (size, LOOK), rows of zeros for pictures that were not looked at.
        """
        config, group = self.config, self.processes
        gradients = {name: [torch.zeros_like(p) for p in self.parameters] for name in self._apart()}
        sums = torch.zeros(len(PARTS), dtype=exact(self.device), device=self.device)
        seen = torch.zeros(size, len(LOOK), dtype=sums.dtype, device=self.device)
        self.optimiser.zero_grad()
        for part in range(config.accumulation):
            numbers = group.micro_batch(update, part, config.batch_size, config.accumulation)
            batch = data.batch(numbers, self.device, looks=objective.perceptual)
            parts = scoft.forward(
                batch,
                objective,
                self.predict,
                self.noise_process,
                base=self.predict_base,
                decode=self.decode,
                extract=self.extract,
            )
            self._accumulate(parts, objective.weights, self.loss_scale.value / size, gradients)
            sums += _sums(parts, self.device)
            if batch.looks is not None:
                seen[numbers.start - update * size + batch.looks.rows] = _looked(
                    parts, self.noise_process.share(batch.t), batch.looks
                )
        group.sum([gradient for found in gradients.values() for gradient in found])
        group.sum([sums, seen])
        return gradients, sums, seen

    def _objective(self, update: int) -> Objective:
        """Return the losses of an update: the prior's weight is 0 between its own."""
        return replace(self.objective, prior=self.objective.prior * (update % self.config.prior_every == 0))

    def _apart(self) -> list[str]:
        """Name the gradients that are kept apart until they are scaled: all in one where none is.

        A share is one of the diffusion gradient's norm, in which then neither look is.
        """
        config, o = self.config, self.objective
        scaled = config.perceptual_clip is not None
        scaled |= o.p > 0 and config.perceptual_share is not None
        scaled |= o.c > 0 and config.contrast_share is not None
        return ["diffusion"] + ["p"] * (scaled and o.p > 0) + ["c"] * (scaled and o.c > 0)

    @torch.no_grad()
    def held_out_loss(self, data: "TrainingSet") -> float:
        """Return the mean of L_LDM over the test pictures kept in the cache, unweighted."""
        losses = []
        with self._as_saved():
            for batch in data.held_out(self.device):
                z_t = self.noise_process.add_noise(batch.z0, batch.noise, batch.t)
                target = self.noise_process.target(batch.z0, batch.noise, batch.t)
                losses.append(ldm_loss(self.predict(z_t, batch.t, batch.text), target, 1.0))
        return torch.cat(losses).mean().item()

    def _accumulate(
        self, parts: Parts, weights: Mapping[str, float], scale: float, totals: dict[str, list[Tensor]]
    ) -> None:
        """Add the gradients of a batch's losses; those that nobody asks for apart go in one backward pass."""
        plain, p, c = scoft.weighted(parts, weights)
        groups: dict[str, Tensor] = {}
        for name, loss in (("diffusion", plain), ("p", p), ("c", c)):
            if loss is not None:
                group = name if name in totals else "diffusion"
                groups[group] = groups[group] + loss if group in groups else loss
        for number, (name, loss) in enumerate(groups.items(), 1):
            retain = number < len(groups)
            found = torch.autograd.grad(scale * loss, self.parameters, retain_graph=retain)
            torch._foreach_add_(totals[name], found)

    def _factor(self, name: str, norms: Mapping[str, float]) -> float:
        """Scale of L_P's or L_C's gradient: a share of the diffusion gradient, or clipped apart."""
        norm = norms[name]
        share = self.config.perceptual_share if name == "p" else self.config.contrast_share
        if norm == 0:
            return 0.0
        if share is not None:
            return share * norms["diffusion"] / norm
        return min(1.0, self.config.perceptual_clip / norm) if self.config.perceptual_clip else 1.0

    def _step(self, gradient: list[Tensor], clip: float, learning_rate: float, update: int) -> None:
        torch._foreach_mul_(gradient, clip)
        for parameter, value in zip(self.parameters, gradient, strict=True):
            parameter.grad = value
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.step()
        if self.merged is not None:
            self.merged.forget()
        if self.average is not None and self.config.ema_decay is not None:
            # As usual, a shorter memory at first: the start would otherwise be most of a short run's average.
            decay = min(self.config.ema_decay, (1 + update) / (10 + update))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)

    def changed(self) -> bool:
        """Whether training moved the LoRA: its second factor B starts at zero."""
        return any(bool(p.any()) for name, p in self.denoiser.named_parameters() if "lora_B" in name)

    def lora_weights(self) -> dict[str, Tensor]:
        """Return the LoRA (its moving average where there is one) with diffusers' keys.

        alpha / rank is multiplied into B: a program that knows of no alpha adds the same as the others.
        """
        # PEFT's own names: diffusers reads them for every layer. Its older ones exist for attention alone,
        # and of a file with both it loads a half and says nothing.
        with self._as_saved():
            state = get_peft_model_state_dict(self.denoiser)
        scale = (self.config.lora_alpha or self.config.lora_rank) / self.config.lora_rank
        return {
            f"{self.family.denoiser_part}.{name}": weight * scale if ".lora_B." in name else weight
            for name, weight in state.items()
        }

    def lora_metadata(self) -> dict[str, str]:
        """Return the header from which diffusers reads rank, alpha and targets of :meth:`lora_weights`."""
        adapter, part = self.denoiser.peft_config["default"].to_dict(), self.family.denoiser_part
        adapter["lora_alpha"] = adapter["r"]
        plain = {f"{part}.{k}": sorted(v) if isinstance(v, set) else v for k, v in adapter.items()}
        return {"format": "pt", "lora_adapter_metadata": json.dumps(plain, sort_keys=True, default=str)}

    def state(self) -> dict[str, Tensor]:
        """Return everything an interrupted run needs to go on."""
        tensors = {
            "loss_scale": torch.tensor([self.loss_scale.value, self.loss_scale.good], dtype=torch.float64)
        }
        tensors |= {f"weight.{index:04d}": weight for index, weight in enumerate(self.parameters)}
        tensors |= {f"average.{index:04d}": weight for index, weight in enumerate(self.average or [])}
        return tensors | moments_of(self.optimiser)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` returned."""
        value, good = tensors["loss_scale"].tolist()
        self.loss_scale.value, self.loss_scale.good = value, int(good)
        for index, parameter in enumerate(self.parameters):
            parameter.data.copy_(tensors[f"weight.{index:04d}"])
        for index, weight in enumerate(self.average or []):
            weight.copy_(tensors[f"average.{index:04d}"])
        restore_moments(self.optimiser, tensors, self.parameters)
        if self.merged is not None:
            self.merged.forget()


def _check_layers(denoiser: Module, wanted: Sequence[str], family: "Family") -> None:
    """Refuse a name that no layer ends with: PEFT says nothing as long as another of them is found."""
    names = [f".{name}" for name, _ in denoiser.named_modules()]
    for layer in wanted:
        if not any(name.endswith(f".{layer}") for name in names):
            usual = ", ".join(family.lora_layers)
            raise UserError(
                f"train.lora_targets: {family.title} has no layer '{layer}'; those of its attention are "
                f"{usual}"
            )


def _means(
    weights: Mapping[str, float], sums: Sequence[float], seen: Tensor, norm: float, norms: Mapping[str, float]
) -> dict[str, Any]:
    """What a row of the log says of an update's losses, gradients and looks.

    Args:
        weights: of the losses, by name.
        sums: of the losses over the pictures, in the order of PARTS.
        seen: what the looks saw, (pictures, LOOK).
        norm: of the whole gradient, before clipping.
        norms: of the gradients that were kept apart.
    """
    looked, size = seen[seen[:, 0] > 0], len(seen)
    counts = {name: len(looked) if name in scoft.LOOKS else size for name in PARTS}
    evaluated = {name for name in PARTS if weights[name] > 0 and counts[name]}
    means = {n: v / counts[n] for n, v in zip(PARTS, sums, strict=True) if n in evaluated}
    apart = len(norms) > 1 and len(looked) > 0
    return {
        "loss": sum(weights[name] * mean * counts[name] / size for name, mean in means.items()),
        **{f"loss_{name}": means.get(name) for name in PARTS},
        "gradient_norm": norm,
        "gradient_norm_diffusion": norms["diffusion"] if apart or not len(looked) else None,
        "gradient_norm_perceptual": norms.get("p") if apart and "p" in evaluated else None,
        "gradient_norm_contrast": norms.get("c") if apart and "c" in evaluated else None,
        **{f"look_{name}": _numbers(looked[:, n]) for n, name in enumerate(LOOK)},
    }


def _sums(parts: Parts, device: torch.device) -> Tensor:
    zero = torch.zeros((), dtype=exact(device), device=device)
    found = parts.losses
    return torch.stack([found[n].detach().to(zero.dtype).sum() if n in found else zero for n in PARTS])


def _looked(parts: Parts, share: Tensor, looks: Looks) -> Tensor:
    """The columns :data:`LOOK` of a batch's looks, (k, 4); the first is never 0."""
    assert parts.positive is not None and parts.negative is not None and parts.active is not None
    columns = [share[looks.rows].clamp(min=1e-6), parts.positive, parts.negative, parts.active]
    return torch.stack([column.to(exact(share.device)) for column in columns], 1)


def _numbers(values: Tensor) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _norm(tensors: list[Tensor]) -> float:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors))).item()
