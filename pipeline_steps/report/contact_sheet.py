"""Pictures of the same prompts and seeds side by side (Fig. 6: learnt by heart; Fig. 8: generic prompts)."""

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from pipeline_steps.artifacts import (
    IMAGES,
    SAMPLES,
    SCORES,
    appears_whole,
    decode_picture,
    picture_note,
    same_origin,
)
from pipeline_steps.cli import run_step
from pipeline_steps.config import LABELS, VARIANTS

GAP, LINE = 8, 18
"""Pixels between groups, and of a line of text."""


def contact_sheet(
    samples: list[Path],
    scores: list[Path],
    metric: str,
    sheet: Path,
    prompts: int,
    per_prompt: int,
    side: int,
    images: Path | None = None,
) -> None:
    """Draw one row per prompt and one group of pictures per variant, its score above it.

    Args:
        samples: ``…/samples/{variant}.parquet``, all of the same prompts.
        scores: ``…/scores/{variant}.parquet``, of all the pictures and not only those drawn.
        metric: the score to print.
        sheet: PNG file to write.
        prompts: rows at most.
        per_prompt: pictures per prompt and variant.
        side: of a picture on the sheet in pixels.
        images: the culture's pictures: a group with the training picture whose caption is the prompt.

    Raises:
        UserError: samples of different cultures or pictures.
    """
    tables = [*((SAMPLES, path) for path in samples), *((SCORES, path) for path in scores)]
    origin = same_origin(*tables, *([(IMAGES, images)] if images else []))
    rows: dict[str, dict[str, list[Image.Image]]] = {}
    for path in sorted(samples, key=lambda path: VARIANTS.index(path.stem)):
        for row in SAMPLES.rows(path):
            if row["index"] < per_prompt and (row["prompt"] in rows or len(rows) < prompts):
                group = rows.setdefault(row["prompt"], {}).setdefault(path.stem, [])
                group.append(_fit(row["image"], side))
    if images is not None:
        for row in IMAGES.rows(images):
            prompt = " ".join(row["caption"].split())
            if row["split"] == "train" and prompt in rows and "training" not in rows[prompt]:
                rows[prompt] = {"training": [_fit(row["image"], side)], **rows[prompt]}
    groups = list(next(iter(rows.values())))
    titles = {path.stem: [LABELS[path.stem], _score(path, metric)] for path in scores}
    widths = {name: max(len(row.get(name, [])) for row in rows.values()) * side for name in groups}
    size = (sum(widths.values()) + GAP * (len(groups) + 1), 2 * LINE + (side + LINE + GAP) * len(rows))
    canvas = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    top = 2 * LINE
    for number, (prompt, row) in enumerate(rows.items()):
        left = GAP
        pen.text((GAP, top), prompt, "black", font)
        for name in groups:
            if number == 0:
                pen.text((left, 0), "\n".join(titles.get(name, [name])), "black", font)
            for place, picture in enumerate(row.get(name, [])):
                canvas.paste(picture, (left + place * side, top + LINE))
            left += widths[name] + GAP
        top += side + LINE + GAP
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", optimize=True, pnginfo=picture_note(origin))
    with appears_whole(sheet) as part:
        part.write_bytes(buffer.getvalue())


def _score(path: Path, metric: str) -> str:
    """The score with its interval in a line that fits above the pictures."""
    for row in SCORES.rows(path):
        if row["metric"] == metric:
            ends = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
            return f"{metric} {row['value']:.3f}{ends}"
    return f"{metric} not measured"


def _fit(cell: dict[str, bytes], side: int) -> Image.Image:
    return ImageOps.fit(decode_picture(cell).convert("RGB"), (side, side), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    run_step(contact_sheet)
