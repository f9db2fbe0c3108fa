"""Answers in whatever form they came: every reader yields the same kind of answer."""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_steps.survey.shown import ITEMS

GENERIC = ("participant", "culture", "page", "item", "picture", "rank")
"""Columns of the generic long form, one row per picture."""


class RejectedError(Exception):
    """This answer cannot be used; the message says why."""


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


def read_answers(path: Path, name: str, known: Pages) -> Entries:
    """Recognise a file's form by its ending and contents, and read it.

    Raises:
        RejectedError: the file as a whole cannot be read.
    """
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                table = csv.DictReader(file)
                rows, columns = enumerate(table, 2), list(table.fieldnames or ())
                if "WorkerId" in columns:
                    yield from _mechanical_turk(rows, columns, name, known)
                else:
                    yield from _generic(rows, columns, name)
        elif path.suffix == ".parquet":
            yield from _parquet(path, name)
        elif path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8-sig"))
            if isinstance(content, dict) and content.get("format") == "scoft-survey":
                yield from _survey_page(content, name)
            elif isinstance(content, list) and any(
                isinstance(t, dict) and "annotations" in t for t in content
            ):
                yield from _label_studio(content, name)
            else:
                yield from _survey_js(content if isinstance(content, list) else [content], name)
        else:
            raise RejectedError(f"unknown kind of file '{path.suffix}'; .json, .csv and .parquet are read")
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError, RecursionError) as error:
        raise RejectedError(f"cannot be read ({str(error).splitlines()[0]})") from error


def _parquet(path: Path, name: str) -> Entries:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            note = json.loads((file.schema_arrow.metadata or {}).get(b"scoft", b"{}"))
            rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
            simulated = bool(note.get("simulated"))
            yield from _generic(enumerate(rows, 1), file.schema_arrow.names, name, simulated)
    except pa.ArrowException as error:
        raise RejectedError(f"cannot be read ({str(error).splitlines()[0]})") from error


