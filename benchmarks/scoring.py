"""Time of scoring 1,000 generated pictures against 200 real ones, and of the report of five cultures; how
large that is, and how soon a browser has it.

python -m benchmarks.scoring [--generated 1000] [--real 200] [--cultures 5] [--variants 5] [--threads 2]

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
    DEPTH,
    DISTANCES,
    IMAGES,
    NEGATIVES,
    SAMPLES,
    TRAIN_LOG,
    Origin,
    Row,
    encode_picture,
)
from pipeline_steps.config import VARIANTS, FeaturesConfig, Models, PipelineConfig, ScoreConfig
from pipeline_steps.evaluation.merge_scores import merge_scores
from pipeline_steps.mini.corpora import Corpus, base_corpus
from tests.browser import CHROMIUM, browser

PROMPTS, TRAIN, NEGATIVES_EACH, UPDATES = 10, 48, 5, 300


def run(
    generated: int = 1000, real: int = 200, cultures: int = 5, variants: int = 5, threads: int = 2
) -> dict[str, dict[str, float]]:
    """Draw pictures, score them, write the report, and return the time each took."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        drawn, reference = base_corpus(generated, seed=1), base_corpus(real, seed=2)
        first = root / "scored"
        _samples(first / "samples/sd.parquet", drawn, Origin("korea", "0"))
        _images(first / "images.parquet", reference, 0, Origin("korea", "0"))
        figures = {
            "features of the real pictures": _features(first, "images", threads),
            "features of the generated pictures": _features(first, "samples/sd", threads),
            "score": _score(first, "sd", threads),
        }
        figures["scoring, whole"] = {
            kind: round(sum(part[kind] for part in figures.values()), 1) for kind in ("seconds", "cpu")
        }
        figures["report"] = _report(root, cultures, VARIANTS[:variants], threads)
    return figures


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


def _report(root: Path, cultures: int, variants: tuple[str, ...], threads: int) -> dict[str, float]:
    names = [f"culture{number}" for number in range(cultures)]
    drawn, reference = base_corpus(200, seed=3), base_corpus(108, seed=4)
    for name in names:
        folder, origin = root / name, Origin(name, "0")
        _images(folder / "images.parquet", reference, TRAIN, origin)
        _negatives(folder, drawn, origin)
        _features(folder, "images", threads)
        for variant in variants:
            _samples(folder / f"samples/{variant}.parquet", drawn, origin)
            target = folder / f"features/{variant}.safetensors"
            if variant == variants[0]:
                _features(folder, f"samples/{variant}", threads)
            else:
                target.write_bytes((folder / f"features/{variants[0]}.safetensors").read_bytes())
            _score(folder, variant, threads)
        merge_scores(
            [folder / f"scores/{variant}.parquet" for variant in variants], folder / "scores.parquet"
        )
    entries = {name: {"suffix": f", in {name}", "images": "nowhere"} for name in names}
    settings = PipelineConfig.model_validate({"cultures": entries, "score": {"variants": variants}})

    def paths(pattern: str) -> list[Path]:
        return [path for name in names for path in sorted((root / name).glob(pattern))]

    page = root / "report.html"
    found = _timed(
        threads, "report.report", "--page", page, "--template", "resources/report/page.html",
        "--style", "resources/report/page.css",
        "--images", *paths("images.parquet"), "--depth", *paths("depth.parquet"),
        "--negatives", *paths("negatives.parquet"), "--distances", *paths("distances.parquet"),
        "--samples", *paths("samples/*"),
        "--features", *(path for path in paths("features/*") if path.stem != "images"),
        "--references", *paths("features/images.safetensors"), "--scores", *paths("scores.parquet"),
        "--train-logs", *paths("train_log.parquet"), "--settings", settings.model_dump_json(),
    )  # fmt: skip
    return found | {"megabytes": round(page.stat().st_size / 1e6, 1)} | _opened(page)


def _opened(page: Path) -> dict[str, float]:
    """Seconds until the page can be used, and until all of it is shown, where there is a Chromium."""
    if CHROMIUM is None:
        return {}
    with browser() as chromium:
        shown = chromium.new_page(viewport={"width": 1280, "height": 900})
        shown.goto(page.as_uri())
        timing = shown.evaluate("performance.getEntriesByType('navigation')[0].toJSON()")
    ends = {"interactive": "domInteractive", "shown": "loadEventEnd"}
    return {name: round(timing[end] / 1000, 2) for name, end in ends.items()}


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


def _images(path: Path, corpus: Corpus, train: int, origin: Origin) -> None:
    """Write the first ``train`` pictures as training pictures, the others as held out."""
    about = dict.fromkeys(IMAGES.schema.names) | {"crop": [0, 0, 64, 64], "source_sha256": "0"}
    about |= {"source_width": 64, "source_height": 64}
    rows = (
        about
        | {"image_id": f"{n:04d}", "image": cell, "caption": corpus.captions[n],
           "split": "train" if n < train else "test"}
        for n, cell in enumerate(_cells(corpus.pictures))
    )  # fmt: skip
    IMAGES.write(path, rows, origin)


def _negatives(folder: Path, corpus: Corpus, origin: Origin) -> None:
    """Write depth maps, negatives, their distances and a training log, as many as a run leaves."""
    depth = ({"image_id": f"{n:04d}", "image": cell} for n, cell in enumerate(_cells(corpus.depths[:TRAIN])))
    DEPTH.write(folder / "depth.parquet", depth, origin)
    keys = [{"image_id": f"{n // NEGATIVES_EACH:04d}", "index": n % NEGATIVES_EACH}
            for n in range(TRAIN * NEGATIVES_EACH)]  # fmt: skip
    cells = list(_cells(corpus.pictures))
    NEGATIVES.write(
        folder / "negatives.parquet",
        (key | {"image": cells[n % len(cells)], "prompt": "p", "seed": n} for n, key in enumerate(keys)),
        origin,
    )
    DISTANCES.write(
        folder / "distances.parquet",
        (key | {"distance": (n % 7) / 10, "kept": n % 7 > 0} for n, key in enumerate(keys)),
        origin,
    )
    log = dict.fromkeys(TRAIN_LOG.schema.names, 1.0)
    TRAIN_LOG.write(
        folder / "train_log.parquet", (log | {"update": n, "epoch": 0} for n in range(1, UPDATES + 1)), origin
    )


if __name__ == "__main__":
    app = cyclopts.App()
    app.default(run)
    print(json.dumps(app(result_action="return_value"), indent=1))
