"""Pictures and captions of everyday scenes, the second reference for KID (paper §5: MS-COCO)."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import IMAGES, Origin, Row
from pipeline_steps.cli import run_step
from pipeline_steps.config import DataConfig
from pipeline_steps.data import picture_files as pictures
from pipeline_steps.data.entries import entries
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.text import read_text
from pipeline_steps.inputs.values import RejectedError, read_json
from pipeline_steps.seeds import generator

ANNOTATIONS = Path("annotations/captions_val2017.json")
"""MS-COCO's captions, beside its folder val2017."""


def coco(folder: Path, images: Path, prompts: Path, count: int, seed: int, config: DataConfig) -> None:
    """Draw pictures with one caption each; the captions are the prompts, the pictures the reference.

    Args:
        folder: MS-COCO's ``val2017`` and ``annotations``, or pictures with captions as ``ingest`` reads them.
        images: table to write; all rows are of split "test".
        prompts: text file to write, one caption a line, no caption twice.
        count: pictures to draw; all where there are fewer.
        seed: the run's seed.
        config: resolution, caption column, limits.

    Raises:
        UserError: no captions, or a picture that cannot be read.
    """
    import torch

    # One picture per caption, one caption per picture: a prompt is drawn once.
    found: dict[str, tuple[str, Path | bytes]] = {}
    for name, caption, data in sorted(_captioned(folder, config.caption_column), key=lambda one: one[:2]):
        found.setdefault(caption, (name, data))
    captioned: dict[str, tuple[str, Path | bytes]] = {}
    for caption, (name, data) in found.items():
        if not caption.startswith("#"):
            captioned.setdefault(name, (caption, data))
    if len(captioned) < 2:
        raise UserError(
            f"{folder}: {len(captioned)} captioned pictures; need {ANNOTATIONS}, or metadata.jsonl"
        )
    names = sorted(captioned)
    drawn = torch.randperm(len(names), generator=generator(seed, "coco"))[:count].sort().values.tolist()
    chosen = [(names[number], *captioned[names[number]]) for number in drawn]
    digest = hashlib.sha256()
    for name, caption, data in chosen:
        digest.update(f"{hashlib.sha256(_bytes(folder, name, data)).hexdigest()} {caption}\n".encode())
    rows = (_row(folder, name, caption, data, config) for name, caption, data in chosen)
    IMAGES.write(images, rows, Origin("coco", digest.hexdigest()))
    artifacts.write_text(prompts, "".join(f"{caption}\n" for _, caption, _ in chosen))


def _bytes(folder: Path, name: str, data: Path | bytes) -> bytes:
    try:
        return data if isinstance(data, bytes) else data.read_bytes()
    except OSError as error:
        raise UserError(f"{folder / name}: {error}") from error


def _row(folder: Path, name: str, caption: str, data: Path | bytes, config: DataConfig) -> Row:
    """Return a picture's row; one picture at a time is in memory."""
    whole = _bytes(folder, name, data)
    try:
        cut = pictures.cut(whole, [(config.resolution, config.resolution)], config.max_megapixels)
    except pictures.UnusableError as error:
        raise UserError(f"{folder / name}: {error}") from error
    return dict.fromkeys(IMAGES.schema.names) | {
        "image_id": name,
        "image": artifacts.encode_picture(cut.picture, name),
        "caption": caption,
        "split": "test",
        "source_width": cut.width,
        "source_height": cut.height,
        "crop": list(cut.crop),
        "source_sha256": hashlib.sha256(whole).hexdigest(),
    }


def _captioned(folder: Path, caption_column: str) -> Iterator[tuple[str, str, Path | bytes]]:
    """Yield name, caption on one line (of several, the first), and the file or its contents."""
    annotations = folder / ANNOTATIONS
    if not annotations.exists():
        for entry in entries(folder, caption_column, []):
            if entry.fault is None:
                yield entry.name, " ".join(entry.caption.split()), entry.data
        return
    try:
        listing = read_json(read_text(annotations))
        names = {picture["id"]: picture["file_name"] for picture in listing["images"]}
        captions: dict[int, str] = {}
        for note in sorted(listing["annotations"], key=lambda note: note["id"]):
            captions.setdefault(note["image_id"], " ".join(note["caption"].split()))
    except (KeyError, TypeError, ValueError, AttributeError, RejectedError) as error:
        raise UserError(f"{annotations}: not MS-COCO's caption file; fetch it again") from error
    for number, caption in captions.items():
        name = f"val2017/{names[number]}"
        yield name, caption, folder / name


if __name__ == "__main__":
    run_step(coco)
