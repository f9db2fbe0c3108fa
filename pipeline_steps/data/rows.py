"""From a row as handed in to an entry of the data set, or to a finding that says why not."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline_steps.data.consent import is_yes
from pipeline_steps.data.findings import LEFT_OUT, NOTE, Finding
from pipeline_steps.data.splits import SPLITS, split_of
from pipeline_steps.inputs.text import clean_text, is_visible, shown
from pipeline_steps.inputs.values import RejectedError, as_json, quoted

ABOUT = ("category", "era", "contributor", "source", "author", "licence", "consent")
"""Optional columns that have their own place in the table; all others are kept in ``extra``."""
ALIASES = {"license": "licence", "category_code": "category", "url": "source"}
COLUMNS = ("file_name", "split", "withdrawn", *ABOUT, *ALIASES)
"""Columns that are found whatever their case, beside the caption's."""


@dataclass(frozen=True)
class Entry:
    """One picture as handed in.

    Attributes:
        name: as the user writes it, for messages and the withdrawn list.
        data: the file, or the encoded picture.
        caption: cleaned, with something to see.
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


@dataclass(frozen=True)
class Intake:
    """How rows are read, and what was odd about them.

    Attributes:
        caption_column: name of the caption's column.
        require_consent: a picture without an answer in ``consent`` is left out.
        findings: what is odd is appended here.
    """

    caption_column: str
    require_consent: bool
    findings: list[Finding]

    def left_out(self, kind: str, name: str, line: str) -> None:
        """Say that something is not taken."""
        self.findings.append(Finding(LEFT_OUT, kind, shown(name), line))

    def note(self, kind: str, name: str, line: str) -> None:
        """Say what is worth knowing."""
        self.findings.append(Finding(NOTE, kind, shown(name), line))

    def entry(self, name: str, data: Path | bytes, row: dict[Any, Any], split: str | None) -> Iterator[Entry]:
        """Yield the row's entry, or nothing and a finding.

        Args:
            name: of the picture, relative to the culture's folder.
            data: the file, or the encoded picture.
            row: its columns without ``file_name`` and the picture.
            split: what its table says; without it the picture's own folder does.
        """
        try:
            caption = self._caption(name, row.pop(self.caption_column, None))
            said = clean_text(str(row.pop("split", None) or "")).lower()
            if said and said not in SPLITS:
                raise _NotTakenError("split", f"its split is '{said[:40]}'; write train or test")
            withdrawn = self._withdrawn(row.pop("withdrawn", None))
            about, extra = _columns(row)
            withdrawn = withdrawn or self._refused(about["consent"])
        except _NotTakenError as error:
            self.left_out(error.kind, name, str(error))
        except RejectedError as error:
            self.left_out("row", name, f"{error}; mend its row")
        else:
            split = SPLITS.get(said) or split or split_of(PurePosixPath(name))
            yield Entry(name, data, caption, split, about, extra, withdrawn)

    def _caption(self, name: str, value: Any) -> str:
        if isinstance(value, list) and all(isinstance(v, str) for v in value) and value:
            if len(value) > 1:
                self.note("caption", name, f"has {len(value)} captions; the first is used")
            value = value[0]
        if value is not None and not isinstance(value, str):
            raise _NotTakenError("caption", "its caption is not text; write a sentence")
        text = clean_text(value or "")
        if not is_visible(text):
            invisible = " (its characters cannot be seen)" if text else ""
            raise _NotTakenError("caption", f"has no caption{invisible}; write one")
        return text

    def _withdrawn(self, value: Any) -> bool:
        text = _text(value)
        if text is None or text.lower() == "x":
            return text is not None
        answer = text.lower() == "withdrawn" or is_yes(text)
        if answer is None:
            raise _NotTakenError("withdrawn", f"its 'withdrawn' says {quoted(text)}; write yes or no")
        return answer

    def _refused(self, consent: str | None) -> bool:
        """Return whether consent was refused; what is neither a clear yes nor a clear no is not taken."""
        if consent is None:
            if self.require_consent:
                raise _NotTakenError(
                    "consent", "has no consent (data.require_consent); write yes once it is given"
                )
            return False
        answer = is_yes(consent)
        if answer is None:
            raise _NotTakenError(
                "consent", f"its consent is {quoted(consent)}, no clear yes; write yes once it is given"
            )
        return not answer


class _NotTakenError(Exception):
    """This picture is not taken; ``kind`` is the finding's."""

    def __init__(self, kind: str, line: str) -> None:
        super().__init__(line)
        self.kind = kind


def _columns(row: dict[Any, Any]) -> tuple[dict[str, str | None], dict[str, Any]]:
    """Return the columns that have their own place, and all others."""
    about: dict[str, str | None] = dict.fromkeys(ABOUT)
    extra: dict[str, Any] = {}
    for column, value in row.items():
        text = _text(value)
        target = ALIASES.get(column, column)
        if target in about and about[target] is None:
            about[target] = text
        elif text is not None:
            extra[clean_text(str(column))] = value
    return about, extra


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return clean_text(value if isinstance(value, str) else as_json(value)) or None
