"""From a row as handed in to an entry of the data set, or to a finding that says why not."""

from collections.abc import Mapping
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
ANSWERS = ("withdrawn", "consent")
"""Columns that say whether a picture may be used, and kinds of the findings about them."""


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
        fault: why the row is not taken; a withdrawn picture may have one as well.
    """

    name: str
    data: Path | bytes
    caption: str
    split: str | None
    about: dict[str, str | None] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    withdrawn: bool = False
    fault: Finding | None = None


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

    def entry(self, name: str, data: Path | bytes, row: dict[Any, Any], split: str | None) -> Entry:
        """Return the row's entry, which says itself if it is not taken: its picture may be a withdrawn one.

        Args:
            name: of the picture, relative to the culture's folder.
            data: the file, or the encoded picture.
            row: its columns without ``file_name`` and the picture.
            split: what its table says; without it the picture's own folder does.
        """
        said = clean_text(str(row.pop("split", None) or "")).lower()
        split = SPLITS.get(said) or split or split_of(PurePosixPath(name))
        withdrawn = False
        try:
            withdrawn = is_refused(row, self.require_consent)
            row.pop("withdrawn", None)
            caption = self._caption(name, row.pop(self.caption_column, None))
            if said and said not in SPLITS:
                raise NotTakenError("split", f"its split is '{said[:40]}'; write train or test")
            about, extra = _columns(row)
        except NotTakenError as error:
            fault = Finding(LEFT_OUT, error.kind, shown(name), str(error))
        except RejectedError as error:
            fault = Finding(LEFT_OUT, "row", shown(name), f"{error}; mend its row")
        else:
            return Entry(name, data, caption, split, about, extra, withdrawn)
        return Entry(name, data, "", split, withdrawn=withdrawn, fault=fault)

    def _caption(self, name: str, value: Any) -> str:
        if isinstance(value, list) and all(isinstance(v, str) for v in value) and value:
            if len(value) > 1:
                self.note("caption", name, f"has {len(value)} captions; the first is used")
            value = value[0]
        if value is not None and not isinstance(value, str):
            raise NotTakenError("caption", "its caption is not text; write a sentence")
        text = clean_text(value or "")
        if not is_visible(text):
            invisible = " (its characters cannot be seen)" if text else ""
            raise NotTakenError("caption", f"has no caption{invisible}; write one")
        return text


class NotTakenError(Exception):
    """This picture is not taken; ``kind`` is the finding's."""

    def __init__(self, kind: str, line: str) -> None:
        super().__init__(line)
        self.kind = kind


def is_refused(row: Mapping[Any, Any], require_consent: bool) -> bool:
    """Tell whether one of the columns ``ANSWERS`` asks to leave the row's picture out.

    Args:
        row: its columns, those of ``COLUMNS`` by these names.
        require_consent: an empty ``consent`` is no yes.

    Raises:
        NotTakenError: neither refuses, and one is no clear answer.
        RejectedError: an answer is nested without an end.
    """
    asked, consent = (_text(row.get(column)) for column in ANSWERS)
    withdrawn = asked is not None and (asked.lower() in ("x", "withdrawn") or is_yes(asked))
    given = is_yes(consent) if consent is not None else None if require_consent else True
    if withdrawn or given is False:
        return True
    if withdrawn is None:
        raise NotTakenError("withdrawn", f"its 'withdrawn' says {quoted(asked)}; write yes or no")
    if given is None:
        said = "has no consent (data.require_consent)"
        said = said if consent is None else f"its consent is {quoted(consent)}, no clear yes"
        raise NotTakenError("consent", f"{said}; write yes once it is given")
    return False


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
