"""How fewer inner steps change the recorded gradient of looks at x̂: ``python -m benchmarks.looks``.

The gradient of p·L_P + c·L_C on the embedded model is taken with 20 even steps and with fewer, for the same
pictures, times, noise and LoRA: of as many pictures as an update looks at, and of all of them summed up. A
cosine near 1 says that training would go the same way. Rows are pictures in network calls without gradient;
seconds are the processor's.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.train_step import MINI, prepare
from pipeline_steps.config import BaseRef, ModelRef, PerceptualConfig, TrainConfig
from pipeline_steps.method import scoft
from pipeline_steps.models import extractors
from pipeline_steps.models.families import family_of
from pipeline_steps.training.dataset import TrainingSet
from pipeline_steps.training.parallel import Processes
from pipeline_steps.training.train import build_objective
from pipeline_steps.training.trainer import Trainer

CASES = (
    (20, False, 0.0),
    (10, False, 0.0),
    (5, False, 0.0),
    (3, False, 0.0),
    (20, True, 0.0),
    (10, True, 0.0),
    (5, True, 0.0),
    (20, False, 0.5),
    (10, True, 0.5),
)
"""Steps, whether by time, and the share of the schedule below which no picture is looked at."""


def measure(
    folder: Path, case: tuple[int, bool, float], count: int, at_once: int
) -> tuple[list[Tensor], dict[str, float]]:
    """Return the gradient of each group of looks, zeros where none is due, and what all cost."""
    steps, by_time, start = case
    config = TrainConfig.model_validate(
        {"batch_size": at_once, "perceptual_every": 1, "perceptual_from": start,
         "denoising": {"steps": steps, "by_time": by_time}}
    )  # fmt: skip
    family = family_of(BaseRef(path=str(MINI / "base")))
    objective = build_objective("scoft_mpc", config)
    trainer = Trainer(family.denoiser(), family, family.noise_process(), objective, config, 1, Processes(1))
    for number, parameter in enumerate(trainer.parameters):
        parameter.data.normal_(std=0.05, generator=torch.Generator().manual_seed(number))
    clip = ModelRef(path=str(MINI / "clip"))
    trainer.look(family.vae(), extractors.feature_extractor(clip, config.perceptual))
    cache, targets = folder / "cache.safetensors", folder / "targets.safetensors"
    data = TrainingSet(cache, targets, "korea", 1, config, trainer.noise_process)
    rows, predict = [], trainer.predict

    def counted(z: Tensor, *rest: Any) -> Tensor:
        rows.append(0 if torch.is_grad_enabled() else len(z))
        return predict(z, *rest)

    started, found = time.process_time(), []
    for first in range(0, count, at_once):
        batch = data.batch(range(first, min(first + at_once, count)), trainer.device, looks=True)
        parts = scoft.forward(
            batch, objective, counted, trainer.noise_process, decode=trainer.decode, extract=trainer.extract
        )
        looked = [part for part in scoft.weighted(parts, objective.weights)[1:] if part is not None]
        gradient = [torch.zeros_like(parameter) for parameter in trainer.parameters]
        if looked:
            gradient = list(torch.autograd.grad(torch.stack(looked).sum(), trainer.parameters))
        found.append(torch.cat([part.flatten() for part in gradient]))
    seconds = time.process_time() - started
    return found, {"rows": sum(rows) - count, "cpu_seconds": round(seconds, 2)}  # less those of L_M


def compare(found: Sequence[Tensor], whole: Sequence[Tensor]) -> dict[str, float]:
    """Return the cosines of the sum, and of the groups that were looked at: the median and the least."""
    groups = [cosine_similarity(a, b, 0).item() for a, b in zip(found, whole, strict=True) if a.any()]
    pooled = cosine_similarity(torch.stack([*found]).sum(0), torch.stack([*whole]).sum(0), 0).item()
    return {"cosine": pooled, "median": statistics.median(groups), "least": min(groups)}


def looks(count: int = 480, at_once: int = 4, pictures: int = 48, threads: int = 1) -> None:
    """Print a line of JSON for each way to look; the first is the one the others are compared with.

    Args:
        count: looks, epoch after epoch, each at a time of its own.
        at_once: looks of an update.
        pictures: the first so many of the culture's.
        threads: of the processor.
    """
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), None, pictures, PerceptualConfig())
        whole, cost = measure(Path(name), CASES[0], count, at_once)
        for number, case in enumerate(CASES):
            found, cost = measure(Path(name), case, count, at_once) if number else (whole, cost)
            about = dict(zip(("steps", "by_time", "from"), case, strict=True))
            cosines = {key: round(value, 4) for key, value in compare(found, whole).items()}
            print(json.dumps(about | cosines | cost), flush=True)


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(looks)
