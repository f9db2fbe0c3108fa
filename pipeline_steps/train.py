"""SCoFT LoRA training (paper §4): from the training cache to one LoRA."""

import json
import logging
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CHECKPOINT, LORA, TARGETS, TRAIN_CACHE, TRAIN_LOG, Origin
from pipeline_steps.cli import run_step
from pipeline_steps.config import ModelRef, TrainConfig, Variant
from pipeline_steps.errors import UserError
from pipeline_steps.seeds import derive_seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pipeline_steps.method.scoft import Objective, Parts
    from pipeline_steps.training_set import TrainingSet

LOG = logging.getLogger(__name__)


def train(
    train_cache: Path,
    lora: Path,
    train_log: Path,
    culture: str,
    variant: Variant,
    seed: int,
    base: ModelRef,
    config: TrainConfig,
    targets: Path | None = None,
    extractor: ModelRef | None = None,
) -> None:
    """Train a LoRA on the UNet's attention with L = a·L_LDM + b·L_M + p·L_P + c·L_C.

    Killed at any moment and started again, it goes on from its last checkpoint and ends with the
    same LoRA.

    Args:
        train_cache: latents and text.
        lora: safetensors file to write, with diffusers' keys.
        train_log: table to write, one row per update.
        culture: its name.
        variant: which losses: ``ldm``, ``scoft_m``, ``scoft_mp`` or ``scoft_mpc``.
        seed: the run's seed.
        base: Stable Diffusion.
        config: everything else.
        targets: perceptual features; needed by ``scoft_mp`` and ``scoft_mpc``.
        extractor: weights of the feature extractor; likewise.

    Raises:
        UserError: the inputs do not fit together, or the training diverged.
    """
    import torch

    from pipeline_steps import models
    from pipeline_steps.training_set import TrainingSet

    sources = [(TRAIN_CACHE, train_cache)] + ([(TARGETS, targets)] if targets else [])
    origin = artifacts.same_origin(*sources, culture=culture)
    schedule = models.noise_schedule(base)
    objective = build_objective(variant, config, schedule.config.prediction_type)
    data = TrainingSet(train_cache, targets if objective.perceptual else None, culture, seed, config)
    trainer = Trainer(models.unet(base), schedule.alphas_cumprod, objective, config, derive_seed(seed, "lora", culture))
    if objective.perceptual:
        trainer.look(models.vae(base), models.feature_extractor(extractor, config.perceptual))

    identity = _identity(config, variant, seed, base, origin, [artifacts.file_sha256(path) for _, path in sources])
    checkpoints = Checkpoints(lora.parent / "checkpoints", identity, origin, config.checkpoints_kept)
    rows = checkpoints.restore(trainer)
    with tqdm(total=config.updates, initial=len(rows), desc=f"train {variant}", unit="update", mininterval=1) as bar:
        for update in range(len(rows), config.updates):
            row = trainer.update(update, data)
            if not math.isfinite(row["loss"] + row["gradient_norm"]):
                raise UserError(
                    f"training of '{culture}' diverged at update {update}: "
                    + ", ".join(f"{name} {value}" for name, value in row.items() if name.startswith("loss"))
                    + f"; last good checkpoint: {checkpoints.latest() or 'none'}; lower train.learning_rate"
                )
            rows.append(row)
            if (update + 1) % config.checkpoint_every == 0 and update + 1 < config.updates:
                checkpoints.save(update + 1, trainer, rows)
            bar.set_postfix(loss=f"{row['loss']:.4f}", refresh=False)
            bar.update()
    if all(float(weight.abs().max()) == 0 for name, weight in trainer.lora_weights().items() if "lora_B" in name):
        raise UserError(f"training of '{culture}' left the LoRA as it began; check train.* weights and updates")
    TRAIN_LOG.write(train_log, rows, origin)
    LORA.write(lora, trainer.lora_weights(), origin, trainer.lora_metadata())
    checkpoints.remove()


def build_objective(variant: Variant, config: TrainConfig, prediction_type: str) -> "Objective":
    """Switch on the losses of a variant (Table 1): the rows ``ldm``, M, MP and MPC."""
    from pipeline_steps.method.scoft import Objective

    if variant == "sd":
        raise UserError("variant 'sd' is the un-tuned model: there is nothing to train")
    inner = config.denoising
    return Objective(
        a=config.weight_ldm,
        b=config.weight_m if variant != "ldm" else 0.0,
        p=config.weight_p if variant in ("scoft_mp", "scoft_mpc") else 0.0,
        c=config.weight_c if variant == "scoft_mpc" else 0.0,
        lam=config.contrast_lambda,
        margin=config.contrast_margin,
        hinge=config.contrast == "hinge",
        snr_gamma=config.snr_gamma,
        t_weight=config.perceptual_t_weight == "alpha_bar",
        steps=inner.steps,
        scale=inner.guidance_scale,
        record=inner.record,
        kind=prediction_type,
    )


