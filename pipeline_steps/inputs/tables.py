"""Tables as people hand them in: JSON lines, CSV, TSV, Excel, Parquet and Arrow."""

import csv
import datetime
import io
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_steps.errors import UserError, first_line
from pipeline_steps.inputs.text import read_text
from pipeline_steps.inputs.values import RejectedError, read_json, whole

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[Any, Any]
Rows = Iterator[tuple[int, Row | RejectedError]]
"""Line or row number, and the row by column, or why it cannot be read."""

MARKS = ",;\t"
"""What separates fields."""
LARGEST = 500_000_000
"""Bytes that an Excel file may unpack to: some are made to fill the memory."""


def table_rows(path: Path, known: Collection[str], notes: list[str] | None = None) -> Rows:
    """Yield number and row of a .json, .jsonl, .csv, .tsv, .xlsx, .parquet or .arrow file.

    Of text and Excel files the number is the line's; of the others the row's or object's, from 1. A .json is
    a list of objects. Fields of a CSV file without a header go to ``None``; missing ones are missing.

    Args:
        path: the file.
        known: columns that the caller looks for. They are found whatever their case, and tell what
            separates the fields of a CSV file.
        notes: what was decided for the user is appended here.

    Raises:
        UserError: the file cannot be read, a line cannot be understood, or a known column is there twice.
    """
    ending = path.suffix.lower()
    notes = [] if notes is None else notes
    rows: Rows
    if ending in (".parquet", ".arrow"):
        _check_names(str(path), arrow_columns(path), known)
        rows = enumerate((row for batch in arrow_batches(path) for row in batch_rows(batch)), 1)
    elif ending == ".jsonl":
        rows = _json_rows(path)
    elif ending == ".json":
        rows = _json_list(path)
    elif ending == ".xlsx":
        rows = _under_header(path, _excel_table(path, notes), known)
    else:
        yield from csv_rows(path, read_text(path, notes), known)
        return
    for number, row in rows:
        if ending in (".json", ".jsonl") and not isinstance(row, RejectedError):
            _check_names(f"{path}: {'line' if ending == '.jsonl' else 'row'} {number}", row, known)
        yield number, row if isinstance(row, RejectedError) else _known_names(row, known)


def csv_rows(path: Path, text: str, known: Collection[str]) -> Iterator[tuple[int, Row]]:
    """Yield line number and row of text whose fields are separated by commas, semicolons or tabs.

    Args:
        path: named in messages.
        text: the contents.
        known: see :func:`table_rows`.

    Raises:
        UserError: quotes that do not end, or a known column is there twice.
    """
    for number, row in _under_header(path, _csv_table(path, text, known), known):
        yield number, _known_names(row, known)


def arrow_batches(path: Path) -> "Iterator[pa.RecordBatch]":
    """Yield a Parquet or Arrow file's batches, of Parquet 16 rows each.

    Raises:
        UserError: the file is damaged.
    """
    with _arrow(path) as (_, batches):
        yield from batches


@contextmanager
def _arrow(path: Path) -> "Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]":
    """Open a Parquet file, or an Arrow file in either of its forms."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() != ".arrow":
            with pq.ParquetFile(path) as parquet:
                yield parquet.schema_arrow, parquet.iter_batches(16)
            return
        with pa.OSFile(str(path)) as file:
            whole = file.read(6) == b"ARROW1"
            file.seek(0)
            with pa.ipc.open_file(file) if whole else pa.ipc.open_stream(file) as found:
                numbers = range(found.num_record_batches) if whole else ()
                yield found.schema, map(found.get_batch, numbers) if whole else iter(found)
    except Exception as error:  # readers of damaged files raise whatever they stumble over
        raise UserError(f"{path}: damaged, cannot be read ({first_line(error)}); fetch it again") from error


def batch_rows(batch: "pa.RecordBatch") -> Iterator[Row | RejectedError]:
    """Yield a batch's rows; one that cannot be read costs itself alone."""
    try:
        yield from _valid_rows(batch)
    except Exception:
        for number in range(batch.num_rows):
            try:
                yield _valid_rows(batch.slice(number, 1))[0]
            except Exception as error:  # text that is none, dates after the year 9999, …
                yield RejectedError(f"cannot be read ({first_line(error)})")


def _valid_rows(batch: "pa.RecordBatch") -> list[Row]:
    # Arrow trusts the lengths that a file states: unchecked, a wrong one reads foreign memory, and crashes.
    batch.validate(full=True)
    return list(batch.to_pylist())


def readable(row: Row | RejectedError) -> Row:
    """Return a row that was read.

    Raises:
        RejectedError: it could not be.
    """
    if isinstance(row, RejectedError):
        raise row
    return row


def table_columns(path: Path, known: Collection[str]) -> list[str]:
    """Return the names of a table's columns, the known ones as the caller spells them; see `table_rows`.

    Raises:
        UserError: the file cannot be read.
    """
    ending = path.suffix.lower()
    if ending in (".parquet", ".arrow"):
        names = arrow_columns(path)
    elif ending in (".json", ".jsonl"):
        rows = _json_rows(path) if ending == ".jsonl" else _json_list(path)
        names = list(next((row for _, row in rows if isinstance(row, dict)), {}))
    else:
        table = _excel_table(path, []) if ending == ".xlsx" else _csv_table(path, read_text(path, []), known)
        names = next(_filled(table), (0, []))[1]
    return list(_known_names(dict.fromkeys(name.strip() for name in names), known))


