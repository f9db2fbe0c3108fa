"""Text as people hand it in: any file, name or sentence, decoded and cleaned in one place."""

import unicodedata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline_steps.errors import UserError

if TYPE_CHECKING:
    pass

HIDDEN = ("Cf", "Co", "Cn")
"""Unicode categories of characters that cannot be seen."""


def normal_name(name: str) -> str:
    """Return a file name as it is compared: composed Unicode, forward slashes, no "./"."""
    if "://" in name:
        return name
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).as_posix())


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


def shown(name: str) -> str:
    """Return a file name that can be stored and printed."""
    return clean_text(name) or "(no name)"
