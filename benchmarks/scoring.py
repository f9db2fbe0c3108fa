"""Time of scoring 1,000 generated pictures against 200 real ones.

python -m benchmarks.scoring [--generated 1000] [--real 200] [--threads 2]

Each step is a process of its own, as in the workflow, so that its imports count. Seconds of the
clock, and of all cores together ("cpu"), which other work on the machine disturbs less.
"""

import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cyclopts
import numpy as np
from PIL import Image

from pipeline_steps.artifacts import (
    IMAGES,
    SAMPLES,
    Origin,
    Row,
    encode_picture,
)
from pipeline_steps.config import FeaturesConfig, Models, ScoreConfig
from pipeline_steps.mini.corpora import Corpus, base_corpus

PROMPTS = 10


def run(generated: int = 1000, real: int = 200, threads: int = 2) -> dict[str, dict[str, float]]:
    """Draw pictures, score them, and return the time each step took."""
    with tempfile.TemporaryDirectory() as name:
        folder, origin = Path(name), Origin("korea", "0")
        _samples(folder / "samples/sd.parquet", base_corpus(generated, seed=1), origin)
        _images(folder / "images.parquet", base_corpus(real, seed=2), origin)
        figures = {
            "features of the real pictures": _features(folder, "images", threads),
            "features of the generated pictures": _features(folder, "samples/sd", threads),
            "score": _score(folder, "sd", threads),
        }
    whole = {kind: round(sum(part[kind] for part in figures.values()), 1) for kind in ("seconds", "cpu")}
    return figures | {"scoring, whole": whole}


def _timed(threads: int, module: str, *arguments: str | Path) -> dict[str, float]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    limit = {"OMP_NUM_THREADS": str(threads)}
    command = [
        "python",
        "-m",
        f"pipeline_steps.{module}",
        *map(str, arguments),
        "--threads",
        str(threads),
    ]
    subprocess.run(command, check=True, env=os.environ | limit, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(time.perf_counter() - start, 1), "cpu": round(cpu, 1)}


def _features(folder: Path, name: str, threads: int) -> dict[str, float]:
    target = folder / f"features/{Path(name).name}.safetensors"
    target.parent.mkdir(exist_ok=True)
    roles = ("clip", "inception", "dino", "dreamsim", "oracle")
    networks = [part for role in roles for part in (f"--{role}", getattr(Models(), role).model_dump_json())]
    kind = "images" if name == "images" else "samples"
    return _timed(
        threads, "evaluation.features", "--pictures", folder / f"{name}.parquet", "--features", target,
        "--kind", kind, "--config", FeaturesConfig().model_dump_json(), *networks,
    )  # fmt: skip


def _score(folder: Path, variant: str, threads: int) -> dict[str, float]:
    return _timed(
        threads, "evaluation.score", "--samples", folder / f"samples/{variant}.parquet",
        "--features", folder / f"features/{variant}.safetensors", "--images", folder / "images.parquet",
        "--reference", folder / "features/images.safetensors",
        "--scores", folder / f"scores/{variant}.parquet",
        "--variant", variant, "--config", ScoreConfig().model_dump_json(),
    )  # fmt: skip


def _cells(pictures: np.ndarray) -> Iterator[Row]:
    for number, picture in enumerate(pictures):
        yield encode_picture(Image.fromarray(picture), f"{number}.png")


def _samples(path: Path, corpus: Corpus, origin: Origin) -> None:
    each = len(corpus.pictures) // PROMPTS
    rows = (
        {"prompt_id": f"{n // each:04d}", "index": n % each, "prompt": corpus.captions[n // each * each],
         "seed": n, "image": cell}
        for n, cell in enumerate(_cells(corpus.pictures[: each * PROMPTS]))
    )  # fmt: skip
    SAMPLES.write(path, rows, origin)


def _images(path: Path, corpus: Corpus, origin: Origin) -> None:
    """Write pictures that are all held out."""
    about = dict.fromkeys(IMAGES.schema.names) | {"crop": [0, 0, 64, 64], "source_sha256": "0"}
    about |= {"source_width": 64, "source_height": 64, "split": "test"}
    rows = (
        about | {"image_id": f"{n:04d}", "image": cell, "caption": corpus.captions[n]}
        for n, cell in enumerate(_cells(corpus.pictures))
    )
    IMAGES.write(path, rows, origin)


if __name__ == "__main__":
    app = cyclopts.App()
    app.default(run)
    print(json.dumps(app(result_action="return_value"), indent=1))
