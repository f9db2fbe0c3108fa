"""Single values that others hand in: of any type, of any size, decoded and checked in one place."""

import json
import unicodedata
from decimal import Decimal
from typing import Any

from pipeline_steps.errors import first_line
from pipeline_steps.inputs.text import MARK, clean_text, is_visible

LONGEST = 200
"""Letters of a name: of a participant, a page, a picture."""
WHOLE = 40
"""Digits of a whole number that is read as one; Python refuses to read thousands."""


class RejectedError(Exception):
    """This value, row or file cannot be used; the message says why."""


def as_text(value: Any, what: str, longest: int = LONGEST) -> str:
    """Return a name or an answer as text without spaces around it; whole numbers are as good as text.

    Args:
        value: as a reader gave it.
        what: named in the message.
        longest: letters it may have.

    Raises:
        RejectedError: missing, too long, no text, or text that cannot be stored or seen.
    """
    if isinstance(value, float | Decimal):
        value = whole(value)
    too_large = isinstance(value, float) and abs(value) >= 2**53
    if isinstance(value, bool) or too_large or not isinstance(value, str | int | float | Decimal | None):
        raise RejectedError(f"{what} is no text ({quoted(value)})")
    if isinstance(value, int) and abs(value) >= 10**longest:
        raise RejectedError(f"{what} is longer than {longest} letters")
    text = "" if value is None or value != value else str(value).replace(MARK, "").strip()
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise RejectedError(f"{what} holds half a character ({quoted(text)})")
    if not is_visible(text):
        raise RejectedError(f"{what} is missing")
    if len(text) > longest:
        raise RejectedError(f"{what} is longer than {longest} letters")
    return unicodedata.normalize("NFC", text)


def whole(value: float | Decimal) -> int | float | Decimal:
    """Return a number as a whole one where it is: spreadsheets and data frames often know no other kind."""
    if value != value or abs(float(value)) >= 2**53 or value != int(value):
        return value
    return int(value)


def quoted(value: Any) -> str:
    """Return a value as a message shows it: on one line, no longer than 60 letters, in quotes if text."""
    if isinstance(value, int) and abs(value) >= 10**WHOLE:
        return "a number of more than 40 digits"
    try:
        text = clean_text(value if isinstance(value, str) else repr(value))
    except RecursionError:
        return f"a {type(value).__name__}"
    text = text if len(text) <= 60 else f"{text[:59]}…"
    return f"'{text}'" if isinstance(value, str) else text


def read_json(text: str) -> Any:
    """Return what JSON says; NaN and infinities are None, numbers of very many digits floats.

    Raises:
        RejectedError: it is no JSON, or nested without an end.
    """
    try:
        return json.loads(text, parse_int=_whole, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise RejectedError(f"is not JSON ({first_line(error)})") from error


def as_json(value: Any) -> str:
    """Return a value as JSON text that can be stored; what JSON cannot say stands as its text.

    Raises:
        RejectedError: nested without an end.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    except (ValueError, TypeError, RecursionError) as error:
        raise RejectedError(f"a column cannot be stored ({first_line(error)})") from error
    return text.encode("utf-8", "replace").decode("utf-8")


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= WHOLE else float(digits)
