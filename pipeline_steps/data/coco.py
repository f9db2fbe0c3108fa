"""Pictures and captions of everyday scenes, the second reference for KID (paper §5: MS-COCO)."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import IMAGES, Origin
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

    # One picture per caption: a prompt is drawn once.
    firsts: dict[str, tuple[str, Path | bytes]] = {}
    for name, caption, data in sorted(_captioned(folder, config.caption_column), key=lambda one: one[:2]):
        firsts.setdefault(caption, (name, data))
    entries = sorted((name, caption) for caption, (name, _) in firsts.items() if not caption.startswith("#"))
    if len(entries) < 2:
        raise UserError(f"{folder}: {len(entries)} captioned pictures; need {ANNOTATIONS}, or metadata.jsonl")
    chosen = torch.randperm(len(entries), generator=generator(seed, "coco"))[:count].sort().values.tolist()
    rows, digest = [], hashlib.sha256()
    for name, caption in (entries[number] for number in chosen):
        _, data = firsts[caption]
        try:
            data = data if isinstance(data, bytes) else data.read_bytes()
            cut = pictures.cut(data, [(config.resolution, config.resolution)], config.max_megapixels)
        except (OSError, pictures.UnusableError) as error:
            raise UserError(f"{folder / name}: {error}") from error
        source = hashlib.sha256(data).hexdigest()
        digest.update(f"{source} {caption}\n".encode())
        rows.append(
            dict.fromkeys(IMAGES.schema.names)
            | {
                "image_id": name,
                "image": artifacts.encode_picture(cut.picture, name),
                "caption": caption,
                "split": "test",
                "source_width": cut.width,
                "source_height": cut.height,
                "crop": list(cut.crop),
                "source_sha256": source,
            }
        )
    IMAGES.write(images, rows, Origin("coco", digest.hexdigest()))
    artifacts.write_text(prompts, "".join(row["caption"] + "\n" for row in rows))


def _captioned(folder: Path, caption_column: str) -> Iterator[tuple[str, str, Path | bytes]]:
    """Yield name, caption on one line (of several, the first), and the file or its contents."""
    annotations = folder / ANNOTATIONS
    if not annotations.exists():
        for entry in entries(folder, caption_column, []):
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
