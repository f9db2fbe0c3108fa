"""The whole chain at the published size, on random weights, from the fetch of its models to the report.

    python -m tests.real_size.chain sd15 FOLDER            all of it, then what it took beside the plan
    python -m tests.real_size.chain sd15 FOLDER --table    the table alone, of what was run so far

SD 1.5 is run with the authors' settings and then with the paper's, which takes over what they have in
common; SDXL, ``sdxl``, with the authors' alone. What is there already is not made again, so that a run that
was broken off goes on. FOLDER takes 15 GB for SD 1.5 and 30 for SDXL, most of it the models, once as a hub
has them and once fetched.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests import ROOT
from tests.hub import Hub
from tests.real_size import build

TRAININGS = {"sd15": ("authors", "paper"), "sdxl": ("authors",)}
"""Presets of training with which each model is run."""
NUMBERS = {"sd15": {"dtype": "float32"}, "sdxl": {"dtype": "bfloat16"}}
"""A CPU is slow in float16, and has not every operation in it; SDXL in float32 takes more than 24 GB."""
PHOTOGRAPHS = ROOT.parent / "shared/ccub_korea"
SHAPES = ((640, 480), (480, 720), (512, 512), (1024, 400), (300, 900), (2000, 1500))
"""Of the pictures that are drawn where there are no photographs."""
TESTS = 2
"""How many of them are held out; KID wants two."""
SETTINGS = {
    "threads": 2,
    "caption": {"captions_per_image": 2},
    "negatives": {"per_positive": 1, "steps": 2},
    "train": {"updates": 2, "accumulation": 1, "denoising": {"steps": 2}},
    "watch": {"sample_pictures": 1},
    "sample": {"images_per_prompt": 2, "steps": 2},
    "plan": {"pictures": len(SHAPES) - TESTS, "prompts": 1},
}
"""Few pictures and steps: what is tried is the size of the networks."""
TARGETS = (
    "results/korea/lora_kohya.safetensors",
    "results/korea/scores.parquet",
    "results/korea/features/reconstructed.safetensors",
    "results/report.html",
)
STAGES = {"train (scoft_mpc)": "train", "sample (a variant)": "sample"}
"""The plan's names for steps."""
GB = 1e9


def main() -> None:
    """Run the chain, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", choices=TRAININGS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", action="store_true", help="of what was run so far")
    asked = parser.parse_args()
    if not asked.table:
        run(asked.model, asked.folder.resolve())
    print(table(asked.folder.resolve()))


def run(model: str, folder: Path) -> None:
    """Fetch the models; then run all stages with one training's settings after another."""
    project = folder / "project"
    if not (project / "Snakefile").exists():
        call(ROOT, "pipeline_steps.new_project", "--folder", str(project))
        pictures(project / "data/korea")
    if not (folder / "fetched").exists():
        fetch(model, folder)
    for training in TRAININGS[model]:
        configure(project, model, training, (folder / "fetched").read_text())
        snakemake(folder, "plan")
        (project / "results/plan.md").replace(folder / f"plan_{training}.md")
        snakemake(folder, *TARGETS, SCOFT_MEASURED=str(folder / f"measured_{training}.jsonl"))


