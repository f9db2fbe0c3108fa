"""Time and memory of ingest: photographs of 12 megapixels, and many small pictures.

python -m benchmarks.ingest [--photographs 200] [--small 1000 --small 10000 --small 100000]

The pictures are made here. Memory is the largest resident size of the process that ingests, so a
size that stays while the number grows says that pictures pass through and are not gathered.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cyclopts
import numpy as np
from PIL import Image

from pipeline_steps.config import DataConfig

WATCH = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""
"""Run by a process of its own: a child's largest size starts at that of the process it came from."""


def draw(seed: int, width: int, height: int, noise: np.ndarray) -> Image.Image:
    """A picture with broad shapes and the fine grain of a photograph."""
    random = np.random.default_rng(seed)
    broad = Image.fromarray(random.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    shapes = np.asarray(broad.resize((width, height), Image.Resampling.BICUBIC))
    grain = np.roll(noise, int(random.integers(noise.size)))[: width * height].reshape(height, width, 1)
    return Image.fromarray(np.clip(shapes.astype(np.int16) + grain, 0, 255).astype(np.uint8))


def fill(folder: Path, count: int, width: int, height: int) -> None:
    """Write JPEG files and their metadata."""
    noise = np.random.default_rng(0).normal(0, 6, width * height).astype(np.int8)

    def one(number: int) -> str:
        name = f"{number:06d}.jpg"
        draw(number, width, height, noise).save(folder / name, quality=92)
        return json.dumps({"file_name": name, "text": f"picture {number}, in wales"}) + "\n"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        (folder / "metadata.jsonl").write_text("".join(pool.map(one, range(count))))


def measure(count: int, width: int, height: int, resolution: int) -> dict[str, float]:
    """Ingest ``count`` pictures in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        fill(folder, count, width, height)
        flags = {
            "folder": folder,
            "images": Path(name) / "images.parquet",
            "findings": Path(name) / "findings.parquet",
            "culture": "wales",
            "suffix": ", in wales",
            "seed": "1",
            "config": DataConfig(resolution=resolution).model_dump_json(),
        }
        command = [sys.executable, "-m", "pipeline_steps.data.ingest"]
        command += [part for flag, value in flags.items() for part in (f"--{flag}", str(value))]
        watched = [sys.executable, "-c", WATCH, *command]
        start = time.perf_counter()
        answer = subprocess.run(watched, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - start
        cpu, memory = map(float, answer.stdout.split())
    return {
        "pictures": count,
        "megapixels": width * height / 1e6,
        "resolution": resolution,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "memory_mb": round(memory / 1024),
    }


def run(photographs: int = 200, small: tuple[int, ...] = (1000, 10_000, 100_000)) -> list[dict[str, float]]:
    """Measure each size."""
    found = [measure(photographs, 4000, 3000, 512)] if photographs else []
    return found + [measure(count, 96, 72, 64) for count in small]


if __name__ == "__main__":
    app = cyclopts.App()
    app.default(run)
    print(json.dumps(app(result_action="return_value"), indent=1))
