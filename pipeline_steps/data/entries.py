"""What a user hands in: a folder of pictures and captions, or Parquet files of a data set.

A folder that cannot be understood is refused in one line. A picture that cannot be used is left out
and becomes a :class:`Finding`, so that one bad row never costs the others.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline_steps.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


from pipeline_steps.data.folder import Files
from pipeline_steps.inputs.tables import table_rows
from pipeline_steps.inputs.text import clean_text, normal_name, read_text, shown

LEFT_OUT, MEND, NOTE = 0, 1, 2
"""Severities of a finding: not in the data set; in it but to be mended; worth knowing."""

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.tsv")
PICTURE_ENDINGS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jfif",
        ".png",
        ".webp",
        ".avif",
        ".heic",
        ".heif",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".jp2",
        ".ppm",
        ".pgm",
    ]
)
ABOUT = ("category", "era", "contributor", "source", "author", "licence", "consent")
"""Optional columns that have their own place in the table; all others are kept in ``extra``."""
ALIASES = {"license": "licence", "category_code": "category", "url": "source"}
SPLITS = {"train": "train", "training": "train"} | dict.fromkeys(
    ("test", "testing", "validation", "valid", "val", "dev", "eval"), "test"
)
REFUSALS = frozenset(["no", "none", "false", "0", "refused", "withdrawn", "revoked", "denied"])
YES = frozenset(["yes", "true", "1", "y", "x", "withdrawn"])


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is odd: how bad, of what kind, in which file, and a line on mending it."""

    severity: int
    kind: str
    file: str
    line: str

    def __post_init__(self) -> None:
        # It may quote what cannot be stored: JSON can spell half a character.
        object.__setattr__(self, "line", clean_text(self.line))


@dataclass(frozen=True)
class Entry:
    """One picture as handed in.

    Attributes:
        name: as the user writes it, for messages and the withdrawn list.
        data: the file, or the encoded picture.
        caption: cleaned, not empty.
        split: train, test or None.
        about: the columns of ``ABOUT``, None where absent.
        extra: further columns.
        withdrawn: a column of the row asks to leave the picture out.
    """

    name: str
    data: Path | bytes
    caption: str
    split: str | None
    about: dict[str, str | None] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    withdrawn: bool = False


def entries(folder: Path, caption_column: str, findings: list[Finding]) -> Iterator[Entry]:
    """Stream the pictures of a folder or Parquet file.

    Args:
        folder: with metadata.jsonl, .csv or .tsv (also one in each of ``train`` and ``test``),
            Parquet or Arrow files of a Hugging Face data set, or one .txt per picture;
            or the metadata or Parquet file itself.
        caption_column: name of the caption's column.
        findings: what is odd is appended here.

    Raises:
        UserError: the folder cannot be understood.
    """
    if folder.name in METADATA and folder.is_file():
        folder = folder.parent
    if folder.is_file():
        if folder.suffix.lower() != ".parquet":
            raise UserError(f"{folder}: is neither a folder nor a .parquet file; give the pictures' folder")
        yield from _from_tables([folder], folder.parent, caption_column, findings)
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; mend 'images' of the culture in the configuration")
    tables = _metadata_files(folder)
    if tables:
        yield from _from_metadata(tables, Files(folder), caption_column, findings)
    elif parquet := sorted(p for end in ("parquet", "arrow") for p in folder.rglob(f"*.{end}")):
        yield from _from_tables(parquet, folder, caption_column, findings)
    elif odd := next(iter(sorted(folder.glob("metadata*"))), None):
        raise UserError(f"{odd}: is not read; write metadata.jsonl (one JSON object a line) or metadata.csv")
    else:
        yield from _from_sidecars(Files(folder), findings)


