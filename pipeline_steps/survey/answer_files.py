"""Answers in whatever form they came: every reader yields the same kind of answer."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline_steps.errors import UserError
from pipeline_steps.inputs.tables import Row, Rows, arrow_metadata, readable, table_columns, table_rows
from pipeline_steps.inputs.text import read_text
from pipeline_steps.inputs.values import RejectedError, as_text, read_json
from pipeline_steps.survey import mechanical_turk as turk
from pipeline_steps.survey.answers import (
    Answer,
    Entries,
    Pages,
    culture_of,
    participant_of,
    rank_of,
    ranks_in_order,
    revision_of,
    time_of,
    years_of,
)
from pipeline_steps.survey.label_studio import MIN, is_label_studio, label_studio
from pipeline_steps.survey.shown import ITEMS

GENERIC = ("participant", "culture", "page", "item", "picture", "rank")
"""Columns of the generic long form, one row per picture."""
COLUMNS = (*GENERIC, "years", "admission", "began", "exported", *turk.NEEDED, *turk.REVIEW, *MIN, *ITEMS)
TABLES = (".csv", ".tsv", ".xlsx", ".parquet")


def read_answers(path: Path, name: str, known: Pages, notes: list[str]) -> Entries:
    """Recognise a file's form by its ending and contents, and read it.

    Args:
        path: the file.
        name: as answers shall say where they are from.
        known: the pages shown.
        notes: what was decided for the user is appended here.

    Raises:
        RejectedError: the file as a whole cannot be read.
    """
    ending = path.suffix.lower()
    try:
        if ending in TABLES:
            yield from _table(path, name, known, notes)
        elif ending == ".json":
            yield from _json(_content(path), name)
        else:
            kinds = ".json, .csv, .tsv, .xlsx and .parquet"
            raise RejectedError(f"unknown kind of file '{path.suffix}'; {kinds} are read")
    except UserError as error:
        raise RejectedError(str(error).removeprefix(f"{path}: ")) from error


def _table(path: Path, name: str, known: Pages, notes: list[str]) -> Entries:
    columns = table_columns(path, COLUMNS)
    rows = table_rows(path, COLUMNS, notes)
    if "WorkerId" in columns:
        yield from turk.mechanical_turk(rows, columns, name, known)
    elif "annotation_id" in columns:
        yield from label_studio(rows, name)
    else:
        simulated = path.suffix.lower() == ".parquet" and _is_simulated(path)
        yield from _generic(rows, columns, name, simulated)


def _is_simulated(path: Path) -> bool:
    """Tell whether a Parquet file notes that its participants never lived."""
    note = read_json(arrow_metadata(path).get("scoft", "{}"))
    if not isinstance(note, dict):
        raise RejectedError("its note 'scoft' is not this survey's; take it out")
    return bool(note.get("simulated"))


def _content(path: Path) -> Any:
    text = read_text(path)
    try:
        return read_json(text)
    except RejectedError as error:
        raise RejectedError(f"{error}: cut short or changed; save it anew, or ask for it again") from error


def _json(content: Any, name: str) -> Entries:
    if isinstance(content, dict) and content.get("format") == "scoft-survey":
        yield from _survey_page(content, name)
        return
    records = content if isinstance(content, list) else [content]
    form = label_studio if any(map(is_label_studio, records)) else _survey_js
    yield from form(enumerate(records, 1), name)


def _generic(rows: Rows, columns: Sequence[str], name: str, simulated: bool = False) -> Entries:
    """One row per picture: rows of one participant, page and item belong together."""
    missing = sorted(set(GENERIC) - set(columns))
    if missing:
        raise RejectedError(f"no column {', '.join(map(repr, missing))}; needed are {', '.join(GENERIC)}")
    groups: dict[tuple[str, ...], list[tuple[int, str, Row]]] = defaultdict(list)
    for number, read in rows:
        try:
            row = readable(read)
            if None in row or None in (row.get(column) for column in GENERIC[:-1]):
                raise RejectedError("the number of fields differs from the header's")
            who = participant_of(row["participant"])
            key = (who, *(as_text(row[column], column) for column in GENERIC[1:4]))
            picture = as_text(row["picture"], "picture")
            groups[key].append((number, picture, row))
        except RejectedError as error:
            yield number, str(error)
    for (participant, culture, page, item), group in groups.items():
        number, _, first = group[0]
        try:
            # The second time a picture comes begins a second answer.
            answers: list[dict[str, Any]] = []
            for _, picture, row in group:
                place = next((a for a in answers if picture not in a), None)
                if place is None:
                    answers.append(place := {})
                place[picture] = rank_of(row.get("rank"))
            years, began = years_of(first.get("years")), time_of(first.get("began"), "began")
            exported = time_of(first.get("exported"), "exported")
            # The server's own, whose later download replaces the earlier one.
            own = began and exported and "admission" in columns
            revision = revision_of(exported) if own else 0
        except RejectedError as error:
            yield number, str(error)
            continue
        for ranks in answers:
            given = {} if all(rank is None for rank in ranks.values()) else ranks
            answer = Answer(name, number, participant, culture, years, page, item, given)
            server = f"began {began}" if revision else ""
            yield number, replace(answer, simulated=simulated, began=began, key=server, revision=revision)


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
            who = (participant_of(content.get("participant")), as_text(content.get("culture"), "culture"))
            years = years_of(content.get("years"))
            page, item = (as_text(entry[key], key) for key in ("page", "item"))
            given = (entry["ranks"] or {}).items()
            ranks = {as_text(picture, "picture"): rank_of(rank) for picture, rank in given}
        except RejectedError as error:
            yield number, str(error)
            continue
        except (KeyError, TypeError, AttributeError):
            yield number, "needs page, item and ranks"
            continue
        yield number, Answer(name, number, *who, years, page, item, ranks, revision, simulated, key)


def _survey_js(responses: Any, name: str) -> Entries:
    """SurveyJS results: participant, culture and, per page and item, a ranking "page/item", best first."""
    for number, response in responses:
        if not isinstance(response, dict) or not any("/" in str(key) for key in response):
            yield number, "no known form: needs questions named 'page/item'"
            continue
        try:
            participant = participant_of(response.get("participant"))
            culture, years = culture_of(response.get("culture")), years_of(response.get("years"))
        except RejectedError as error:
            yield number, str(error)
            continue
        for question, value in response.items():
            page, slash, item = question.rpartition("/")
            if not slash:
                continue
            try:
                ranks = ranks_in_order(value or [])
                names = as_text(page, "page"), as_text(item, "item")
                yield number, Answer(name, number, participant, culture, years, *names, ranks)
            except RejectedError as error:
                yield number, f"{question[:200]}: {error}"
