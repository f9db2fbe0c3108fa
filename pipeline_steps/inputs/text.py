"""Text as people hand it in: any file, name or sentence, decoded and cleaned in one place."""

import re
import unicodedata
from pathlib import Path, PurePosixPath

from pipeline_steps.errors import UserError

HIDDEN = ("Cf", "Co", "Cn")
"""Unicode categories of characters that cannot be seen."""
BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Fillers that Unicode counts as letters or symbols and that show nothing."""
MARK = "\ufeff"
"""The byte order mark: at the start of a file, and inside where files were joined."""
SIGNS = "‘’“”„‚–—…•«»¿¡§€£°·´\xa0"
"""What Western European text has beyond letters and ASCII."""


def normal_name(name: str) -> str:
    """Return a file name as it is compared: composed Unicode, forward slashes, no "./"."""
    if "://" in name:
        return name
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).as_posix())


def name_key(name: str) -> str:
    """Return what two spellings of one file name share, whatever their Unicode form and case."""
    return unicodedata.normalize("NFC", normal_name(name).casefold())


def clean_text(text: str) -> str:
    """Return text on one line, without control characters and lone surrogates, spaces collapsed."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace(MARK, "")
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    return " ".join(unicodedata.normalize("NFC", text).split())


def is_visible(text: str) -> bool:
    """Tell whether a reader would see anything: a letter, digit, sign or symbol."""
    return any(unicodedata.category(c)[0] in "LNPS" and c not in BLANK for c in text)


def read_text(path: Path, notes: list[str] | None = None) -> str:
    """Return a text file's contents; UTF-8 with or without a mark, or UTF-16 with one.

    Args:
        path: the file.
        notes: where given, Windows-1252 is read as well (what Excel saves as CSV in Western Europe and
            America), and said here.

    Raises:
        UserError: missing, or in another encoding.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its name and rights") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        return data.decode(encoding).replace(MARK, "")
    except UnicodeDecodeError as error:
        western = None if encoding == "utf-16" else _western(data)
        if notes is not None and western is not None:
            notes.append("is not UTF-8; read as Windows-1252: save it as UTF-8 if letters are wrong")
            return western
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line} is not {encoding.upper()}; save the file as UTF-8") from error


def read_lines(path: Path) -> list[str]:
    """Return a text file's lines without spaces around them, blank ones and # comments left out.

    Raises:
        UserError: missing, or in another encoding.
    """
    lines = (line.strip() for line in read_text(path).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def read_prompts(path: Path) -> list[str]:
    """Return a prompt file's prompts: one a line, blank lines and # comments left out.

    Raises:
        UserError: in another encoding, nothing to draw, a prompt that nobody can see, or one that stands
            there twice (its pictures would be the same).
    """
    prompts = [clean_text(line) for line in read_lines(path)]
    if not prompts:
        raise UserError(f"{path}: no prompts; write one a line")
    before: set[str] = set()
    for number, prompt in enumerate(prompts):
        if not is_visible(prompt):
            raise UserError(f"{path}: prompt {number + 1} has no visible character; delete its line")
        if prompt in before:
            raise UserError(f"{path}: the prompt {prompt!r} stands there twice; leave one out")
        before.add(prompt)
    return prompts


def shown(name: str) -> str:
    """Return a file name that can be stored and printed."""
    return clean_text(name) or "(no name)"


def _western(data: bytes) -> str | None:
    """Return text in Windows-1252, or None where it is more likely in an encoding of another script."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    letters = "".join(c if c not in SIGNS else " " for c in text)
    latin = all(c.isascii() or unicodedata.name(c, "").startswith("LATIN") for c in letters)
    # Other scripts, read so, give row upon row of letters with accents.
    return text if latin and not re.search(r"[^\x00-\x7f]{3}", letters) else None
