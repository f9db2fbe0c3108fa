"""Tables as people hand them in: JSON lines, CSV and TSV."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_steps.errors import UserError

if TYPE_CHECKING:
    pass


from pipeline_steps.inputs.text import read_text


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
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(header, column))
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


def split_header(line: str) -> list[str]:
    """Return a header's names, whichever mark separates them."""
    return [name.strip().strip('"') for mark in ",;\t" for name in line.split(mark)]


def delimiter(header: str, column: str) -> str:
    """Return the mark that separates the named column from others; a comma when in doubt."""
    for mark in ",;\t":
        if column in [name.strip().strip('"') for name in header.split(mark)] and mark in header:
            return mark
    return ","