def _metadata_files(folder: Path) -> list[tuple[Path, str | None]]:
    """Return metadata files, each with the split its folder's name says."""
    found: list[tuple[Path, str | None]] = []
    for place in (folder, *sorted(p for p in folder.iterdir() if p.name.lower() in SPLITS and p.is_dir())):
        here = [place / name for name in METADATA if (place / name).is_file()]
        if len(here) > 1:
            raise UserError(f"{place}: holds {' and '.join(p.name for p in here)}; keep one of them")
        found += [(path, None if place == folder else SPLITS[place.name.lower()]) for path in here]
    return found


def _from_metadata(
    tables: list[tuple[Path, str | None]], files: Files, caption_column: str, findings: list[Finding]
) -> Iterator[Entry]:
    listed: set[str] = set()
    count = 0
    for table, split in tables:
        prefix = table.parent.relative_to(files.root)
        for line, row in table_rows(table):
            where = f"{table.name} line {line}"
            if count == 0:
                _check_columns(table, row, caption_column)
            count += 1
            if None in row:
                findings.append(
                    _left_out("row", where, "has more fields than the header; quote texts with commas")
                )
                continue
            name = row.pop("file_name", None)
            if not isinstance(name, str) or not name.strip():
                findings.append(_left_out("row", where, "has no file_name; write it or delete the row"))
                continue
            name = name.strip()
            name = name if "://" in name else normal_name(str(prefix / name))
            listed.add(name)
            try:
                path = files.find(name)
            except ValueError as error:
                findings.append(_left_out("file", shown(name), f"{error} ({where})"))
                continue
            listed.add(path.relative_to(files.root).as_posix())
            yield from _entry(name, path, row, caption_column, split, findings)
    if count == 0:
        raise UserError(f"{tables[0][0]}: holds no row; write one line per picture")
    for name in files.names:
        if name not in listed and PurePosixPath(name).suffix.lower() in PICTURE_ENDINGS:
            findings.append(
                _left_out("file", shown(name), "no row in the metadata names it; add one with its caption")
            )


def _check_columns(table: Path, row: Mapping[Any, Any], caption_column: str) -> None:
    there = ", ".join(str(name) for name in row if name is not None)
    if "file_name" not in row:
        raise UserError(f"{table}: no column 'file_name' (there are: {there}); rename the one with the names")
    if caption_column not in row:
        raise UserError(
            f"{table}: no column '{caption_column}' (there are: {there}); rename the one with the "
            "captions, or set data.caption_column (for all cultures)"
        )


def _entry(
    name: str,
    data: Path | bytes,
    row: dict[Any, Any],
    caption_column: str,
    split: str | None,
    findings: list[Finding],
) -> Iterator[Entry]:
    """Yield the row's entry, or nothing and a finding."""
    caption = _caption(name, row.pop(caption_column, None), findings)
    if caption is None:
        return
    said = str(row.pop("split", None) or "").strip().lower()
    if said and said not in SPLITS:
        findings.append(_left_out("split", shown(name), f"its split is '{said[:40]}'; write train or test"))
        return
    about: dict[str, str | None] = dict.fromkeys(ABOUT)
    extra: dict[str, Any] = {}
    withdrawn = str(row.pop("withdrawn", None) or "").strip().lower() in YES
    for column, value in row.items():
        target = ALIASES.get(column, column)
        if target in about and about[target] is None:
            about[target] = _text(value)
        elif _text(value) is not None:
            extra[clean_text(str(column))] = value
    withdrawn = withdrawn or (about["consent"] or "").lower() in REFUSALS
    yield Entry(name, data, caption, SPLITS.get(said, split), about, extra, withdrawn)


def _caption(name: str, value: Any, findings: list[Finding]) -> str | None:
    if isinstance(value, list) and all(isinstance(v, str) for v in value) and value:
        if len(value) > 1:
            findings.append(
                Finding(NOTE, "caption", shown(name), f"has {len(value)} captions; the first is used")
            )
        value = value[0]
    if value is not None and not isinstance(value, str):
        findings.append(_left_out("caption", shown(name), "its caption is not text; write a sentence"))
        return None
    text = clean_text(value or "")
    if not text:
        findings.append(_left_out("caption", shown(name), "has no caption; write one"))
        return None
    return text


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return clean_text(text) or None


