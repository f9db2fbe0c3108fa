"""What a user hands in: a folder of pictures and captions, or Parquet files of a data set.

A folder that cannot be understood is refused in one line. A picture that cannot be used is left out
and becomes a :class:`Finding`, so that one bad row never costs the others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline_steps.data.data_sets import entries_of_tables, tables_of_pictures
from pipeline_steps.data.findings import LEFT_OUT, Finding
from pipeline_steps.data.folder import METADATA, UNREAD, Files, collection_of, is_metadata, is_picture
from pipeline_steps.data.rows import ANSWERS, COLUMNS, Entry, Intake
from pipeline_steps.data.splits import SPLITS, split_of
from pipeline_steps.drawing.labels import many
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.tables import Row, readable, table_rows
from pipeline_steps.inputs.text import name_key, normal_name, read_text, shown
from pipeline_steps.inputs.values import RejectedError, as_text

SEEN = {
    (".csv", ".tsv", ".xlsx", ".jsonl"): "is not read: call it metadata",
    (".json", ".ndjson", ".xls", ".ods"): "is not read: save it as metadata.csv",
    (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"): "is an archive: unpack it",
}
"""What may lie in a folder instead of captions, and what to do about it."""


def entries(
    folder: Path, caption_column: str, findings: list[Finding], require_consent: bool = False
) -> Iterator[Entry]:
    """Stream the pictures of a folder or Parquet file, one entry for each row.

    Args:
        folder: with metadata.jsonl, .csv, .tsv, .xlsx or .parquet (also one in each of ``train`` and
            ``test``, or in another folder inside), Parquet or Arrow files of a Hugging Face data set, or
            one .txt per picture; or the metadata or Parquet file itself.
        caption_column: name of the caption's column.
        findings: what is odd is appended here.
        require_consent: a picture without an answer in ``consent`` is left out.

    Raises:
        UserError: the folder cannot be understood.
    """
    intake = Intake(caption_column, require_consent, findings)
    if is_metadata(folder) and folder.is_file():
        folder = folder.parent
    if folder.is_file():
        if folder.suffix.lower() not in (".parquet", ".arrow"):
            raise UserError(f"{folder}: is neither a folder nor a .parquet file; give the pictures' folder")
        files = Files(folder.parent)
        yield from entries_of_tables([PurePosixPath(folder.name)], files, intake)
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; mend 'images' of the culture in the configuration")
    files = Files(folder)
    if metadata := _metadata_files(files, intake):
        yield from _from_metadata(metadata, files, intake)
    elif tables := tables_of_pictures(files, intake):
        yield from entries_of_tables(tables, files, intake)
    elif odd := next((n for n in files.names if n.lower().startswith("metadata.")), None):
        raise UserError(
            f"{folder / odd}: is not read; write metadata.jsonl (one JSON object a line) or metadata.csv"
        )
    else:
        yield from _from_sidecars(files, intake)


# --- one table of all pictures ----------------------------------------------------------------


def _metadata_files(files: Files, intake: Intake) -> list[PurePosixPath]:
    """Return the metadata files: in the folder and its splits, or, where there is none, further inside."""
    found = [PurePosixPath(name) for name in files.names if is_metadata(PurePosixPath(name))]
    near = [p for p in found if len(p.parts) == 1 or (len(p.parts) == 2 and p.parts[0].lower() in SPLITS)]
    for path in found if near else ():
        if path not in near:
            intake.note("file", str(path), f"is not read beside {near[0]}; move its rows there")
    taken: dict[PurePosixPath, PurePosixPath] = {}
    for path in near or found:
        other = taken.setdefault(path.parent, path)
        if other != path:
            names = sorted((other, path), key=lambda table: METADATA.index(table.suffix.lower()))
            raise UserError(
                f"{files.root / path.parent}: holds {names[0].name} and {names[1].name}; keep one of them"
            )
    return list(taken.values())


def _from_metadata(tables: list[PurePosixPath], files: Files, intake: Intake) -> Iterator[Entry]:
    listed: set[str] = set()
    count = 0
    for table in tables:
        notes: list[str] = []
        for line, read in table_rows(files.root / table, (*COLUMNS, intake.caption_column), notes):
            where = f"{table.name} line {line}"
            if count == 0 and not isinstance(read, RejectedError):
                _check_columns(files.root / table, read, intake.caption_column)
            count += 1
            try:
                row = readable(read)
                name = _file_name(row)
            except RejectedError as error:
                intake.left_out("row", where, str(error))
                continue
            name = name if "://" in name else str(table.parent / name)
            listed.add(normal_name(name))
            try:
                path = files.find(name)
            except ValueError as error:
                intake.left_out("file", normal_name(name), f"{error} ({where})")
                continue
            own = files.own_name(path)
            listed.add(own)
            entry = intake.entry(own, path, row, split_of(table))
            yield _with_line(entry, where) if table.suffix.lower() in (".csv", ".tsv") else entry
        for note in notes:
            intake.note("table", str(table), note)
    if count == 0 and collection_of(files.root).is_dir():
        raise UserError(
            f"{files.root / tables[0]}: nothing that people gave is accepted yet; accept pictures on the "
            "curator's page of the collection"
        )
    if count == 0:
        raise UserError(
            f"{files.root / tables[0]}: holds no row; write one line per picture, or delete the file where "
            "captions stand elsewhere"
        )
    for name in files.names:
        path = files.root / name
        if is_picture(name) and (own := files.own_name(path)) not in listed:
            reason = "no row in the metadata names it; add one with its caption"
            yield Entry(own, path, "", None, fault=Finding(LEFT_OUT, "file", shown(name), reason))


def _with_line(entry: Entry, where: str) -> Entry:
    """Say where the row stands whose answer is none: it may be what follows a comma in the caption."""
    fault = entry.fault
    if fault is None or fault.kind not in ("split", *ANSWERS):
        return entry
    line = f"{fault.line} ({where}; put a caption that holds commas in quotes)"
    return replace(entry, fault=replace(fault, line=line))


def _file_name(row: Row) -> str:
    """Take the picture's name out of a row.

    Raises:
        RejectedError: the row has none.
    """
    if None in row:
        raise RejectedError("has more fields than the header; quote texts with commas")
    name = row.pop("file_name", None)
    if isinstance(name, str) and name.strip():
        return name.strip()
    if name is None or isinstance(name, str):
        raise RejectedError("has no file_name; write it or delete the row")
    return as_text(name, "file_name")


def _check_columns(table: Path, row: Mapping[Any, Any], caption_column: str) -> None:
    there = ", ".join(shown(str(name)) for name in row if name is not None)
    if "file_name" not in row:
        raise UserError(f"{table}: no column 'file_name' (there are: {there}); rename the one with the names")
    if caption_column not in row:
        raise UserError(
            f"{table}: no column '{caption_column}' (there are: {there}); rename the one with the "
            "captions, or set data.caption_column (for all cultures)"
        )


# --- one text file per picture ----------------------------------------------------------------


def _from_sidecars(files: Files, intake: Intake) -> Iterator[Entry]:
    names = [name for name in files.names if name.lower().endswith(".txt") and name not in UNREAD]
    texts = {name_key(name): name for name in names} | {name: name for name in names}
    pictures = _pictures(files, texts)
    if not pictures:
        raise UserError(
            f"{files.root}: holds no picture; put pictures and a metadata.jsonl there{_seen(files)}"
        )
    if not any(pictures.values()):
        raise UserError(
            f"{files.root}: holds {many(len(pictures), 'picture')} and no captions; write metadata.jsonl, or "
            f"one .txt per picture{_seen(files)}"
        )
    for name, text in pictures.items():
        notes: list[str] = []
        try:
            path = files.find(name)
            caption = read_text(files.find(text), notes) if text else None
        except (ValueError, UserError) as error:
            intake.left_out("file", name, str(error))
            continue
        for note in notes:
            intake.note("caption", str(text), note)
        yield intake.entry(files.own_name(path), path, {intake.caption_column: caption}, None)
    for name in sorted(set(names) - set(pictures.values())):
        intake.note("file", name, "is a caption without a picture; add the picture")


def _pictures(files: Files, texts: Mapping[str, str]) -> dict[str, str | None]:
    """Map pictures to their texts: what is called like one, and what alone stands beside a text."""
    found = {name: _sidecar(name, texts) for name in files.names if is_picture(name)}
    taken = set(found.values())
    for name in files.names:
        text = None if name in found or name.lower().endswith((".txt", ".json")) else _sidecar(name, texts)
        if text and text not in taken:
            found[name] = text
    return dict(sorted(found.items()))


def _sidecar(name: str, texts: Mapping[str, str]) -> str | None:
    choices = (str(PurePosixPath(name).with_suffix(".txt")), f"{name}.txt")
    spelled = (text for choice in choices for text in (choice, name_key(choice)))
    return next((texts[text] for text in spelled if text in texts), None)


def _seen(files: Files) -> str:
    """Return what was seen and could be meant, for the end of a message."""
    for endings, what in SEEN.items():
        for name in files.names:
            if name.lower().endswith(endings):
                return f" ({shown(name)} {what})"
    return ""
