"""How fewer inner steps change the recorded gradient of a look at x̂: ``python -m benchmarks.looks``.

The gradient of p·L_P + c·L_C on the embedded model is taken with 20 even steps and with fewer, for the same
pictures, times, noise and LoRA. A cosine near 1 says that training would go the same way. Rows are pictures
in network calls without gradient; seconds are the processor's.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.train_step import MINI, prepare
from pipeline_steps.config import BaseRef, ModelRef, TrainConfig
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


def measure(folder: Path, case: tuple[int, bool, float], pictures: int) -> tuple[Tensor, dict[str, float]]:
    """Return the gradient of one look at each picture, and what it cost."""
    steps, by_time, start = case
    inner = {"steps": steps, "by_time": by_time}
    config = TrainConfig.model_validate(
        {"batch_size": pictures, "perceptual_every": 1, "perceptual_from": start, "denoising": inner,
         "perceptual": {"extractor": "clip", "layers": [-1]}}
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

    started = time.process_time()
    parts = scoft.forward(
        data.batch(range(pictures), trainer.device, looks=True), objective, counted, trainer.noise_process,
        decode=trainer.decode, extract=trainer.extract,
    )  # fmt: skip
    _, p, c = scoft.weighted(parts, objective.weights)
    assert p is not None and c is not None
    gradient = torch.autograd.grad(p + c, trainer.parameters)
    seconds = time.process_time() - started
    cost = {"rows": sum(rows) - pictures, "cpu_seconds": round(seconds, 2)}  # less those of L_M
    return torch.cat([part.flatten() for part in gradient]), cost


def looks(pictures: int = 48, threads: int = 1) -> None:
    """Print a line of JSON for each way to look; the first is the one the others are compared with."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), None, pictures)
        whole, cost = measure(Path(name), CASES[0], pictures)
        for number, case in enumerate(CASES):
            gradient, cost = measure(Path(name), case, pictures) if number else (whole, cost)
            cosine = torch.nn.functional.cosine_similarity(gradient, whole, dim=0).item()
            about = dict(zip(("steps", "by_time", "from"), case, strict=True))
            print(json.dumps(about | {"cosine": round(cosine, 4)} | cost), flush=True)


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(looks)