def _left_out(kind: str, file: str, line: str) -> Finding:
    return Finding(LEFT_OUT, kind, file, line)


def _from_sidecars(files: Files, findings: list[Finding]) -> Iterator[Entry]:
    texts = {name for name in files.names if name.lower().endswith(".txt")}
    pictures = [n for n in files.names if n not in texts and (_sidecar(n, texts) or _looks_like_picture(n))]
    if not pictures:
        raise UserError(f"{files.root}: holds no picture; put pictures and a metadata.jsonl there")
    if not any(_sidecar(name, texts) for name in pictures):
        raise UserError(
            f"{files.root}: holds {len(pictures)} pictures and no captions; write metadata.jsonl, or "
            "one .txt per picture"
        )
    used: set[str] = set()
    for name in pictures:
        text = _sidecar(name, texts)
        used |= {text} if text else set()
        try:
            path = files.find(name)
            caption = read_text(files.find(text)) if text else None
        except (ValueError, UserError) as error:
            findings.append(_left_out("file", shown(name), str(error)))
            continue
        yield from _entry(
            normal_name(name), path, {"text": caption}, "text", _split_of_folder(name), findings
        )
    for name in sorted(texts - used):
        findings.append(Finding(NOTE, "file", shown(name), "is a caption without a picture; add the picture"))


def _looks_like_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURE_ENDINGS


def _sidecar(name: str, texts: set[str]) -> str | None:
    choices = (str(PurePosixPath(name).with_suffix(".txt")), f"{name}.txt")
    return next((text for text in choices if text in texts), None)


def _split_of_folder(name: str) -> str | None:
    return next(
        (SPLITS[part.lower()] for part in PurePosixPath(name).parts[:-1] if part.lower() in SPLITS), None
    )


def _from_tables(
    paths: Iterable[Path], root: Path, caption_column: str, findings: list[Finding]
) -> Iterator[Entry]:
    files: Files | None = None
    seen: set[str] = set()
    for path in paths:
        split = SPLITS.get(path.name.lower().split("-")[0].split(".")[0])
        number = 0
        for batch in _table_batches(path):
            names = batch.schema.names
            if "image" not in names or caption_column not in names:
                missing = "image" if "image" not in names else caption_column
                hint = (
                    "rename it" if missing == "image" else "rename it, or set data.caption_column (for all)"
                )
                raise UserError(f"{path}: no column '{missing}' (there are: {', '.join(names)}); {hint}")
            for row in batch.to_pylist():
                cell = row.pop("image")
                cell = {"bytes": cell} if isinstance(cell, bytes) else cell if isinstance(cell, dict) else {}
                inner = cell.get("path")
                name = normal_name(row.pop("file_name", None) or inner or f"{path.stem}_{number:06d}")
                number += 1
                data: Path | bytes | None = cell.get("bytes")
                if data is not None and name in seen:  # data sets keep the last part of a path, or none
                    name = f"{path.stem}_{number:06d}/{name}"
                seen.add(name)
                if data is None and inner:
                    files = files or Files(root)
                    try:
                        data = files.find(inner)
                    except ValueError as error:
                        findings.append(_left_out("file", shown(name), f"{error} ({path.name} row {number})"))
                        continue
                if data is None:
                    findings.append(
                        _left_out("row", shown(name), f"{path.name} row {number} holds no picture; add it")
                    )
                    continue
                yield from _entry(name, data, row, caption_column, split, findings)


def _table_batches(path: Path) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".arrow":
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
                yield from stream
        else:
            with pq.ParquetFile(path) as parquet:
                yield from parquet.iter_batches(16)
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"{path}: damaged, cannot be read ({reason}); fetch it again") from error