class Trainer:
    """The UNet with its LoRA, the optimiser, and one update."""

    def __init__(
        self, unet: Any, alpha_bars: "Tensor", objective: "Objective", config: TrainConfig, lora_seed: int
    ) -> None:
        import torch
        from peft import LoraConfig

        self.unet, self.objective, self.config = unet, objective, config
        self.device = unet.device
        self.alpha_bars = alpha_bars.to(self.device)
        self.decode = self.extract = None
        torch.manual_seed(lora_seed)
        alpha = config.lora_alpha or config.lora_rank
        unet.add_adapter(
            LoraConfig(
                r=config.lora_rank,
                lora_alpha=alpha,
                init_lora_weights="gaussian",
                target_modules=list(config.lora_targets),
            )
        )
        self.parameters = [p for p in unet.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.data = parameter.data.float()
        if config.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
            unet.train()
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, betas=(0.9, 0.999), weight_decay=config.weight_decay
        )

    def look(self, vae: Any, extract: Any) -> None:
        """Give the trainer eyes: the VAE's decoder and the feature extractor of S."""

        def decode(latents: "Tensor") -> "Tensor":
            pictures = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample
            return (pictures.float() / 2 + 0.5).clamp(0, 1)

        self.decode, self.extract = decode, extract

    def predict(self, z: "Tensor", t: "Tensor", condition: "dict[str, Tensor]") -> "Tensor":
        """Call the UNet in its own precision; LoRA weights stay float32."""
        import torch

        dtype = self.unet.dtype
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            return self.unet(z.to(dtype), t, **condition).sample

    def update(self, update: int, data: "TrainingSet") -> dict[str, Any]:
        """Run one optimiser update.

        Returns:
            The row of the training log.
        """
        import torch

        from pipeline_steps.method import scoft

        config = self.config
        perceptual = self.objective.perceptual and update % config.perceptual_every == 0
        size = config.batch_size * config.accumulation
        diffusion_gradient = [torch.zeros_like(p) for p in self.parameters]
        perceptual_gradient = [torch.zeros_like(p) for p in self.parameters]
        means: dict[str, float] = {}
        for part in range(config.accumulation):
            first = update * size + part * config.batch_size
            batch = data.batch(range(first, first + config.batch_size), perceptual, self.device)
            losses = scoft.forward(
                batch, self.objective, self.predict, self.decode, self.extract, self.alpha_bars, perceptual=perceptual
            )
            diffusion, looks = scoft.weighted(losses, self.objective)
            _accumulate(diffusion.sum() / size, self.parameters, diffusion_gradient, retain=looks is not None)
            if looks is not None:
                _accumulate(looks.sum() / size, self.parameters, perceptual_gradient)
            _add_means(means, losses, size)

        learning_rate = config.learning_rate * schedule_factor(config, update)
        norm_d, norm_p = _norm(diffusion_gradient), _norm(perceptual_gradient)
        factor = self._perceptual_factor(norm_d, norm_p) if perceptual else 0.0
        gradient = [d + factor * p for d, p in zip(diffusion_gradient, perceptual_gradient, strict=True)]
        norm = _norm(gradient)
        clip = min(1.0, config.max_gradient_norm / (norm + 1e-6))
        for parameter, value in zip(self.parameters, gradient, strict=True):
            parameter.grad = value * clip
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.step()
        return {
            "update": update,
            "epoch": update * size // len(data),
            "learning_rate": learning_rate,
            "loss": sum(getattr(self.objective, w) * means.get(k, 0.0) for w, k in zip("abpc", PARTS, strict=True)),
            **{f"loss_{name}": means.get(name) for name in PARTS},
            "gradient_norm": norm,
            "gradient_norm_diffusion": norm_d,
            "gradient_norm_perceptual": norm_p if perceptual else None,
        }

    def _perceptual_factor(self, norm_d: float, norm_p: float) -> float:
        """Scale of the perceptual gradient: a share of the diffusion gradient, or clipped apart."""
        if norm_p == 0:
            return 0.0
        if self.config.perceptual_share is not None:
            return self.config.perceptual_share * norm_d / norm_p
        if self.config.perceptual_clip is not None:
            return min(1.0, self.config.perceptual_clip / norm_p)
        return 1.0

    def lora_weights(self) -> "dict[str, Tensor]":
        """Return the LoRA with diffusers' keys."""
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft.utils import get_peft_model_state_dict

        state = convert_state_dict_to_diffusers(get_peft_model_state_dict(self.unet))
        return {f"unet.{name}": weight for name, weight in state.items()}

    def lora_metadata(self) -> dict[str, str]:
        """Return the header that tells diffusers rank, alpha and targets."""
        adapter = self.unet.peft_config["default"].to_dict()
        plain = {f"unet.{k}": sorted(v) if isinstance(v, set) else v for k, v in adapter.items()}
        return {"format": "pt", "lora_adapter_metadata": json.dumps(plain, sort_keys=True, default=str)}

    def state(self) -> "dict[str, Tensor]":
        """Return weights and optimiser state."""
        tensors: dict[str, Tensor] = {}
        for index, parameter in enumerate(self.parameters):
            tensors[f"weight.{index:04d}"] = parameter
            for name, value in self.optimiser.state[parameter].items():
                tensors[f"{name}.{index:04d}"] = value
        return tensors

    def restore(self, tensors: "dict[str, Tensor]") -> None:
        """Take weights and optimiser state back."""
        for index, parameter in enumerate(self.parameters):
            parameter.data.copy_(tensors[f"weight.{index:04d}"])
            state = self.optimiser.state[parameter]
            for name in ("step", "exp_avg", "exp_avg_sq"):
                value = tensors[f"{name}.{index:04d}"]
                state[name] = value if name == "step" else value.to(self.device)