def _generic(
    rows: Iterator[tuple[int, dict[str, Any]]],
    columns: list[str],
    name: str,
    simulated: bool = False,
) -> Entries:
    """One row per picture: rows of one participant, page and item belong together."""
    missing = sorted(set(GENERIC) - set(columns))
    if missing:
        raise RejectedError(f"no column {', '.join(map(repr, missing))}; needed are {', '.join(GENERIC)}")
    groups: dict[tuple[str, ...], list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for number, row in rows:
        try:
            if None in row or None in (row[column] for column in GENERIC[:-1]):
                raise RejectedError("the number of fields differs from the header's")
            key = tuple(_text(row[column], column) for column in GENERIC[:4])
            _text(row["picture"], "picture")
            groups[key].append((number, row))
        except RejectedError as error:
            yield number, str(error)
    for (participant, culture, page, item), group in groups.items():
        number = group[0][0]
        try:
            # The second time a picture comes begins a second answer.
            answers: list[dict[str, Any]] = []
            for _, row in group:
                place = next((a for a in answers if row["picture"] not in a), None)
                if place is None:
                    answers.append(place := {})
                place[row["picture"]] = _rank(row["rank"])
            years, began = _years(group[0][1].get("years")), str(group[0][1].get("began") or "")[:40]
        except RejectedError as error:
            yield number, str(error)
            continue
        for ranks in answers:
            given = {} if all(rank is None for rank in ranks.values()) else ranks
            who = (participant, culture, years, page, item, given)
            yield number, Answer(name, number, *who, simulated=simulated, began=began)


def _survey_page(content: dict[str, Any], name: str) -> Entries:
    """The file the survey page saves."""
    if content.get("version") != 1 or not isinstance(content.get("answers"), list):
        raise RejectedError("not a file of this survey's version 1")
    simulated, exported = bool(content.get("simulated")), content.get("exported")
    key = str(content.get("key") or "")[:200]
    # Without a key nobody knows whose file it is, and a later one has no more weight than an earlier one.
    revision = exported if key and isinstance(exported, int) else 0
    for number, entry in enumerate(content["answers"], 1):
        try:
            who = (_text(content.get("participant"), "participant"), _text(content.get("culture"), "culture"))
            years = _years(content.get("years"))
            page, item = (_text(entry[key], key) for key in ("page", "item"))
            ranks = {picture: _rank(rank) for picture, rank in (entry["ranks"] or {}).items()}
        except RejectedError as error:
            yield number, str(error)
            continue
        except (KeyError, TypeError, AttributeError):
            yield number, "needs page, item and ranks"
            continue
        yield number, Answer(name, number, *who, years, page, item, ranks, revision, simulated, key)


def _mechanical_turk(
    rows: Iterator[tuple[int, dict[str, Any]]], columns: list[str], name: str, known: Pages
) -> Entries:
    """Mechanical Turk's results in the authors' form: a row per page, the answers as JSON in one cell."""
    needed = ["WorkerId", "HITId", "Input.prompt", "Input.seed", "Answer.taskAnswers"]
    missing = sorted(set(needed) - set(columns))
    if missing:
        raise RejectedError(f"no column {', '.join(map(repr, missing))}")
    images = sorted((c for c in columns if re.fullmatch(r"Input\.img\d+", c)), key=lambda c: int(c[9:]))
    for number, row in rows:
        try:
            participant = _text(row["WorkerId"], "WorkerId")
            shown = [row[column] or "" for column in images]
            page = _turk_page(shown, row["Input.prompt"], row["Input.seed"], known)
            pictures = [_turk_picture(image, known[page]) for image in shown]
            given = json.loads(row["Answer.taskAnswers"] or "")
            given = given[0] if isinstance(given, list) and given else given
            if not isinstance(given, dict):
                raise RejectedError("Answer.taskAnswers holds no answers")
        except json.JSONDecodeError:
            yield number, "Answer.taskAnswers is no JSON"
            continue
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


def _turk_page(images: list[str], prompt: str | None, seed: str | None, known: Pages) -> str:
    """Find the page by its pictures' names, or by prompt and seed."""
    stems = {Path(image).stem for image in images}
    for name, page in known.items():
        if stems == set(page.pictures):
            return name
    for name, page in known.items():
        if (
            page.prompt == (prompt or "").strip()
            and str(page.seed) == (seed or "").strip()
            and not page.check
        ):
            return name
    raise RejectedError(f"unknown page (prompt {prompt!r}, seed {seed!r})")


def _turk_picture(image: str, page: Page) -> str:
    """Find the picture by its name, or by the variant's name at the beginning, as the authors named files."""
    stem = Path(image).stem
    if stem in page.pictures:
        return stem
    fits = [(len(v), picture) for picture, v in page.pictures.items() if stem.startswith(f"{v}_")]
    if not fits:
        raise RejectedError(f"unknown picture {image!r}")
    return max(fits)[1]


def _choice(value: Any) -> int | None:
    """A rating as text, number, or radio buttons ({"1": false, "2": true})."""
    if isinstance(value, dict):
        chosen = [key for key, on in value.items() if on is True]
        if len(chosen) > 1:
            raise RejectedError(f"several ranks for one picture: {', '.join(sorted(chosen))}")
        value = chosen[0] if chosen else None
    return _rank(value)


def _label_studio(tasks: list[Any], name: str) -> Entries:
    """Label Studio's JSON: a task per page (data.page), a Ranker named after each item."""
    for number, task in enumerate(tasks, 1):
        try:
            page = _text(task["data"]["page"], "data.page")
            annotations = list(task["annotations"])
        except (KeyError, TypeError):
            yield number, "needs data.page and annotations"
            continue
        except RejectedError as error:
            yield number, str(error)
            continue
        for annotation in annotations:
            try:
                if annotation.get("was_cancelled"):
                    continue
                by = annotation["completed_by"]
                participant = _text(by["id"] if isinstance(by, dict) else by, "completed_by")
                culture = str(task["data"].get("culture") or "")
                results = {
                    r["from_name"]: r["value"]["ranker"]
                    for r in annotation["result"]
                    if r["type"] == "ranker"
                }
                for item in sorted({*ITEMS, *results}):
                    ranks = _by_order(_ranked(results.get(item, [])))
                    yield number, Answer(name, number, participant, culture, None, page, item, ranks)
            except (KeyError, TypeError, AttributeError) as error:
                yield number, f"not a Label Studio ranking ({error!r})"
            except RejectedError as error:
                yield number, str(error)


def _ranked(value: Any) -> list[Any]:
    """A Ranker's list; older and newer versions wrap it in a dictionary with one list, the best first."""
    if isinstance(value, dict):
        filled = [part for part in value.values() if part]
        if len(filled) > 1:
            raise RejectedError("a ranking in several buckets; use a Ranker without buckets")
        value = filled[0] if filled else []
    if not isinstance(value, list):
        raise RejectedError(f"a ranking is a list, not {value!r}")
    return value


def _survey_js(responses: list[Any], name: str) -> Entries:
    """SurveyJS results: participant, culture and, per page and item, a ranking "page/item", best first."""
    for number, response in enumerate(responses, 1):
        if not isinstance(response, dict) or not any("/" in str(key) for key in response):
            yield number, "no known form: needs questions named 'page/item'"
            continue
        try:
            participant = _text(response.get("participant"), "participant")
            culture, years = str(response.get("culture") or ""), _years(response.get("years"))
        except RejectedError as error:
            yield number, str(error)
            continue
        for question, value in response.items():
            page, slash, item = question.rpartition("/")
            if not slash:
                continue
            try:
                ranks = _by_order(_ranked(value or []))
                yield number, Answer(name, number, participant, culture, years, page, item, ranks)
            except RejectedError as error:
                yield number, f"{question}: {error}"


def _by_order(pictures: list[Any]) -> dict[str, int]:
    if len({str(picture) for picture in pictures}) < len(pictures):
        raise RejectedError("no permutation: a picture stands in the list twice")
    return {str(picture): rank for rank, picture in enumerate(pictures, 1)}


def _text(value: Any, what: str) -> str:
    text = "" if value is None else str(value).strip()
    if not text or len(text) > 200:
        raise RejectedError(f"{what} is {'missing' if not text else 'longer than 200 letters'}")
    return text


def _rank(value: Any) -> int | None:
    """A rank, or None for a blank."""
    if value is None or (isinstance(value, str) and not value.strip()) or value != value:
        return None
    try:
        number = float(value)
        if isinstance(value, bool) or number != int(number):
            raise ValueError
        return int(number)
    except (TypeError, ValueError, OverflowError):
        raise RejectedError(f"{value!r} is no rank") from None


def _years(value: Any) -> float | None:
    if value is None or value == "" or value != value:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise RejectedError(f"years {value!r} is no number") from None
