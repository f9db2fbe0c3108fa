"""Time and memory on a GPU, of random networks in published shapes: no weights, no files, no network.

    python -m benchmarks.gpu sd15 --out found.json     updates of SD 1.5 at 512 pixels
    python -m benchmarks.gpu sdxl_ldm --out found.json updates of SDXL at 1024, L_LDM alone
    python -m benchmarks.gpu sdxl --out found.json     the same with all losses
    python -m benchmarks.gpu compile --out found.json  updates of SD 1.5 with train.compile
    python -m benchmarks.gpu zimage --out found.json   updates of Z-Image at 1024 pixels
    python -m benchmarks.gpu draw --out found.json     samples and negatives of SD 1.5 and SDXL
    python -m benchmarks.gpu cap --out found.json      what of them fits into 8, 12, 16 and 24 GB
    python -m benchmarks.gpu zimage_draw --out found.json
    python -m benchmarks.gpu zimage_cap --out found.json
                                                       the same of Z-Image, its text encoder apart
    python -m benchmarks.gpu table found.json          the same as Markdown

A part takes less than eight minutes and adds to the file. Every measurement has a process of its own. It
wants torch, diffusers, transformers and peft; without a GPU the same code runs at a tiny size, whose
figures mean nothing. ``resources/measured/gpu.json`` is such a file.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

NEEDED = ("torch", "diffusers", "transformers", "peft")
LIMIT = 240.0
"""Seconds that one measurement may take."""
Row = dict[str, Any]


# --- what is measured --------------------------------------------------------------------------


def updates(model: str, *variants: str) -> Iterator[Row]:
    """List the updates of a part: the authors' arrangement, then the trainer with one thing changed."""
    slicing = {"slicing": True} if model == "sdxl" else {}  # as their presets have it
    for variant in variants:
        same = {"model": model, "variant": variant, **slicing}
        yield {**same, "arrangement": "authors", "dtype": "float16", "batch": 1}
        kinds: list[tuple[int, str, bool]] = [
            (4, "float16", False),
            (1, "float16", False),
            (1, "float16", True),
        ]
        if variant == "scoft_mpc":
            kinds += [(4, "float16", True), (4, "bfloat16", model == "sdxl")]
        for batch, dtype, checkpointing in kinds:
            levers = {"gradient_checkpointing": True} if checkpointing else {}
            yield {**same, "arrangement": "trainer", "dtype": dtype, "batch": batch, **levers}


def compiled() -> Iterator[Row]:
    """List the updates with a compiled denoiser."""
    for variant in ("ldm", "scoft_mpc"):
        yield {
            "model": "sd15",
            "variant": variant,
            "arrangement": "trainer",
            "dtype": "float16",
            "batch": 4,
            "compile": True,
        }


def flows() -> Iterator[Row]:
    """List the updates of Z-Image, as its preset has them: the authors' script knows no flows."""
    for variant in ("ldm", "scoft_mpc"):
        for checkpointing in (False, True):
            levers = {"gradient_checkpointing": True} if checkpointing else {}
            yield {
                "model": "zimage",
                "variant": variant,
                "arrangement": "trainer",
                "dtype": "bfloat16",
                "batch": 1,
                "slicing": True,
                "lora_rank": 16,
                **levers,
            }


PRESETS = {
    "sd15": {"sample": 10, "negatives": 8, "cache": 4, "slicing": False, "checkpointing": False},
    "sdxl": {"sample": 2, "negatives": 2, "cache": 1, "slicing": True, "checkpointing": True},
    "zimage": {"sample": 1, "slicing": True, "checkpointing": True},
}
"""Pictures at once and levers of config/presets; Z-Image's text encoder, most of its cache's memory, and its
depth control are not among the shapes here."""


def pictures(*models: str) -> Iterator[Row]:
    """List what is drawn: 50 steps with guidance 4.5 as samples, 20 with 7.5 as negatives."""
    for model in models:
        preset = PRESETS[model]
        same = {"model": model, "slicing": preset["slicing"]}
        sample = {"what": "sample", "steps": 50, "guidance": 4.5}
        for lora in (False, True):
            yield {**same, **sample, "batch": preset["sample"], "lora": lora}
        if preset["sample"] > 1:
            yield {**same, **sample, "batch": 1, "lora": True}
        if "negatives" in preset:
            negatives = {"what": "negatives", "steps": 20, "guidance": 7.5, "lora": False}
            yield {**same, **negatives, "batch": preset["negatives"]}


