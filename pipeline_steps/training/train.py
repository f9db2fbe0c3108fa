"""SCoFT LoRA training (paper §4): from the training cache to one LoRA."""

import logging
import math
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline_steps import artifacts
from pipeline_steps.artifacts import LORA, NEGATIVE_CACHE, TARGETS, TRAIN_CACHE, TRAIN_LOG, Origin
from pipeline_steps.cli import run_step
from pipeline_steps.config import BASELINES, DEFINITIONS, BaseRef, ModelRef, TrainConfig, Variant, WatchConfig
from pipeline_steps.errors import UserError
from pipeline_steps.models.store import commit
from pipeline_steps.seeds import derive_seed

if TYPE_CHECKING:
    from pipeline_steps.artifacts.tensors import TensorFile
    from pipeline_steps.method.scoft import Objective
    from pipeline_steps.training.boards import Boards
    from pipeline_steps.training.checkpoints import Checkpoints
    from pipeline_steps.training.dataset import TrainingSet
    from pipeline_steps.training.optimiser import LossScale
    from pipeline_steps.training.trainer import Trainer

LOG = logging.getLogger(__name__)


def train(
    train_cache: Path,
    lora: Path,
    train_log: Path,
    culture: str,
    variant: Variant,
    seed: int,
    base: BaseRef,
    config: TrainConfig,
    targets: Path | None = None,
    extractor: ModelRef | None = None,
    watch: WatchConfig = WatchConfig(),  # noqa: B008 (frozen)
    suffix: str = "",
    negative_cache: Path | None = None,
) -> None:
    """Train a LoRA on the denoiser: L = a·L_LDM + b·L_M + p·L_P + c·L_C, or a baseline's loss.

    Killed at any moment and started again, it goes on from its last checkpoint and ends with the
    same LoRA.

    Args:
        train_cache: latents and text.
        lora: safetensors file to write, with diffusers' keys.
        train_log: table to write, one row per update.
        culture: its name.
        variant: which losses: ``ldm``, ``scoft_m``, ``scoft_mp`` or ``scoft_mpc``, or those of the baselines
            ``dpo`` and ``mapo``.
        seed: the run's seed.
        base: the model to be mended.
        config: everything else that changes the LoRA.
        targets: perceptual features; needed by ``scoft_mp`` and ``scoft_mpc``.
        extractor: weights of the feature extractor; needed with ``targets``.
        watch: checkpoints and boards, which change nothing.
        suffix: what prompts end with, e.g. ", in Korea", for the header.
        negative_cache: latents of the negatives; needed by the baselines.

    Raises:
        UserError: the inputs do not fit together, the training diverged, or changed nothing.
    """
    from pipeline_steps.models.families import family_of
    from pipeline_steps.training.boards import Boards
    from pipeline_steps.training.checkpoints import Checkpoints
    from pipeline_steps.training.dataset import TrainingSet, latent_positions
    from pipeline_steps.training.header import header
    from pipeline_steps.training.parallel import Processes
    from pipeline_steps.training.trainer import Trainer

    processes = Processes(config.processes)
    sources = _sources(train_cache, base, targets, extractor, config, negative_cache)
    origin = artifacts.same_origin(*sources, culture=culture)
    family = family_of(base)
    noise_process = family.noise_process(latent_positions(train_cache), config.times)
    objective = build_objective(variant, config)
    seen = targets if objective.perceptual else None
    compared = negative_cache if objective.preference else None
    data = TrainingSet(train_cache, seen, culture, seed, config, noise_process, compared)
    if watch.validate_every and not data.held_out_ids:
        raise UserError(
            f"watch.validate_every: {train_cache} keeps no test picture of '{culture}'; set "
            "cache.held_out, and give the culture pictures whose split is 'test'"
        )
    lora_seed = derive_seed(seed, "lora", culture)
    trainer = Trainer(family.denoiser(), family, noise_process, objective, config, lora_seed, processes)
    watched = processes.rank == 0 and (watch.tensorboard or watch.wandb is not None)
    _open_eyes(trainer, extractor, samples=watched and watch.sample_every > 0)
    identity = _identity(config, variant, seed, base, origin)
    inputs = {"inputs": [kind.note(path)["sha256"] for kind, path in sources]}
    folder = lora.parent / "checkpoints"
    checkpoints = Checkpoints(folder, identity | inputs, origin, watch.checkpoints_kept, watch.checkpoints)
    with processes.one_first():
        state, rows = checkpoints.restore()
    if state:
        trainer.restore(state)
    board_folder = lora.parent / "tensorboard" / variant
    boards = Boards(board_folder, watch, f"{culture} {variant}", len(rows), identity) if watched else None
    with boards or nullcontext():
        _go_on(trainer, data, checkpoints, boards, watch, rows, f"train {variant}")
    if not trainer.changed():
        raise UserError(
            f"training of '{culture}' left the LoRA as it began; check train.* weights and updates"
        )
    if processes.rank == 0:
        TRAIN_LOG.write(train_log, rows, origin)
        training = identity | {"versions": _versions(), "pictures": len(data)} | data.said
        weights = trainer.lora_weights()
        names = header(weights, training, family, culture, suffix, "diffusers")
        LORA.write(lora, weights, origin, trainer.lora_metadata() | names)
        checkpoints.remove()