def is_header(line: str, known: Collection[str]) -> bool:
    """Tell whether a line names one of the known columns, whichever mark separates them."""
    return _fields_known(line, known, _mark(line, known)) > 0


def arrow_metadata(path: Path) -> dict[str, str]:
    """Return the notes that a Parquet or Arrow file carries.

    Raises:
        UserError: the file is damaged.
    """
    with _arrow(path) as (schema, _):
        notes = schema.metadata or {}
    return {key.decode("utf-8", "replace"): note.decode("utf-8", "replace") for key, note in notes.items()}


def arrow_columns(path: Path) -> list[str]:
    """Return the names of a Parquet or Arrow file's columns.

    Raises:
        UserError: the file is damaged.
    """
    with _arrow(path) as (schema, _):
        return list(schema.names)


def _json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except RejectedError as error:
            raise UserError(f"{path}: line {number} {error}; write one object per line") from error
        if not isinstance(row, dict):
            raise UserError(
                f'{path}: line {number} is not an object like {{"file_name": …, "text": …}}; mend it'
            )
        yield number, row


def _json_list(path: Path) -> Rows:
    try:
        found = read_json(read_text(path))
    except RejectedError as error:
        raise UserError(f"{path}: {error}; mend it, or save it as CSV") from error
    if not isinstance(found, list):
        raise UserError(f"{path}: is no list of objects like [{{…}}, {{…}}]; mend it, or save it as CSV")
    for number, row in enumerate(found, 1):
        yield number, row if isinstance(row, dict) else RejectedError("is no object like {…}")


Table = Iterator[tuple[int, list[str]]]
"""Line number and fields, the header first."""


def _csv_table(path: Path, text: str, known: Collection[str]) -> Table:
    first = next((line for line in text.splitlines() if line.strip()), "")
    said = re.fullmatch(r" *sep=(.)[\r\n ]*", first, re.IGNORECASE)  # Excel's own line
    csv.field_size_limit(1 << 24)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=said[1] if said else _mark(first, known),
        skipinitialspace=True,  # people write ", " by hand, and the quote after it opens a text
        strict=True,  # or a quote that does not end takes the rows below it into its text
    )
    line = 1
    try:
        for fields in reader:
            if not said or fields[:1] != [first.partition("=")[0] + "="]:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}: line {line}: a text begins with a quote and does not end with one; close it, and write "
            "a quote inside it twice"
        ) from error


def _excel_table(path: Path, notes: list[str]) -> Table:
    """Yield the first sheet's rows as text."""
    import openpyxl

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > LARGEST:
            raise UserError(f"{path}: unpacks to {size / 1e6:.0f} MB; save it as CSV")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        if len(book.worksheets) > 1:
            notes.append(f"has {len(book.worksheets)} sheets; the first, '{sheet.title}', is read")
        sheet.reset_dimensions()  # some programs write wrong ones
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            yield number, [_cell(cell) for cell in cells]
    except UserError:
        raise
    except Exception as error:  # a damaged archive raises whatever its reader stumbles over
        raise UserError(f"{path}: cannot be read as Excel ({first_line(error)}); save it as CSV") from error


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    return str(whole(value) if isinstance(value, float) else value)


def _filled(table: Table) -> Table:
    return ((number, fields) for number, fields in table if any(field.strip() for field in fields))


def _under_header(path: Path, table: Table, known: Collection[str]) -> Iterator[tuple[int, Row]]:
    names: list[str] | None = None
    for number, fields in _filled(table):
        if names is None:
            names = [name.strip() for name in fields]
            while names and not names[-1]:
                names.pop()  # empty columns at the end of a sheet
            _check_names(str(path), names, known)
            continue
        row: Row = dict(zip(names, fields, strict=False))
        if any(field.strip() for field in fields[len(names) :]):
            row[None] = fields[len(names) :]
        yield number, row


def _check_names(where: str, names: Iterable[Any], known: Collection[str]) -> None:
    """Refuse a known column that is there twice, whatever its case: only one of its fields would count."""
    wanted = {name.casefold() for name in known}
    taken: dict[str, str] = {}
    for name in (name for name in names if isinstance(name, str) and name.casefold() in wanted):
        if other := taken.get(name.casefold()):
            raise UserError(f"{where}: '{other}' and '{name}' are one column twice; delete or rename one")
        taken[name.casefold()] = name


def _known_names(row: Row, known: Collection[str]) -> Row:
    """Return a row with its known columns under the names that the caller uses."""
    spelled = {name.casefold(): name for name in known if name not in row}
    return {
        spelled.get(name.casefold(), name) if isinstance(name, str) else name: value
        for name, value in row.items()
    }


def _mark(header: str, known: Collection[str]) -> str:
    """Return the mark that separates the known columns from others; a comma when in doubt."""
    return max(MARKS, key=lambda mark: (_fields_known(header, known, mark) * (mark in header), mark == ","))


def _fields_known(header: str, known: Collection[str], mark: str) -> int:
    wanted = {name.casefold() for name in known}
    return sum(name.strip().strip('"').casefold() in wanted for name in header.split(mark))