CAPS = (8, 12, 16, 24)


def levers(*models: str) -> Iterator[Row]:
    """List stages under ever stronger levers, the preset's own first."""
    for model in models:
        preset = PRESETS[model]
        own, train = {"model": model, "slicing": preset["slicing"]}, {"stage": "train", "batch": 1}
        saving = {"gradient_checkpointing": True}
        if model != "zimage":  # which its preset trains one by one
            yield {**own, **train, "batch": 4, **(saving if preset["checkpointing"] else {})}
        if not preset["checkpointing"]:
            yield {**own, **train}
        yield {**own, **train, **saving}
        for stage in (each for each in ("sample", "negatives", "cache") if each in preset):
            yield {**own, "stage": stage, "batch": preset[stage]}
            if not preset["slicing"]:
                yield {**own, "stage": stage, "batch": preset[stage], "slicing": True}
            if preset[stage] > 1:
                yield {**own, "stage": stage, "batch": 1, "slicing": True}


UPDATES: dict[str, Callable[[], Iterator[Row]]] = {
    "sd15": lambda: updates("sd15", "ldm", "scoft_mpc"),
    "sdxl_ldm": lambda: updates("sdxl", "ldm"),
    "sdxl": lambda: updates("sdxl", "scoft_mpc"),
    "compile": compiled,
    "zimage": flows,
}
DRAW = {"draw": ("sd15", "sdxl"), "zimage_draw": ("zimage",)}
CAP = {"cap": ("sd15", "sdxl"), "zimage_cap": ("zimage",)}
"""The models of a part."""


def measure(part: str, out: Path | None) -> Row:
    """Run one part; the file is written after each measurement, so that one cut short keeps the others."""
    from benchmarks import measures

    machine = apart(measures.machine)
    tiny = machine["driver"] is None
    found: Row = {"machine": machine, "updates": [], "draw": [], "cap": []}
    if out and out.exists():
        found = json.loads(out.read_text(encoding="utf-8"))
        if found["machine"]["gpu"] != machine["gpu"]:
            raise SystemExit(f"{out}: measured on {found['machine']['gpu']}, not {machine['gpu']}")

    def note(key: str, row: Row) -> None:
        found[key].append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
        if out:
            write(out, found)

    if part in UPDATES:
        for row in UPDATES[part]():
            asked = row | ({"dtype": "float32", "compile": False} if tiny else {})
            result = apart(measures.update, **asked, tiny=tiny)
            if "seconds" in result:
                work = _operations(row["model"], row["variant"], tiny)[row["arrangement"]]
                result |= {"tflop": work, "tflops": work / result["seconds"]}
                result["utilisation"] = result["tflops"] / machine["matmul_tflops"]
            note("updates", row | result)
    elif part in DRAW:
        for row in pictures(*DRAW[part]):
            asked = row | ({"steps": 2, "batch": 1} if tiny else {})
            note("draw", row | apart(measures.draw, **asked, tiny=tiny))
    else:
        for row in levers(*CAP[part]):
            note("cap", row | apart(measures.fits, **row, caps=CAPS, tiny=tiny))
    return found


_COUNTED: dict[tuple[str, str], Row] = {}


def _operations(model: str, variant: str, tiny: bool) -> Row:
    from benchmarks import measures

    if (model, variant) not in _COUNTED:
        _COUNTED[model, variant] = apart(measures.operations, model=model, variant=variant, tiny=tiny)
    return _COUNTED[model, variant]


# --- processes ---------------------------------------------------------------------------------