def _sources(
    train_cache: Path,
    base: BaseRef,
    targets: Path | None,
    extractor: ModelRef | None,
    config: TrainConfig,
    negative_cache: Path | None,
) -> "list[tuple[TensorFile, Path]]":
    """List what a training reads, which this base model, extractor and S made.

    Raises:
        UserError: another one did.
    """
    from pipeline_steps.training.made_with import check_made_with, made_with

    sources = [(TRAIN_CACHE, train_cache, made_with(base))]
    if targets is not None:
        assert extractor is not None
        sources.append((TARGETS, targets, made_with(extractor, config.perceptual)))
    if negative_cache is not None:
        sources.append((NEGATIVE_CACHE, negative_cache, made_with(base)))
    for kind, path, line in sources:
        check_made_with(kind, path, line)
    return [(kind, path) for kind, path, _ in sources]


def _open_eyes(trainer: "Trainer", extractor: ModelRef | None, samples: bool) -> None:
    """Give the trainer what it looks at pictures with: for L_P and L_C, or to draw samples alone."""
    from pipeline_steps.models import extractors

    seen = trainer.config.perceptual
    if trainer.objective.perceptual:
        assert extractor is not None
        extract = extractors.feature_extractor(extractor, seen)
        trainer.look(trainer.family.vae(), extract, extractors.feature_dtype(extractor, seen))
    elif samples:
        trainer.look(trainer.family.vae())


def _go_on(
    trainer: "Trainer",
    data: "TrainingSet",
    checkpoints: "Checkpoints",
    boards: "Boards | None",
    watch: WatchConfig,
    rows: list[dict[str, Any]],
    label: str,
) -> None:
    """Make the updates that are left, and look after each at what is to be watched.

    Raises:
        UserError: the training diverged.
    """
    main, updates = trainer.processes.rank == 0, trainer.config.updates
    for row in _updates(trainer, data, checkpoints, watch.checkpoint_every, rows, label):
        if main and _due(watch.validate_every, row, updates):
            row["loss_held_out"] = trainer.held_out_loss(data)
        _stop_if_diverged(row, trainer.loss_scale, data.culture, checkpoints.latest())
        if boards:
            boards.add(row)
        if boards and _due(watch.sample_every, row, updates):
            boards.add_samples(row["update"], trainer.samples(data, watch.sample_pictures))


def _due(every: int, row: dict[str, Any], updates: int) -> bool:
    """Whether it is time for what happens every so many updates, and after the last; 0: never."""
    done = row["update"] + 1
    return every > 0 and (done % every == 0 or done == updates)


