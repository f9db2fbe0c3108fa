"""Data sets as Parquet or Arrow tables, as the Hugging Face libraries and img2dataset write them."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from pipeline_steps.data.folder import Files, is_picture
from pipeline_steps.data.rows import COLUMNS, Entry, Intake
from pipeline_steps.data.splits import TABLES, split_of
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.tables import Row, arrow_columns, readable, table_rows
from pipeline_steps.inputs.text import normal_name
from pipeline_steps.inputs.values import RejectedError, quoted

IMAGE = ("image", "jpg", "jpeg", "png", "webp")
"""What the column of pictures is called: by Hugging Face's libraries, and by img2dataset."""


def tables_of_pictures(files: Files, intake: Intake) -> list[PurePosixPath]:
    """Return the Parquet and Arrow files that hold pictures; of others say why they are not read.

    Raises:
        UserError: a file is damaged, or there are tables without pictures and no picture beside them.
    """
    found, others = [], []
    for name in map(PurePosixPath, files.names):
        if name.suffix.lower() not in TABLES:
            continue
        if name.name.startswith("cache-"):
            intake.note("table", str(name), "is a cache of the datasets library; not read")
        elif _image_column(columns := arrow_columns(files.root / name)):
            found.append(name)
        else:
            others.append((name, ", ".join(columns)))
    if others and not found and not any(map(is_picture, files.names)):
        raise UserError(
            f"{files.root / others[0][0]}: no column 'image' (there are: {others[0][1]}); rename it"
        )
    for name, there in others:
        intake.note("table", str(name), f"has no column 'image' (there are: {there[:200]}); not read")
    return found


def entries_of_tables(tables: Sequence[PurePosixPath], files: Files, intake: Intake) -> Iterator[Entry]:
    """Stream the pictures of Parquet or Arrow files.

    Args:
        tables: relative to the folder.
        files: the folder's; a table may name them instead of holding them.
        intake: how rows are read.

    Raises:
        UserError: a table is damaged, or has no captions.
    """
    seen: set[str] = set()
    for table in tables:
        path = files.root / table
        column = _image_column(columns := arrow_columns(path))
        there = {name.casefold() for name in columns}
        if column is None or intake.caption_column.casefold() not in there:
            missing = intake.caption_column if column else "image"
            hint = "rename it, or set data.caption_column (for all)" if column else "rename it"
            raise UserError(f"{path}: no column '{missing}' (there are: {', '.join(columns)}); {hint}")
        for number, read in table_rows(path, (*COLUMNS, column, intake.caption_column)):
            plain = f"{table.stem}_{number - 1:06d}"
            try:
                row = readable(read)
                name, data = _picture(row, column, files, table.parent)
            except RejectedError as error:
                intake.left_out("row", plain, f"{table.name} row {number} {error}")
                continue
            name = name or plain
            if isinstance(data, bytes):
                # Data sets keep the last part of a path, or none: two pictures may have one name.
                name = f"{table.with_suffix('')}_{number - 1:06d}/{name}" if name in seen else name
                seen.add(name)
            yield intake.entry(name, data, row, split_of(table))


def _picture(row: Row, column: str, files: Files, folder: PurePosixPath) -> tuple[str | None, Path | bytes]:
    """Take the picture out of a row: what it is called, if anything, and its file or bytes.

    Raises:
        RejectedError: the row has no picture.
    """
    cell = row.pop(column)
    if not isinstance(cell, dict):
        cell = {"path" if isinstance(cell, str) else "bytes": cell}
    data, inner = cell.get("bytes"), cell.get("path")
    name = row.pop("file_name", None) or inner
    for what, value in (("path", inner), ("file_name", name)):
        if not isinstance(value, str | None):
            raise RejectedError(f"has a {what} that is no text ({quoted(value)}); mend it")
    if data is None and inner:
        path = _found(inner, files, folder)
        return files.own_name(path), path
    if data is None:
        raise RejectedError("holds no picture; add it")
    if not isinstance(data, bytes):
        raise RejectedError(f"holds no picture's bytes but {quoted(data)}; mend it")
    return normal_name(name) if name else None, data


def _found(name: str, files: Files, folder: PurePosixPath) -> Path:
    """Return a file named by a table: relative to the table's folder, or to the data set's."""
    try:
        return files.find(str(folder / name))
    except ValueError:
        try:
            return files.find(name)
        except ValueError as error:
            raise RejectedError(f"names {quoted(name)}: {error}") from error


def _image_column(columns: Sequence[str]) -> str | None:
    there = {name.casefold() for name in columns}
    return next((name for name in IMAGE if name in there), None)
