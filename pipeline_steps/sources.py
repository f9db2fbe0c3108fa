"""Reads what a user hands in: a folder of pictures and captions, Parquet files, a withdrawn list.

A folder that cannot be understood is refused in one line. A picture that cannot be used is left out
and becomes a :class:`Finding`, so that one bad row never costs the others.
"""

import csv
import hashlib
import io
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from pipeline_steps.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

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

HIDDEN = ("Cf", "Co", "Cn")
"""Unicode categories of characters that cannot be seen."""


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


def state(images: Path) -> str:
    """Return a hash over names, sizes and times of a culture's files: it changes when one of them does.

    Snakemake sees only a folder's own time, which stays when a caption is edited.
    """
    digest = hashlib.sha256()
    for path in sorted(images.rglob("*")) if images.is_dir() else [images]:
        if path.is_file():
            facts = path.stat()
            line = f"{path.relative_to(images)}\0{facts.st_size}\0{facts.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def withdrawn_names(path: Path | None) -> set[str]:
    """Return the withdrawn file names, image ids and SHA-256 sums.

    Args:
        path: text file with one a line (# starts a comment), or a CSV file with a column
            ``file_name``, ``image_id`` or ``sha256``; further columns are ignored.

    Raises:
        UserError: the file is missing or not UTF-8.
    """
    if path is None:
        return set()
    text = read_text(path)
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    known = ("file_name", "image_id", "sha256")
    if lines and (columns := [c for c in known if c in _split_header(lines[0])]):
        rows = csv.DictReader(lines, delimiter=_delimiter(lines[0], columns[0]))
        found = [row[c] for row in rows for c in columns if row[c]]
    else:
        found = lines
    return {normal_name(name.strip()) for name in found}


def normal_name(name: str) -> str:
    """Return a file name as it is compared: composed Unicode, forward slashes, no "./"."""
    if "://" in name:
        return name
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).as_posix())


def picture_id(name: str) -> str:
    """Return a readable id from a file name: its stem, safe as a file name, in any script."""
    stem = unicodedata.normalize("NFC", clean_text(PurePosixPath(name).stem))
    # Format characters hide or reverse text; the joiners are part of emoji and Indic words.
    stem = "".join(c for c in stem if unicodedata.category(c) not in HIDDEN or c in "\u200c\u200d")
    stem = re.sub(r'[\s/\\:*?"<>|\']+', "_", stem).strip("._") or "picture"
    if len(stem.encode()) > 120:
        digest = hashlib.sha256(stem.encode()).hexdigest()
        stem = f"{stem.encode()[:110].decode(errors='ignore')}~{digest[:8]}"
    return stem


def hashed_id(name: str) -> str:
    """Return the id of a picture whose plain id is another's as well."""
    return f"{picture_id(name)}~{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def called(name: str, digest: str) -> set[str]:
    """Return everything a withdrawn list may call a picture."""
    path = PurePosixPath(name)
    return {name, path.name, path.stem, picture_id(name), hashed_id(name), digest}


def clean_text(text: str) -> str:
    """Return text on one line, without control characters and lone surrogates, spaces collapsed."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    return " ".join(unicodedata.normalize("NFC", text).split())


def read_text(path: Path) -> str:
    """Return a text file's contents; UTF-8 with or without a mark, or UTF-16 with one.

    Raises:
        UserError: missing, or in another encoding.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its name and rights") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from error


class Files:
    """The files of a folder, found by name whatever its Unicode form or case."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.names: list[str] = []
        self.by_key: dict[str, list[str]] = {}
        for where, folders, files in os.walk(folder):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
            for file in sorted(files):
                if not file.startswith(".") and file not in ("Thumbs.db", "desktop.ini"):
                    name = (Path(where) / file).relative_to(folder).as_posix()
                    self.names.append(name)
                    self.by_key.setdefault(_key(name), []).append(name)

    def find(self, name: str) -> Path:
        """Return the file a row means.

        Raises:
            ValueError: there is none, or it lies outside the folder; the message says how to mend it.
        """
        if "://" in name:
            raise ValueError("is a link, not a file; give the table of links as 'images' of the culture")
        if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute():
            raise ValueError("is an absolute path; write it relative to the folder")
        if any(unicodedata.category(c) == "Cc" for c in name):
            raise ValueError("its name holds control characters; rename it")
        path = Path(os.path.normpath(self.root / name.replace("\\", "/")))
        if not path.is_relative_to(Path(os.path.normpath(self.root))):
            raise ValueError("lies outside the folder; copy it into the folder")
        if not path.exists():
            similar = self.by_key.get(_key(path.relative_to(os.path.normpath(self.root)).as_posix()), [])
            if len(similar) != 1:
                elsewhere = [known for known in self.names if known.endswith(f"/{name}")]
                mend = f"write {shown(elsewhere[0])}" if elsewhere else "add it or delete its row"
                raise ValueError(f"no such file; {mend}")
            path = self.root / similar[0]
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ValueError("is a link that leads out of the folder; copy the picture into the folder")
        if not path.is_file():
            raise ValueError("is no file; delete its row")
        return path


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


# --- metadata.jsonl, metadata.csv -------------------------------------------------------------


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


def table_rows(path: Path, column: str = "file_name") -> Iterator[tuple[int, dict[Any, Any]]]:
    """Yield line number and row of a .jsonl, .csv or .tsv file; fields without a header go to ``None``.

    Args:
        path: the file.
        column: one that a CSV file has: it tells commas, semicolons and tabs apart.

    Raises:
        UserError: not UTF-8, or a line that cannot be understood.
    """
    text = read_text(path)
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, _json_row(path, number, line)
        return
    lines = text.splitlines(keepends=True)
    header = next((line for line in lines if line.strip()), "")
    csv.field_size_limit(1 << 24)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(header, column))
    names: list[str] | None = None
    try:
        for fields in reader:
            if not any(f.strip() for f in fields):
                continue
            if names is None:
                names = [name.strip() for name in fields]
                continue
            row: dict[Any, Any] = dict(zip(names, fields, strict=False))
            if len(fields) > len(names):
                row[None] = fields[len(names) :]
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: {error}; mend its quotes") from error


def _json_row(path: Path, number: int, line: str) -> dict[Any, Any]:
    try:
        row = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: line {number} is not JSON ({error}); write one object per line") from error
    if not isinstance(row, dict):
        raise UserError(f'{path}: line {number} is not an object like {{"file_name": …, "text": …}}; mend it')
    return row


def _split_header(line: str) -> list[str]:
    return [name.strip().strip('"') for mark in ",;\t" for name in line.split(mark)]


def _delimiter(header: str, column: str) -> str:
    """Return the mark that separates the named column from others; a comma when in doubt."""
    for mark in ",;\t":
        if column in [name.strip().strip('"') for name in header.split(mark)] and mark in header:
            return mark
    return ","


# --- one row ----------------------------------------------------------------------------------


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


def shown(name: str) -> str:
    """Return a file name that can be stored and printed."""
    return clean_text(name) or "(no name)"


# --- one .txt per picture ---------------------------------------------------------------------


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


# --- Hugging Face data sets -------------------------------------------------------------------


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