PARTS = ("ldm", "m", "p", "c")


def schedule_factor(config: TrainConfig, update: int) -> float:
    """Return the learning rate's factor at an update, in [0, 1]; cosine and linear end at 0."""
    if update < config.warmup:
        return (update + 1) / config.warmup
    progress = (update - config.warmup) / (config.updates - config.warmup)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if config.schedule == "linear" else 1.0


def _accumulate(
    loss: "Tensor", parameters: "list[torch.nn.Parameter]", total: "list[Tensor]", retain: bool = False
) -> None:
    import torch

    gradients = torch.autograd.grad(loss, parameters, retain_graph=retain)
    torch._foreach_add_(total, gradients)


def _add_means(means: dict[str, float], losses: "Parts", size: int) -> None:
    for name in PARTS:
        if (values := getattr(losses, name)) is not None:
            means[name] = means.get(name, 0.0) + values.sum().item() / size


def _norm(tensors: "list[Tensor]") -> float:
    import torch

    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors))).item()


def _identity(
    config: TrainConfig, variant: str, seed: int, base: ModelRef, origin: Origin, inputs: list[str]
) -> dict[str, Any]:
    """What a checkpoint must agree with to be continued."""
    settings = config.model_dump(mode="json", exclude={"checkpoint_every", "checkpoints_kept"})
    return {
        "settings": settings,
        "variant": variant,
        "seed": seed,
        "base": base.model_dump(),
        "fingerprint": origin.fingerprint,
        "inputs": inputs,
    }


class Checkpoints:
    """A folder of the last few checkpoints: safetensors, and plain JSON for the log so far."""

    def __init__(self, folder: Path, identity: dict[str, Any], origin: Origin, kept: int) -> None:
        self.folder, self.identity, self.origin, self.kept = folder, identity, origin, kept

    def latest(self) -> Path | None:
        """Return the newest checkpoint, if any."""
        found = sorted(self.folder.glob("*.safetensors"))
        return found[-1] if found else None

    def save(self, update: int, trainer: Trainer, rows: list[dict[str, Any]]) -> None:
        """Save a checkpoint (the JSON first: a checkpoint exists once its tensors do) and drop old ones."""
        path = self.folder / f"{update:07d}.safetensors"
        artifacts.write_text(path.with_suffix(".json"), json.dumps({"identity": self.identity, "rows": rows}))
        CHECKPOINT.write(path, trainer.state(), self.origin)
        for old in sorted(self.folder.glob("*.safetensors"))[: -self.kept]:
            old.unlink()
            old.with_suffix(".json").unlink(missing_ok=True)

    def restore(self, trainer: Trainer) -> list[dict[str, Any]]:
        """Load the newest readable checkpoint of the same run; return its log rows."""
        for path in sorted(self.folder.glob("*.safetensors"), reverse=True):
            try:
                note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
                tensors = CHECKPOINT.read(path)
            except (OSError, ValueError, UserError) as error:
                LOG.warning("checkpoint %s is damaged and passed over (%s)", path, error)
                continue
            if note["identity"] != self.identity:
                LOG.info("checkpoint %s belongs to other settings or data and is passed over", path)
                continue
            trainer.restore(tensors)
            LOG.info("going on from %s", path)
            return note["rows"]
        return []

    def remove(self) -> None:
        """Remove the folder: the run is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)


if __name__ == "__main__":
    run_step(train)