def _updates(
    trainer: "Trainer",
    data: "TrainingSet",
    checkpoints: "Checkpoints",
    checkpoint_every: int,
    rows: list[dict[str, Any]],
    label: str,
) -> Iterator[dict[str, Any]]:
    """Make the updates that ``rows`` does not hold yet, behind a progress bar.

    Each is added to ``rows`` and yielded; who takes it has looked at it before a checkpoint is saved.
    """
    main, updates = trainer.processes.rank == 0, trainer.config.updates
    with tqdm(
        total=updates,
        initial=len(rows),
        desc=label,
        unit="update",
        mininterval=1,
        disable=not main,
    ) as bar:
        for update in range(len(rows), updates):
            row = trainer.update(update, data)
            yield row
            rows.append(row)
            done = update + 1
            if main and done % checkpoint_every == 0 and done < updates:
                checkpoints.save(done, trainer.state(), rows)
            bar.set_postfix(loss=f"{row['loss']:.4f}", refresh=False)
            bar.update()


def build_objective(variant: Variant, config: TrainConfig) -> "Objective":
    """Switch on the losses of a variant: the rows of Table 1, ``ldm`` of Table 2, and the baselines.

    ``scoft_mp`` is ``scoft_mpc`` without negatives, whichever form L_C has. A baseline's own loss has the
    weight 1, and so has L_LDM beside MaPO's, as in their authors' scripts.

    Raises:
        UserError: a variant without training.
    """
    from pipeline_steps.method.scoft import Objective

    losses = DEFINITIONS[variant].losses
    if not losses:
        raise UserError("variant 'sd' is the un-tuned model: there is nothing to train")
    inner = config.denoising
    # A difference holds S⁺ itself, with the weight c: without its negatives it is an L_P of that weight.
    p = config.weight_p + config.weight_c * ("c" not in losses and config.contrast == "difference")
    a = 1.0 if variant in BASELINES else config.weight_ldm
    return Objective(
        a=a if "ldm" in losses else 0.0,
        b=config.weight_m if "m" in losses else 0.0,
        p=p if "p" in losses else 0.0,
        c=config.weight_c if "c" in losses else 0.0,
        lam=config.contrast_lambda,
        margin=config.contrast_margin,
        hinge=config.contrast == "hinge",
        snr_gamma=config.snr_gamma,
        prior=config.weight_prior,
        dpo=float("dpo" in losses),
        mapo=float("mapo" in losses),
        beta=config.mapo_beta if "mapo" in losses else config.dpo_beta,
        spread=config.mapo_scale,
        steps=inner.steps,
        by_time=inner.by_time,
        scale=inner.guidance_scale,
        record=inner.record,
    )


def _stop_if_diverged(row: dict[str, Any], scale: "LossScale", culture: str, checkpoint: Path | None) -> None:
    """NaN or infinity ends the run; a gradient that overflowed under the loss scale is only left out."""
    if not math.isfinite(row["loss"] if scale.overflowed else row["loss"] + row["gradient_norm"]):
        lever = "lower train.learning_rate"
        if scale.enabled:  # its smallest scale was tried
            lever = f"set models.base.dtype: bfloat16, which has a larger range than float16, or {lever}"
        shown = {name: value for name, value in row.items() if name.startswith(("loss", "gradient_norm"))}
        values = ", ".join(f"{name} {value}" for name, value in shown.items())
        wrong = ", ".join(name for name, value in shown.items() if not math.isfinite(value or 0))
        raise UserError(
            f"training of '{culture}' diverged at update {row['update']} ({values}): not finite: {wrong}; "
            f"last good checkpoint: {checkpoint or 'none'}; {lever}"
        )


def _identity(config: TrainConfig, variant: str, seed: int, base: BaseRef, origin: Origin) -> dict[str, Any]:
    """What a LoRA was made with; a checkpoint must agree with it to be continued."""
    settings = config.model_dump(mode="json")
    return {
        "settings": settings,
        "variant": variant,
        "seed": seed,
        "base": base.model_dump() | {"commit": commit(base)},
        "fingerprint": origin.fingerprint,
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "diffusers", "peft", "transformers", "scoft-pipeline")}


if __name__ == "__main__":
    run_step(
        train,
        lever="set train.gradient_checkpointing: true, "
        "or lower train.batch_size and raise train.accumulation",
    )
