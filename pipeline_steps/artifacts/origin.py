"""What a file says it is and what it was made from: its note, and the messages about wrong ones."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from PIL.PngImagePlugin import PngInfo

from pipeline_steps.artifacts.files import rebuild
from pipeline_steps.errors import UserError, first_line

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Origin:
    """What a file was made from.

    Attributes:
        culture: the culture's name in the config.
        fingerprint: SHA-256 over the training pictures and captions (see ``ingest``).
    """

    culture: str
    fingerprint: str


def as_dict(origin: Origin | None) -> dict[str, str]:
    """Return what of an origin goes into a note."""
    return {} if origin is None else {"culture": origin.culture, "fingerprint": origin.fingerprint}


UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What pyarrow raises on damaged files."""


def check_note(path: Path, note: Any, name: str, version: int) -> None:
    """Raise UserError unless a file's note is that of the artifact ``name`` in this version."""
    if not isinstance(note, dict):
        raise UserError(f"{path}: expected '{name}', found a foreign file; {rebuild(path)}")
    if note.get("artifact") != name:
        raise UserError(f"{path}: expected '{name}', found '{note.get('artifact')}'; {rebuild(path)}")
    if note.get("version") != version:
        raise UserError(
            f"{path}: '{name}' v{note.get('version')}, this version reads v{version}; {rebuild(path)}"
        )


def unreadable(path: Path, name: str, error: Exception) -> UserError:
    """Return what to say of a file that could not be read as the artifact ``name``."""
    if not path.exists():
        return UserError(f"{path}: no such file; '{name}' was expected here; {rebuild()}")
    return UserError(f"{path}: damaged, cannot be read as '{name}' ({first_line(error)}); {rebuild(path)}")


def picture_note(origin: Origin) -> PngInfo:
    """Return what a PNG that shows a culture's pictures carries, as tables and tensor files do."""
    note = PngInfo()
    note.add_text("scoft", json.dumps(as_dict(origin), sort_keys=True))
    return note


class Noted(Protocol):
    """A table or tensor file: what can say what it was made from."""

    def note(self, path: Path) -> dict[str, Any]:
        """Return what stands in the file's header."""


def same_origin(*sources: tuple[Noted, Path], culture: str | None = None) -> Origin:
    """Return the origin that all files share.

    Raises:
        UserError: two of them were made from different pictures or cultures.
    """
    first: tuple[Path, Origin] | None = None
    for kind, path in sources:
        note = kind.note(path)
        origin = Origin(str(note.get("culture")), str(note.get("fingerprint")))
        if culture is not None and origin.culture != culture:
            raise UserError(
                f"{path}: belongs to culture '{origin.culture}', not '{culture}'; {rebuild(path)}"
            )
        if first is not None and origin != first[1]:
            raise UserError(
                f"{path}: was made from other pictures than {first[0]}; {rebuild(path, first[0])}"
            )
        first = first or (path, origin)
    assert first is not None
    return first[1]
