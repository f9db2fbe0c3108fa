"""Time and size of the report of five cultures with three further sets of prompts, in a browser too.

python -m benchmarks.report [--cultures 5] [--variants 5] [--sets 3] [--side 512]

The page's cost does not depend on what the pictures show or the scores say, so both are made up, as many and
as large as a run leaves: parts of two photographs, 20 of each of 10 test prompts, 4 of each of 40 prompts of
a set, 150 training pictures with 5 negatives each.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cyclopts
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from pipeline_steps.artifacts import (
    BREAKDOWN,
    DEPTH,
    DISTANCES,
    FEATURES,
    IMAGES,
    NEGATIVES,
    SAMPLES,
    SCORES,
    TRAIN_LOG,
    Origin,
    Row,
    Table,
    encode_picture,
)
from pipeline_steps.config import VARIANTS, PipelineConfig
from pipeline_steps.drawing.labels import SCORES as KNOWN
from tests.browser import CHROMIUM, browser

TRAIN, TEST, NEGATIVES_EACH, UPDATES = 150, 40, 5, 3000
DREAMSIM = 1792
"""Width of DreamSim's published ensemble."""
CATEGORIES, ERAS = 9, ("modern", "traditional")
PICTURES = 200
"""Different pictures; whatever holds more has them again."""


class Prompts(NamedTuple):
    """How many prompts a set has, and how many pictures of each are drawn."""

    count: int
    pictures: int


TEST_PROMPTS, SET = Prompts(10, 20), Prompts(40, 4)


