"""What a picture is called: its id, and what a withdrawn list may call it."""

import csv
import hashlib
import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


from pipeline_steps.inputs.tables import delimiter, split_header
from pipeline_steps.inputs.text import HIDDEN, clean_text, normal_name, read_text


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
    if lines and (columns := [c for c in known if c in split_header(lines[0])]):
        rows = csv.DictReader(lines, delimiter=delimiter(lines[0], columns[0]))
        found = [row[c] for row in rows for c in columns if row[c]]
    else:
        found = lines
    return {normal_name(name.strip()) for name in found}


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