def apart(function: Callable[..., Row], **arguments: Any) -> Row:
    """Call a function in a process of its own, which begins with everything imported.

    Returns:
        What it returned, or under ``error`` why nothing came.
    """
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(LIMIT) else {"error": f"more than {LIMIT:.0f} s"}
    except EOFError:
        process.join()
        return {"error": f"the process ended with {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def _answer(sender: Any, function: Callable[..., Row], arguments: Row) -> None:
    import torch

    try:
        sender.send(function(**arguments))
    except torch.OutOfMemoryError:
        sender.send({"error": "out of memory"})
    except Exception as error:
        traceback.print_exc()
        sender.send({"error": f"{type(error).__name__}: {error}".splitlines()[0]})


# --- files and tables --------------------------------------------------------------------------


def write(file: Path, found: Row) -> None:
    """Write what was found as JSON."""
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def merged(files: list[Path]) -> Row:
    """Put the parts in several files together; they must be of one kind of machine."""
    found: Row = {}
    for file in files:
        more = json.loads(file.read_text(encoding="utf-8"))
        if found and found["machine"]["gpu"] != more["machine"]["gpu"]:
            raise SystemExit(f"{file}: measured on {more['machine']['gpu']}, not {found['machine']['gpu']}")
        for key in ("updates", "draw", "cap"):
            found.setdefault(key, []).extend(more[key])
        found.setdefault("machine", more["machine"])
    return found


def table(found: Row) -> str:
    """Return everything measured as Markdown."""
    machine = found["machine"]
    about = ", ".join(f"{name} {machine[name]}" for name in ("driver", "torch", "diffusers"))
    product = f"a bfloat16 matrix product reached {machine['matmul_tflops']:.0f} TFLOPS"
    blocks = [f"{machine['gpu']}, {about}; {product}."]
    heads = (
        (_update, "updates", "model|losses|arrangement|precision|levers|s|s without x̂|s with x̂|GB|share"),
        (_draw, "draw", "model|pictures|at once|steps|a minute|GB"),
        (_cap, "cap", "model|stage|at once|levers|smallest card|GB"),
    )
    for row, key, head in heads:
        if found[key]:
            lines = ["| " + " | ".join(head.split("|")) + " |", "|---" * (head.count("|") + 1) + "|"]
            lines += [f"| {' | '.join(row(each))} |" for each in found[key]]
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _levers(row: Row) -> str:
    names = ("gradient_checkpointing", "slicing", "compile")
    return ", ".join(name.replace("gradient_", "") for name in names if row.get(name)) or "–"


def _number(row: Row, name: str, form: str) -> str:
    return format(row[name], form) if row.get(name) is not None else "–"


def _update(row: Row) -> list[str]:
    split = f"{row['arrangement']}, {4 // row['batch']} × {row['batch']}"
    numbers = [_number(row, name, ".3f") for name in ("seconds", "plain", "perceptual")]
    numbers[0] = row.get("error", numbers[0])
    shown = [row["model"], row["variant"], split, row["dtype"], _levers(row), *numbers]
    return [*shown, _number(row, "held_gb", ".1f"), _number(row, "utilisation", ".0%")]


def _draw(row: Row) -> list[str]:
    what = f"{row['what']}, LoRA" if row["lora"] else row["what"]
    shown = [row["model"], what, str(row["batch"]), str(row["steps"])]
    rate = row.get("error", _number(row, "pictures_per_minute", ".1f"))
    return [*shown, rate, _number(row, "held_gb", ".1f")]


def _cap(row: Row) -> list[str]:
    cap = row.get("error") or (f"{row['cap']} GB" if row["cap"] else "none of these")
    return [row["model"], row["stage"], str(row["batch"]), _levers(row), cap, _number(row, "held_gb", ".1f")]


def main() -> None:
    """Run one part, or show what the parts found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=(*UPDATES, *DRAW, *CAP, "table"))
    parser.add_argument("files", nargs="*", type=Path, help="of a table")
    parser.add_argument("--out", type=Path, help="JSON file to add to")
    asked = parser.parse_args()
    if asked.part == "table":
        found = merged(asked.files)
        if asked.out:
            write(asked.out, found)
    else:
        if missing := [name for name in NEEDED if find_spec(name) is None]:
            raise SystemExit(f"not installed: {', '.join(missing)}; pip install {' '.join(missing)}")
        # What asks at import whether there is a GPU must not start CUDA here: children could not then.
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        found = measure(asked.part, asked.out)
    print(table(found))


if __name__ == "__main__":
    main()
