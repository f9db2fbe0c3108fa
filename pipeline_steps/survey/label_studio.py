"""Answers in Label Studio's exports: JSON, JSON-MIN, CSV, one task or one annotation a file."""

from collections.abc import Iterator
from typing import Any

from pipeline_steps.errors import first_line
from pipeline_steps.inputs.values import RejectedError, as_text, read_json
from pipeline_steps.survey.answers import Answer, Entries, culture_of, participant_of, ranks_in_order
from pipeline_steps.survey.shown import ITEMS

MIN = ("annotation_id", "annotator")
"""Fields of JSON-MIN and CSV: a flat record for each annotation."""


def is_label_studio(record: Any) -> bool:
    """Tell a task, an annotation that names its task, or a flat record from other people's JSON."""
    return isinstance(record, dict) and (
        "annotations" in record or {"result", "task"} <= record.keys() or "annotation_id" in record
    )


def label_studio(records: Iterator[tuple[int, Any]], name: str) -> Entries:
    """Yield the answers of each record: a page (data.page), and a Ranker named after each item."""
    for number, record in records:
        try:
            if isinstance(record, RejectedError):
                raise record
            data, annotations = _parts(record)
            page, culture = as_text(data["page"], "data.page"), culture_of(data.get("culture"))
        except RejectedError as error:
            yield number, str(error)
            continue
        except (KeyError, TypeError, AttributeError):
            yield number, "needs data.page and annotations"
            continue
        for annotation in annotations:
            try:
                if annotation.get("was_cancelled"):
                    continue
                participant = _participant(annotation["completed_by"])
                results = dict(_results(annotation["result"]))
                for item in sorted({*ITEMS, *results}):
                    ranks = ranks_in_order(results.get(item, []))
                    yield number, Answer(name, number, participant, culture, None, page, item, ranks)
            except RejectedError as error:
                yield number, str(error)
            except (KeyError, TypeError, AttributeError) as error:
                yield number, f"not a Label Studio ranking ({type(error).__name__}: {first_line(error)})"


def _parts(record: Any) -> tuple[Any, list[Any]]:
    """Return a record's data and annotations."""
    if "annotations" in record:
        return record["data"], list(record["annotations"])
    if "result" in record:
        return record["task"]["data"], [record]
    flat = [
        {"from_name": item, "type": "ranker", "value": _flat(record[item])}
        for item in ITEMS
        if record.get(item) not in (None, "")
    ]
    return record, [{"completed_by": record.get("annotator"), "result": flat}]


def _flat(value: Any) -> dict[str, Any]:
    """Return a Ranker's value as the full export has it; CSV has it as JSON in a cell."""
    value = read_json(value) if isinstance(value, str) else value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    return value if isinstance(value, dict) and "ranker" in value else {"ranker": value}


def _results(result: Any) -> Iterator[tuple[str, Any]]:
    for one in result:
        if one["type"] == "ranker":
            yield as_text(one["from_name"], "from_name"), one["value"]["ranker"]


def _participant(by: Any) -> str:
    """Return who annotated: by number, or by a piece of the address' hash."""
    if isinstance(by, dict):
        by = by.get("email") if by.get("id") is None else by["id"]
    return participant_of(by, "completed_by")
