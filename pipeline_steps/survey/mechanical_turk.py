"""Answers in Mechanical Turk's results, in the form of the paper's authors."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from pipeline_steps.inputs.tables import Row, Rows, readable
from pipeline_steps.inputs.values import RejectedError, as_text, quoted, read_json
from pipeline_steps.survey.answers import Answer, Entries, Page, Pages, participant_of, rank_of
from pipeline_steps.survey.shown import ITEMS

NEEDED = ("WorkerId", "HITId", "Input.prompt", "Input.seed", "Answer.taskAnswers")
REVIEW = ("AssignmentStatus", "Reject")
"""What the requester thought of the work: Rejected, or a reason in the column that the website reads."""
COUNTED = ("", "approved", "submitted")
"""Statuses of work that counts; of other work nobody knows."""
LONGEST = 4000
"""Letters of an address or a prompt."""


def mechanical_turk(rows: Rows, columns: Sequence[str], name: str, known: Pages) -> Entries:
    """Yield a page's answers for each row, in the order of the items; they stand as JSON in one cell.

    Raises:
        RejectedError: a column is missing.
    """
    missing = sorted(set(NEEDED) - set(columns))
    if missing:
        raise RejectedError(f"no column {', '.join(map(repr, missing))}")
    images = sorted((c for c in columns if re.fullmatch(r"Input\.img\d+", c)), key=lambda c: int(c[9:]))
    for number, read in rows:
        try:
            row = readable(read)
            _check_review(row)
            participant = participant_of(row.get("WorkerId"), "WorkerId")
            shown = [_blank_or_text(row.get(column), column) for column in images]
            prompt, seed = (_blank_or_text(row.get(c), c) for c in ("Input.prompt", "Input.seed"))
            page = _page(shown, prompt, seed, known)
            pictures = [_picture(image, known[page]) for image in shown]
            given = _given(row.get("Answer.taskAnswers"))
        except RejectedError as error:
            yield number, str(error)
            continue
        first = 0 if any(str(key).startswith("promptrow0-") for key in given) else 1
        for place, item in enumerate(ITEMS, first):
            try:
                ranks = {
                    picture: _choice(given.get(f"promptrow{place}-img{image}-rating"))
                    for image, picture in enumerate(pictures, 1)
                }
            except RejectedError as error:
                yield number, f"{item}: {error}"
                continue
            blank = all(rank is None for rank in ranks.values())
            yield number, Answer(name, number, participant, "", None, page, item, {} if blank else ranks)


def _check_review(row: Row) -> None:
    """Refuse work that its requester refused."""
    status, reason = (_blank_or_text(row.get(column), column) for column in REVIEW)
    if reason:
        raise RejectedError(f"rejected work (Reject: {quoted(reason)})")
    if status.casefold() not in COUNTED:
        raise RejectedError(f"rejected work (AssignmentStatus: {quoted(status)})")


def _blank_or_text(value: Any, what: str) -> str:
    return (
        "" if value is None or value != value or str(value).strip() == "" else as_text(value, what, LONGEST)
    )


def _given(cell: Any) -> dict[str, Any]:
    try:
        given = read_json(cell if isinstance(cell, str) else "")
    except RejectedError:
        raise RejectedError("Answer.taskAnswers is no JSON") from None
    given = given[0] if isinstance(given, list) and given else given
    if not isinstance(given, dict):
        raise RejectedError("Answer.taskAnswers holds no answers")
    return given


def _stem(image: str) -> str:
    """Return a picture's name from an address or a path."""
    return PurePosixPath(re.split(r"[?#]", image)[0]).stem


def _page(images: list[str], prompt: str, seed: str, known: Pages) -> str:
    """Find the page by its pictures' names, or by prompt and seed."""
    stems = {_stem(image) for image in images}
    for name, page in known.items():
        if stems == set(page.pictures):
            return name
    for name, page in known.items():
        if page.prompt == prompt and str(page.seed) == seed and not page.check:
            return name
    raise RejectedError(f"unknown page (prompt {quoted(prompt)}, seed {quoted(seed)})")


def _picture(image: str, page: Page) -> str:
    """Find the picture by its name, or by the variant's name at the beginning, as the authors named files."""
    stem = _stem(image)
    if stem in page.pictures:
        return stem
    fits = [(len(v), picture) for picture, v in page.pictures.items() if stem.startswith(f"{v}_")]
    if not fits:
        raise RejectedError(f"unknown picture {quoted(image)}")
    return max(fits)[1]


def _choice(value: Any) -> int | None:
    """A rating as text, number, or radio buttons ({"1": false, "2": true})."""
    if isinstance(value, dict):
        chosen = [key for key, on in value.items() if on is True]
        if len(chosen) > 1:
            raise RejectedError(f"several ranks for one picture: {', '.join(sorted(chosen))}")
        value = chosen[0] if chosen else None
    return rank_of(value)
