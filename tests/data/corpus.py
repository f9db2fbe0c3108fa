"""A culture's folder for tests: two good pictures, to which a case adds its oddity."""

import csv
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline_steps.artifacts import FINDINGS, IMAGES
from pipeline_steps.config import DataConfig
from pipeline_steps.data.ingest import ingest

SIDE = 32


def drawn(seed: int = 0, size: tuple[int, int] = (48, 40), mode: str = "RGB") -> Image.Image:
    """A smooth random picture, so that no two seeds look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


PNG, JPEG = encoded(drawn(1)), encoded(drawn(1), "JPEG", quality=92)


class Corpus:
    """A folder with two good pictures, to which a case adds its oddity."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict | str] = []
        for index, split in ((101, "train"), (102, "test")):
            self.add(f"good_{split}.png", encoded(drawn(index)), split=split)

    def add(self, name: str, data: bytes | None, row: bool = True, **columns) -> None:
        if data is not None:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if row:
            self.rows.append({"file_name": name, "text": "a gate, in wales"} | columns)

    def write(self) -> None:
        lines = [r if isinstance(r, str) else json.dumps(r) for r in self.rows]
        (self.folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")

    def csv(self, mark: str = ",", encoding: str = "utf-8") -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with (self.folder / "metadata.csv").open("w", encoding=encoding, newline="") as file:
            table = csv.DictWriter(file, names, delimiter=mark)
            table.writeheader()
            table.writerows(self.rows)


def run(folder: Path, out: Path, withdrawn: Path | None = None, neighbours: int | None = None, **config):
    """Ingest and return the rows by id and the findings as "file: line"."""
    settings = DataConfig(**{"resolution": SIDE} | config)
    ingest(
        folder, out / "images.parquet", "wales", ", in wales", 7, settings,
        findings=out / "findings.parquet", withdrawn=withdrawn, data_sets=out / "data_sets",
        neighbours=neighbours,
    )  # fmt: skip
    rows = {row["image_id"]: row for row in IMAGES.rows(out / "images.parquet")}
    lines = [f"{row['file']}: {row['line']}" for row in FINDINGS.rows(out / "findings.parquet")]
    return rows, lines


def copies() -> dict[str, bytes]:
    """One picture five times: byte by byte, recoded, scaled, brightened, and as another format."""
    picture = drawn(101, (192, 160))
    return {
        "recoded.jpg": encoded(picture, "JPEG", quality=60),
        "scaled.png": encoded(picture.resize((120, 100))),
        "brighter.png": encoded(picture.point(lambda v: min(255, v + 2))),
        "other.webp": encoded(picture, "WEBP", quality=60),
    }
