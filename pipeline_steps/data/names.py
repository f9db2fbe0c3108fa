"""What a picture is called: its id, and what a withdrawn list may call it."""

import hashlib
import re
import unicodedata
from pathlib import Path, PurePosixPath

from pipeline_steps.errors import UserError
from pipeline_steps.inputs.tables import csv_rows, is_header, readable, table_rows
from pipeline_steps.inputs.text import HIDDEN, clean_text, name_key, read_lines

CALLED = ("file_name", "image_id", "sha256")
"""Columns of a withdrawn list that may say which picture is meant."""

BY_CONTENT = 32
"""Digits of a SHA-256 by which a picture is called."""
BY_ADDRESS = 12
"""Digits of its address' SHA-256 by which a fetched picture is called, after its category."""


def withdrawn_names(path: Path | None) -> dict[str, str]:
    """Return the withdrawn file names, image ids and SHA-256 sums: as they are compared, and as written.

    Args:
        path: text file with one a line (# starts a comment), or a CSV or Excel file with a column
            ``file_name``, ``image_id`` or ``sha256``; further columns are ignored.

    Raises:
        UserError: the file is missing or in another encoding, or an Excel file has none of the columns.
    """
    if path is None:
        return {}
    if path.suffix.lower() == ".xlsx":
        rows = [readable(row) for _, row in table_rows(path, CALLED)]
        if rows and not set(CALLED) & rows[0].keys():
            raise UserError(f"{path}: no column {', '.join(CALLED)}; name the one with the names so")
    else:
        lines = read_lines(path)
        if not (lines and is_header(lines[0], CALLED)):
            return {name_key(line): line for line in lines}
        rows = [row for _, row in csv_rows(path, "\n".join(lines), CALLED)]
    found = [row.get(column) for row in rows for column in CALLED]
    return {name_key(name.strip()): name.strip() for name in found if name and name.strip()}


def content_name(digest: str) -> str:
    """Return the name of a picture that is called by its content, from its SHA-256."""
    return f"{digest[:BY_CONTENT]}.jpg"


def is_by_content(name: str) -> bool:
    """Tell whether a picture is called by its content; nobody mistypes such a name."""
    return bool(re.fullmatch(r"[0-9a-f]{%d}" % BY_CONTENT, PurePosixPath(name).stem))  # noqa: UP031


def address_key(url: str) -> str:
    """Return the end of a fetched picture's name, which stays whatever else its row says."""
    return hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()[:BY_ADDRESS]


def address_key_in(name: str) -> str:
    """Return what :func:`address_key` gave a fetched picture's name; of another name its last part."""
    return PurePosixPath(name).stem.rpartition("_")[2]


def is_by_address(name: str) -> bool:
    """Tell whether a picture is called by its address; a number or date at the end may be anybody's."""
    return bool(re.fullmatch(r"(?!\d+$)[0-9a-f]{%d}" % BY_ADDRESS, address_key_in(name)))  # noqa: UP031


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
    return f"{picture_id(name)}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def picture_names(name: str, digest: str) -> set[str]:
    """Return everything a withdrawn list may call a picture, as it is compared."""
    path = PurePosixPath(name)
    return {name_key(n) for n in (name, path.name, path.stem, picture_id(name), hashed_id(name), digest)}