def fetch(model: str, folder: Path) -> None:
    """Fetch every model by `snakemake models` from a hub on the loopback, and note its address."""
    made = folder / "source"
    build.build(model, made)
    with Hub.serving() as hub:
        hub.repos["files"] = {path.name: path for path in (made / "files").glob("[!.]*")}
        for place in (made / "hub").glob("*/*"):
            files = {str(path.relative_to(place)): path for path in place.rglob("*") if path.is_file()}
            hub.repos[str(place.relative_to(made / "hub"))] = files
        for ref in build.named_by(model).values():
            name, _, commit = ref.path.partition("@")
            hub.commits |= {name: commit} if commit else {}
        configure(folder / "project", model, "paper", hub.url)  # whose settings name all of them
        snakemake(folder, "models", HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1")
        (folder / "fetched").write_text(hub.url)


def pictures(folder: Path) -> None:
    """Write photographs of different shapes, with their captions, or drawn ones where there are none."""
    folder.mkdir(parents=True)
    metadata = PHOTOGRAPHS / "metadata.jsonl"
    rows = [json.loads(line) for line in metadata.read_text().splitlines()] if metadata.exists() else []
    if rows:
        found = sorted(
            (_shape(PHOTOGRAPHS / row["file_name"]), row["file_name"], row["text"]) for row in rows
        )
        chosen = [found[len(found) * n // len(SHAPES)] for n in range(len(SHAPES))]
        opened = [(Image.open(PHOTOGRAPHS / name).convert("RGB"), text) for _, name, text in chosen]
    else:
        random = np.random.default_rng(0)
        small = [Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in SHAPES]
        opened = [
            (s.resize(size), f"picture {n}") for n, (s, size) in enumerate(zip(small, SHAPES, strict=True))
        ]
    lines = []
    for number, (picture, text) in enumerate(opened):
        picture.save(folder / f"{number}.jpg")
        split = "test" if number % 3 == 0 else "train"
        lines.append(json.dumps({"file_name": f"{number}.jpg", "text": text, "split": split}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    folder.with_name("prompts.txt").write_text("a house\n")


def _shape(path: Path) -> float:
    """Width to height, to three digits."""
    with Image.open(path) as picture:
        return round(picture.width / picture.height, 3)


def configure(project: Path, model: str, training: str, hub: str) -> None:
    """Write the project's settings, as somebody would who has this hub and little time."""
    presets = project / "config/presets"
    presets.mkdir(exist_ok=True)
    # As docs/models.md has it for those who do without the 15 GB of BLIP-2.
    paper = (ROOT / "config/presets/paper.yaml").read_text().splitlines(keepends=True)
    (presets / "paper.yaml").write_text("".join(line for line in paper if "blip2" not in line))
    links = {
        role: {"path": f"{hub}/{ref.path.rpartition('/')[2].partition('#')[0]}"}
        for role, ref in build.named_by(model).items()
        if "://" in ref.path
    }
    korea = {"suffix": ", in Korea", "images": "data/korea", "prompts": "data/prompts.txt"}
    settings = {
        "presets": [model, training],
        "cultures": {"korea": korea},
        "models": links | {"base": NUMBERS[model], "captioner": {"dtype": "float32"}, "judge": None},
        **SETTINGS,
    }
    (project / "config/config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def snakemake(folder: Path, *targets: str, **environment: str) -> None:
    """Run Snakemake in the project."""
    call(folder / "project", "snakemake", "--cores", str(SETTINGS["threads"]), "--", *targets, **environment)


def call(folder: Path, module: str, *arguments: str, **environment: str) -> None:
    """Run a module in a folder; its words and its failure are shown."""
    path = os.pathsep.join([str(Path(__file__).parent / "measure"), str(ROOT)])
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path} | environment, check=True)


def table(folder: Path) -> str:
    """Return what each stage took, the largest of its jobs, beside what was planned."""
    lines = [
        "| settings | stage | jobs | s | CPU s | GB | planned, GB | off by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows(folder):
        planned = row["planned"]
        off = f"{row['peak'] / planned - 1:+.0%}" if planned else "–"
        shown = [row["training"], row["step"], str(row["jobs"]), f"{row['seconds']:.0f}", f"{row['cpu']:.0f}"]
        shown += [f"{row['peak']:.1f}", f"{planned:.1f}" if planned else "–", off]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a stage of a training's settings with the most that one of its jobs took."""
    for file in sorted(folder.glob("measured_*.jsonl")):
        training = file.stem.removeprefix("measured_")
        jobs = [json.loads(line) for line in file.read_text().splitlines()]
        planned = plan(folder / f"plan_{training}.md")
        for step in dict.fromkeys(job["step"] for job in jobs):
            own = [job for job in jobs if job["step"] == step]
            found = {name: max(job[name] for job in own) for name in ("seconds", "cpu", "peak")}
            found |= {"training": training, "step": step, "jobs": len(own), "planned": planned.get(step)}
            yield found | {"peak": found["peak"] / GB}


def plan(file: Path) -> dict[str, float]:
    """Read the memory, in GB, that the plan's table has for each step."""
    cells = [line.strip("| ").split(" | ") for line in file.read_text().splitlines() if line.startswith("| ")]
    return {STAGES.get(row[0], row[0]): float(row[2]) for row in cells[1:]}


if __name__ == "__main__":
    main()
