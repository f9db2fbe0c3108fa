"""What an answer is, and how the values in one are read."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from pipeline_steps.inputs.values import RejectedError, as_text, quoted

MOST = 1000
"""Beyond this nothing is a rank."""
E_MAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True)
class Page:
    """What an answer can refer to: the pictures of a page in the order shown, and what they are."""

    culture: str
    prompt: str
    seed: int
    check: bool
    pictures: dict[str, str]  # picture to variant


@dataclass(frozen=True)
class Answer:
    """One participant's ranking of one page by one item, as a file gave it.

    Attributes:
        file: relative to the folder of answers.
        row: line, array element or task, from 1.
        participant: pseudonym.
        culture: the one declared, or "" where the form does not say.
        years: lived there, or None where the form does not say.
        page: name of the page.
        item: one of ITEMS.
        ranks: picture to rank; empty if left blank.
        revision: of several answers under one key to one question the highest counts.
        simulated: the participant never lived.
        key: of the device that saved the file, which no other knows; "" where the form has none.
        began: when the participant began, as ISO text; "" where the form does not say.
    """

    file: str
    row: int
    participant: str
    culture: str
    years: float | None
    page: str
    item: str
    ranks: Mapping[str, Any]
    revision: int = 0
    simulated: bool = False
    key: str = ""
    began: str = ""


Pages = dict[str, Page]
Entries = Iterator[tuple[int, Answer | str]]
"""Row with its answer, or with the reason why it is none."""


def participant_of(value: Any, what: str = "participant") -> str:
    """Return a participant's pseudonym: of an e-mail address a piece of its hash, which is never the address.

    Raises:
        RejectedError: there is none.
    """
    text = as_text(value, what)
    if not E_MAIL.fullmatch(text):
        return text
    return f"person-{hashlib.sha256(text.casefold().encode()).hexdigest()[:16]}"


def culture_of(value: Any) -> str:
    """Return a declared culture, or "" where none is declared.

    Raises:
        RejectedError: it is no text.
    """
    return "" if value is None or value == "" else as_text(value, "culture")


def _number(value: Any) -> float:
    """Return a number, whether its decimals follow a point or a comma.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError
    return float(value.replace(",", ".") if isinstance(value, str) else value)


def rank_of(value: Any) -> int | None:
    """Return a rank, or None for a blank.

    Raises:
        RejectedError: it is no whole number.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = _number(value)
        if number != number and not isinstance(value, str):
            return None  # how data frames leave a cell empty
        if not abs(number) < MOST or number != int(number):
            raise ValueError
        return int(number)
    except (ValueError, OverflowError):
        raise RejectedError(f"{quoted(value)} is no rank") from None


def time_of(value: Any, what: str) -> str:
    """Return when something was, as text; "" where the form does not say.

    Raises:
        RejectedError: it is no text.
    """
    return "" if value in (None, "") else as_text(value, what)[:40]


def revision_of(exported: str) -> int:
    """Return when a download was made as a number that grows, in microseconds.

    Raises:
        RejectedError: it is no time.
    """
    try:
        return int(datetime.fromisoformat(exported).timestamp() * 1e6)
    except (ValueError, OverflowError):
        raise RejectedError(f"exported {quoted(exported)} is no time") from None


def years_of(value: Any) -> float | None:
    """Return how long somebody lived there, or None where it is not said.

    Raises:
        RejectedError: it is no number.
    """
    if value is None or value == "" or value != value:
        return None
    try:
        number = _number(value)
        if not abs(number) < MOST:
            raise ValueError
        return number
    except (ValueError, OverflowError):
        raise RejectedError(f"years {quoted(value)} is no number; write a number, 20 or 20.5") from None


def ranks_in_order(pictures: Any) -> dict[str, int]:
    """Return the ranks that a list of pictures means, the best first.

    Args:
        pictures: the list; some programs wrap it in a dictionary with one list.

    Raises:
        RejectedError: it is no list, or names a picture twice.
    """
    if isinstance(pictures, dict):
        filled = [part for part in pictures.values() if part]
        if len(filled) > 1:
            raise RejectedError("a ranking in several buckets; use a Ranker without buckets")
        pictures = filled[0] if filled else []
    if not isinstance(pictures, list):
        raise RejectedError(f"a ranking is a list, not {quoted(pictures)}")
    names = [as_text(picture, "picture") for picture in pictures]
    if len(set(names)) < len(names):
        raise RejectedError("no permutation: a picture stands in the list twice")
    return {name: rank for rank, name in enumerate(names, 1)}
