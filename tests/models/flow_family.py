"""What the tests of every family on a rectified flow share: pictures, a trainer, and the equations."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS, IMAGES, NEGATIVES_KEPT, Origin
from pipeline_steps.config import BaseRef, CacheConfig, ModelRef, TargetsConfig, TrainConfig
from pipeline_steps.method.pictures import to_unit
from pipeline_steps.method.scoft import Batch
from pipeline_steps.models import extractors
from pipeline_steps.models.families import family_of
from pipeline_steps.training.cache import cache
from pipeline_steps.training.dataset import TrainingSet
from pipeline_steps.training.parallel import Processes
from pipeline_steps.training.targets import targets
from pipeline_steps.training.train import build_objective
from pipeline_steps.training.trainer import Trainer
from tests.reference import flow
from tests.reference import scoft as naive

CLIP = ModelRef(path="resources/mini/clip")
ORIGIN = Origin("wales", "f" * 64)
NEGATIVES = (2, 1, 0)  # one picture has kept none


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def write_pictures(folder: Path, size: tuple[int, int] = (64, 64)) -> None:
    """Three training pictures with two captions each, and negatives."""
    about = {"source_width": 64, "source_height": 64, "crop": [0, 0, 64, 64], "split": "train"}
    ids = [f"picture-{number}" for number in range(len(NEGATIVES))]
    IMAGES.write(
        folder / "images.parquet",
        [
            dict.fromkeys(IMAGES.schema.names)
            | about
            | {"image_id": name, "caption": f"a red house, {name}", "source_sha256": name}
            | {"image": artifacts.encode_picture(picture(number, size), f"{name}.png")}
            for number, name in enumerate(ids)
        ],
        ORIGIN,
        {"resolution": size[0]},
    )
    captions = [{"image_id": n, "index": k, "caption": f"house {n} {k}"} for n in ids for k in range(2)]
    CAPTIONS.write(folder / "captions.parquet", captions, ORIGIN)
    kept = [
        {"image_id": name, "index": k, "prompt": "a house", "seed": 1, "distance": 0.5}
        | {"image": artifacts.encode_picture(picture(10 + 3 * number + k), "negative.png")}
        for number, name in enumerate(ids)
        for k in range(NEGATIVES[number])
    ]
    NEGATIVES_KEPT.write(folder / "kept.parquet", kept, ORIGIN)


def settings(**changes) -> TrainConfig:
    own = {
        "updates": 2, "batch_size": 3, "perceptual_every": 1, "lora_rank": 2, "memorisation_captions": "all",
        "perceptual_share": None, "contrast_share": None, "contrast_margin": 0.1, "max_gradient_norm": 1e9,
        "learning_rate": 0.01,
        "perceptual": {"layers": [1, 2], "views": 2}, "denoising": {"steps": 3, "guidance_scale": 3.0},
    }  # fmt: skip
    return TrainConfig.model_validate(own | changes)


def write_inputs(folder: Path, base: BaseRef) -> None:
    """The training's inputs, made by their steps."""
    write_pictures(folder)
    cache(
        folder / "images.parquet", folder / "captions.parquet", folder / "cache.safetensors", "wales", base,
        CacheConfig(),
    )  # fmt: skip
    targets(
        folder / "images.parquet", folder / "kept.parquet", folder / "targets.safetensors", "wales", 3, CLIP,
        settings().perceptual, TargetsConfig(),
    )  # fmt: skip


def data_set(world: Path, config: TrainConfig, trainer: Trainer) -> TrainingSet:
    paths = world / "cache.safetensors", world / "targets.safetensors"
    return TrainingSet(*paths, "wales", 3, config, trainer.noise_process)


def new_trainer(base: BaseRef, config: TrainConfig, positions: int | None = None) -> Trainer:
    """A trainer whose LoRA is no longer zero: where B is zero, A has no gradient yet."""
    family = family_of(base)
    parts = family.denoiser(), family, family.noise_process(positions)
    trainer = Trainer(*parts, build_objective("scoft_mpc", config), config, 5, Processes(1))
    g = torch.Generator().manual_seed(0)
    for parameter in trainer.parameters:
        parameter.data.normal_(std=0.1, generator=g)
    trainer.look(family.vae(), extractors.feature_extractor(CLIP, config.perceptual))
    return trainer


