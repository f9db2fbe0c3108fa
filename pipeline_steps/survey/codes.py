"""Participants' codes: what makes one hard to guess, and what shows where there are none."""

import re
import secrets
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from pipeline_steps.errors import UserError
from pipeline_steps.inputs.text import read_lines

LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
"""Without those that look alike."""
DRAWN = 14
"""Letters drawn for a code: 69 bits."""
TOGETHER = 60
"""Seconds: people who came within so little time may be one person."""
LEAST = 12
"""Letters and digits that a code needs before the number at its end."""
MAKE = "python -m pipeline_steps.survey.survey_codes makes good ones"


def make_codes(count: int) -> list[str]:
    """Draw codes that nobody can guess; each ends in a number, by which forms take turns."""
    return [f"{''.join(secrets.choice(LETTERS) for _ in range(DRAWN))}-{n}" for n in range(1, count + 1)]


def stem(code: str) -> str:
    """Return what there is to guess: letters and digits before the number at the end."""
    return re.sub(r"[-_]", "", re.sub(r"[-_]?\d+$", "", code))


def most_together(times: Iterable[str]) -> int:
    """Return how many of some times, as ISO text, lie within one minute at most; what is none is left out."""
    seconds = []
    for time in times:
        try:
            seconds.append(datetime.fromisoformat(time).timestamp())
        except (ValueError, OverflowError):
            continue
    seconds.sort()
    first, most = 0, 0
    for last, second in enumerate(seconds):
        while second - seconds[first] >= TOGETHER:
            first += 1
        most = max(most, last - first + 1)
    return most


def read_codes(path: Path) -> frozenset[str]:
    """Read participants' codes, one a line.

    Raises:
        UserError: in another encoding, none, a repeated, a malformed or a guessable one.
    """
    codes = read_lines(path)
    for number, code in enumerate(codes, 1):
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", code):
            raise UserError(f"{path}: code {number}: has at most 64 letters, digits, '-' and '_'; {MAKE}")
        if len(stem(code)) < LEAST:
            raise UserError(
                f"{path}: code {number}: can be guessed; {LEAST} letters and digits or more must "
                f"stand before the number at its end; {MAKE}"
            )
    if not codes or len(set(codes)) < len(codes):
        raise UserError(f"{path}: {'a code stands there twice' if codes else 'no codes'}; write one a line")
    if len({stem(code) for code in codes}) < len(codes):
        raise UserError(f"{path}: codes differ by a number alone: who has one can guess the others; {MAKE}")
    return frozenset(codes)