def photographs(count: int, side: int) -> list[Row]:
    """Return picture cells: parts of scikit-learn's two sample photographs, no two alike."""
    random = np.random.default_rng(0)
    whole = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    cells = []
    for number in range(count):
        picture = whole[number % len(whole)]
        part = int(random.integers(min(picture.size) // 2, min(picture.size)))
        left, upper = (int(random.integers(0, edge - part + 1)) for edge in picture.size)
        square = picture.crop((left, upper, left + part, upper + part)).resize(
            (side, side), Image.Resampling.LANCZOS
        )
        cells.append(encode_picture(square, f"{number}.png"))
    return cells


def run(cultures: int = 5, variants: int = 5, sets: int = 3, side: int = 512) -> dict[str, float]:
    """Make up what runs leave, write the report, and return what it took."""
    cells, shown = photographs(PICTURES, side), VARIANTS[:variants]
    names, further = [f"culture{n}" for n in range(cultures)], [f"set{n}" for n in range(sets)]
    settings = PipelineConfig.model_validate({
        "cultures": {name: {"suffix": f", in {name}", "images": "nowhere"} for name in names},
        "score": {"variants": shown},
        "evaluation": {"prompt_sets": {name: {"path": f"{name}.txt"} for name in further}},
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in names:
            origin = Origin(name, "0")
            _culture(root / name, cells, side, origin)
            _drawn(root / name, cells, shown, TEST_PROMPTS, origin)
            for one in further:
                _drawn(root / name / "runs" / one, cells, shown, SET, origin)
        return _written(root, names, settings) | _opened(root / "report.html")


def _written(root: Path, names: list[str], settings: PipelineConfig) -> dict[str, float]:
    """Write the page by the step's command line; seconds of the clock, and of all cores together ("cpu")."""

    def paths(*patterns: str) -> list[Path]:
        return [
            path for name in names for pattern in patterns for path in sorted((root / name).glob(pattern))
        ]

    arguments: dict[str, Any] = {
        "page": [root / "report.html"], "template": ["resources/report/page.html"],
        "style": ["resources/report/page.css"], "images": paths("images.parquet"),
        "depth": paths("depth.parquet"), "negatives": paths("negatives.parquet"),
        "distances": paths("distances.parquet"), "samples": paths("samples/*"),
        "features": [path for path in paths("features/*") if path.stem != "images"],
        "references": paths("features/images.safetensors"), "scores": paths("scores.parquet"),
        "train-logs": paths("train_log.parquet"), "set-samples": paths("runs/*/samples/*"),
        "set-scores": paths("runs/*/scores.parquet"),
        "breakdowns": paths("breakdown.parquet", "runs/*/breakdown.parquet"),
        "settings": [settings.model_dump_json()],
    }  # fmt: skip
    command = [sys.executable, "-m", "pipeline_steps.report.report"]
    for name, values in arguments.items():
        command += [f"--{name}", *map(str, values)] if values else []
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    size = (root / "report.html").stat().st_size / 1e6
    return {"seconds": round(took, 1), "cpu": round(cpu, 1), "megabytes": round(size, 1)}


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


def _culture(folder: Path, cells: list[Row], side: int, origin: Origin) -> None:
    """Write a culture's pictures and what they look like, depth, negatives and a training log."""
    about = dict.fromkeys(IMAGES.schema.names) | {"crop": [0, 0, side, side], "source_sha256": "0"}
    about |= {"source_width": side, "source_height": side, "caption": f"a scene, in {origin.culture}"}
    names = [f"{n:04d}" for n in range(TRAIN + TEST)]
    rows = (
        about | {"image_id": name, "image": cells[n % len(cells)], "split": "train" if n < TRAIN else "test"}
        for n, name in enumerate(names)
    )
    IMAGES.write(folder / "images.parquet", rows, origin)
    _looks(folder / "features/images.safetensors", len(names), origin)
    DEPTH.write(
        folder / "depth.parquet",
        ({"image_id": name, "image": cells[n]} for n, name in enumerate(names[:TRAIN])),
        origin,
    )
    keys = [{"image_id": name, "index": n} for name in names[:TRAIN] for n in range(NEGATIVES_EACH)]
    drawn = (
        key | {"image": cells[n % len(cells)], "prompt": "a scene", "seed": n} for n, key in enumerate(keys)
    )
    NEGATIVES.write(folder / "negatives.parquet", drawn, origin)
    DISTANCES.write(
        folder / "distances.parquet",
        (key | {"distance": (n % 7) / 10, "kept": n % 7 > 0} for n, key in enumerate(keys)),
        origin,
    )
    names = TRAIN_LOG.schema.names
    log = {name: [0.5] * 4 if name.startswith("look_") else 1.0 for name in names}
    TRAIN_LOG.write(
        folder / "train_log.parquet", (log | {"update": n, "epoch": 0} for n in range(1, UPDATES + 1)), origin
    )


def _looks(path: Path, count: int, origin: Origin) -> None:
    """Write what DreamSim saw, at random."""
    drawn = torch.randn(count, DREAMSIM, generator=torch.Generator().manual_seed(count))
    networks = {"networks": json.dumps({"dreamsim": {"path": "net", "sha256": "0" * 64}})}
    FEATURES.write(path, {"dreamsim": drawn, "blank": torch.zeros(count, dtype=torch.bool)}, origin, networks)


def _drawn(folder: Path, cells: list[Row], variants: Iterable[str], prompts: Prompts, origin: Origin) -> None:
    """Write a set of prompts: each variant's pictures, and their scores, whole and by groups."""
    places = [(n, index) for n in range(prompts.count) for index in range(prompts.pictures)]
    for shift, variant in enumerate(variants):
        rows = (
            {"prompt_id": f"{n:04d}", "index": index, "prompt": f"prompt {n}", "seed": at,
             "image": cells[(at + 40 * shift) % len(cells)]}
            for at, (n, index) in enumerate(places)
        )  # fmt: skip
        SAMPLES.write(folder / f"samples/{variant}.parquet", rows, origin)
        if prompts is TEST_PROMPTS:
            _looks(folder / f"features/{variant}.safetensors", len(places), origin)
    said = {"value": 0.5, "low": 0.4, "high": 0.6, "interval": "95%", "generated": len(places)}
    about = said | {"unit": "cosine", "reference": TEST, "extractor": "net", "weights_sha256": "0" * 64}
    scores = (about | {"variant": variant, "metric": metric} for variant in variants for metric in KNOWN)
    note = {"blank": dict.fromkeys(variants, 0)}
    SCORES.write(folder / "scores.parquet", _sorted(SCORES, scores), origin, note)
    groups = [("category", f"category {n}") for n in range(CATEGORIES)] + [("era", era) for era in ERAS]
    groups += [("prompt", f"prompt {n}") for n in range(prompts.count)]
    parts = (
        said | {"by": by, "group": group, "variant": variant, "metric": metric, "prompts": 1}
        for by, group in groups for variant in variants for metric in KNOWN
    )  # fmt: skip
    BREAKDOWN.write(folder / "breakdown.parquet", _sorted(BREAKDOWN, parts), origin)


def _sorted(table: Table, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows as the table wants them."""
    return iter(sorted(rows, key=lambda row: tuple(row[name] for name in table.key)))


if __name__ == "__main__":
    app = cyclopts.App()
    app.default(run)
    print(json.dumps(app(result_action="return_value"), indent=1))