@dataclass
class Raw:
    """A family's networks, called as plainly as can be: its pipeline's own calls, one picture at a time.

    Attributes:
        say: a prompt to what ``network`` takes of it.
        network: (z, sigma, prompt) to the velocity.
        decode: latents to pictures in [0, 1].
        shift: of the schedule.
    """

    say: Callable
    network: Callable
    decode: Callable
    shift: float


def plain_losses(
    world: Path, trainer: Trainer, raw: Raw, batch: Batch, pictures: list[int], draws: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Means of the four losses, one picture and one equation at a time, from pictures and raw networks."""
    o, say, network, decode = trainer.objective, raw.say, raw.network, raw.decode
    rows, captions = list(IMAGES.rows(world / "images.parquet")), CAPTIONS.read(world / "captions.parquet")
    kept = NEGATIVES_KEPT.read(world / "kept.parquet")

    def see(row):
        return to_unit([artifacts.decode_picture(row["image"])])

    total = dict.fromkeys(("ldm", "m", "p", "c"), 0.0)
    for i, number in enumerate(pictures):
        z0, noise, sigma = batch.z0[i : i + 1], batch.noise[i : i + 1], batch.t[i]
        name, text, null = rows[number]["image_id"], say(rows[number]["caption"]), say("")
        blips = [say(row["caption"]) for row in captions if row["image_id"] == name]
        x_hat = flow.picture(
            network, decode, z0, noise, sigma, text, null, raw.shift, o.steps, o.scale, o.record, draws[i],
            o.by_time,
        )  # fmt: skip
        boxes, positive = batch.looks.boxes[i], see(rows[number])
        negatives = [see(row) for row in kept if row["image_id"] == name]
        part = {
            "ldm": flow.ldm(network, z0, noise, sigma, text, o.snr_gamma),
            "m": flow.memorisation(network, z0, noise, sigma, text, blips),
            "p": naive.perceptual(trainer.extract, x_hat, positive, boxes),
            "c": naive.contrastive(
                trainer.extract, x_hat, positive, negatives, boxes, o.lam, o.margin, hinge=o.hinge
            ),
        }
        total = {name: total[name] + part[name] / len(pictures) for name in total}
    return total


def check_losses_and_one_update(trainer: Trainer, raw: Raw, world: Path) -> None:
    """One update of the trainer against the equations: losses to 1e-5, LoRA gradients to 1e-4."""
    config = trainer.config
    data, o = data_set(world, config, trainer), trainer.objective
    batch, pictures = data.batch(range(3), trainer.device, looks=True), data.order(0)
    losses = plain_losses(world, trainer, raw, batch, pictures, batch.looks.record_draw)
    weights = {"ldm": o.a, "m": o.b, "p": o.p, "c": o.c}
    loss = sum(weights[name] * value for name, value in losses.items())
    gradient = torch.autograd.grad(loss, trainer.parameters)

    before = [parameter.detach().clone() for parameter in trainer.parameters]
    row = trainer.update(0, data)
    for name, value in losses.items():
        assert value > 0
        assert row[f"loss_{name}"] == pytest.approx(value.item(), rel=1e-5), name
    assert difference([p.grad for p in trainer.parameters], gradient) <= 1e-4

    theirs = [torch.nn.Parameter(value.clone()) for value in before]
    for parameter, value in zip(theirs, gradient, strict=True):
        parameter.grad = value
    torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.01).step()
    moves = [
        [parameter.detach() - value for parameter, value in zip(found, before, strict=True)]
        for found in (trainer.parameters, theirs)
    ]
    assert difference(*moves) <= 1e-2


def difference(ours, theirs) -> float:
    """Relative, over all tensors together."""
    apart = torch.stack([(x - y).norm() for x, y in zip(ours, theirs, strict=True)]).norm()
    size = torch.stack([y.norm() for y in theirs]).norm()
    assert size > 0
    return float(apart / size)
