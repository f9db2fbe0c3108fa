"""Answers as other programs write them, and values that no answer should hold."""

import hashlib
import io
import json
import os

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_steps.survey.answer_files import GENERIC
from pipeline_steps.survey.shown import ITEMS
from tests.survey.test_survey_import import TURK, exported, long_rows, turk_row


def good(world):
    """A sound file, of which nothing else may cost an answer."""
    world.csv("good.csv", GENERIC, long_rows(world, world.korea[0], [1, 2, 3, 4], "good"))


def others(world):
    """Participants beside the sound file's, and the reasons by file and row."""
    answers, rejected = world.read()
    people = [answer["participant"] for answer in answers]
    assert people.count("good") == 1
    return [person for person in people if person != "good"], rejected


# --- rejected work ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status, reject, reason",
    [
        ("Approved", "", None), ("Submitted", "", None), ("", "", None), (" approved ", " ", None),
        ("Rejected", "", "rejected work (AssignmentStatus: 'Rejected')"),
        ("REJECTED", "", "rejected work (AssignmentStatus: 'REJECTED')"),
        ("Returned", "", "rejected work (AssignmentStatus: 'Returned')"),
        ("Submitted", "x", "rejected work (Reject: 'x')"),
        ("Approved", "all ranks alike", "rejected work (Reject: 'all ranks alike')"),
    ],
)  # fmt: skip
def test_rejected_work_is_listed_and_not_counted(world, status, reject, reason):
    good(world)
    row = turk_row(world, world.korea[1], [[1, 2, 3, 4]] * 4, worker="w")
    world.csv("t.csv", [*TURK, "AssignmentStatus", "Approve", "Reject"], [[*row, status, "", reject]])
    people, rejected = others(world)
    assert people == ([] if reason else ["w"] * 4)
    assert rejected == ([("t.csv", 2, reason)] if reason else [])


# --- other people's forms ---------------------------------------------------------------------

FORMS = {
    "a.csv": (";", "utf-8", ""), "b.CSV": (",", "utf-8-sig", ""), "c.tsv": ("\t", "utf-16", ""),
    "d.csv": ("\t", "utf-8", ""), "e.csv": (",", "utf-8", "sep=,\r\n"), "f.csv": (";", "cp1252", "sep=;\n"),
    "g.xlsx": None, "h.csv": (";", "utf-16", "sep=;\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_tables_as_spreadsheets_write_them(world, name, caplog):
    columns = [column.title() for column in GENERIC]
    rows = long_rows(world, world.korea[0], [2, 1, 4, 3], "André")
    if name.endswith("xlsx"):
        book = openpyxl.Workbook()
        for cells in ([], columns, *rows):
            book.active.append(cells)
        book.save(world.folder / name)
    else:
        mark, encoding, head = FORMS[name]
        lines = "".join(mark.join(map(str, row)) + "\r\n" for row in [columns, *rows])
        (world.folder / name).write_bytes((head + lines).encode(encoding))
    with caplog.at_level("INFO"):
        answers, rejected = world.read()
    assert [(a["participant"], a["ranks"]) for a in answers] == [("André", [2, 1, 4, 3])]
    assert rejected == []
    assert ("read as Windows-1252" in caplog.text) == (name == "f.csv")


def test_a_quote_that_does_not_end_costs_its_file_alone_and_is_named_by_its_line(world):
    good(world)
    rows = [",".join(map(str, row)) for row in long_rows(world, world.korea[0], [2, 1, 4, 3], "p")]
    rows[1] = f'"{rows[1]}'
    (world.folder / "a.csv").write_text("\n".join([",".join(GENERIC), *rows]))
    people, rejected = others(world)
    said = "line 3: a text begins with a quote and does not end with one; close it, and write a quote inside"
    assert people == [] and rejected == [("a.csv", 0, f"{said} it twice")]


def test_mechanical_turk_from_a_spreadsheet(world):
    book = openpyxl.Workbook()
    book.active.append(TURK)
    book.active.append(turk_row(world, world.korea[0], [[1, 2, 3, 4]] * 4))
    book.save(world.folder / "t.xlsx")
    answers, rejected = world.read()
    assert [a["ranks"] for a in answers] == [[1, 2, 3, 4]] * 4
    assert rejected == []


def annotation(pictures, by):
    result = [
        {"from_name": item, "to_name": "list", "type": "ranker", "value": {"ranker": {"_": pictures}}}
        for item in ITEMS
    ]
    return {"id": 5, "completed_by": by, "was_cancelled": False, "result": result}


@pytest.mark.parametrize("form", ["task", "annotation", "min", "min object", "csv"])
def test_label_studio_in_its_other_forms(world, form):
    page = world.korea[0]
    pictures = world.pages[page]["pictures"]
    flat = {"page": page, "id": 7, "annotator": 3, "annotation_id": 5, "created_at": "2026-01-02"}
    flat |= {item: [{"ranker": {"_": pictures}}] for item in ITEMS}
    content = {
        "task": {"id": 7, "data": {"page": page}, "annotations": [annotation(pictures, 3)]},
        "annotation": annotation(pictures, {"id": 3, "email": "a@b.org"})
        | {"task": {"data": {"page": page}}},
        "min": [flat],
        "min object": flat,
    }
    if form == "csv":
        cells = {
            key: value if isinstance(value, str | int) else json.dumps(value) for key, value in flat.items()
        }
        world.csv("l.csv", list(cells), [list(cells.values())])
    else:
        world.json("l.json", content[form])
    answers, rejected = world.read()
    assert [(a["participant"], a["item"], a["ranks"]) for a in answers] == [
        ("3", item, [1, 2, 3, 4]) for item in sorted(ITEMS)
    ]
    assert rejected == []


ANN = {"email": "ann@example.org"}


@pytest.mark.parametrize("by", ["Ann@Example.org", ANN, ANN | {"id": None}])
def test_an_e_mail_is_never_stored(world, by):
    page = world.korea[0]
    pictures = world.pages[page]["pictures"]
    task = {"data": {"page": page}, "annotations": [annotation(pictures, by), annotation(pictures[:2], by)]}
    world.json("l.json", [task])
    answers, rejected = world.read()
    pseudonym = f"person-{hashlib.sha256(b'ann@example.org').hexdigest()[:16]}"
    assert {a["participant"] for a in answers} == {pseudonym}
    assert len(rejected) == 4
    for table in (world.result, world.rejected):
        assert b"example" not in table.read_bytes().lower()


# --- values that no answer should hold --------------------------------------------------------

HALF, LONG = "\ud83d", "9" * 5000
VALUES = {
    "half a character": (HALF, "holds half a character"),
    "a number without an end": (int("9" * 300), "is no text (1e+300)"),
    "a list": (["a"], "is no text (['a'])"),
    "an object": ({"a": 1}, "is no text ({'a': 1})"),
    "yes or no": (True, "is no text (True)"),
    "nothing to see": ("\u200b", "is missing"),
}


@pytest.mark.parametrize("column", ["participant", "culture", "page", "item"])
@pytest.mark.parametrize("case", VALUES)
def test_a_foreign_value_in_the_pages_own_file_costs_one_answer(world, column, case):
    value, reason = VALUES[case]
    good(world)
    content = exported(world, world.korea[1], [1, 2, 3, 4])
    (content if column in content else content["answers"][0])[column] = value
    world.json("odd.json", content)
    people, ((file, row, said),) = others(world)
    assert (people, file, row) == ([], "odd.json", 1)
    assert said.startswith(f"{column} {reason}")


@pytest.mark.parametrize("rank", [HALF, ["1"], {"1": 1}, True, 1e300, "1" * 5000, "inf", "nan"])
def test_a_foreign_rank_costs_one_answer(world, rank):
    good(world)
    content = exported(world, world.korea[1], [1, 2, 3, 4])
    content["answers"][0]["ranks"][world.pages[world.korea[1]]["pictures"][0]] = rank
    world.json("odd.json", content)
    people, ((file, row, said),) = others(world)
    assert (people, file, row) == ([], "odd.json", 1)
    assert said.endswith("is no rank")
    assert len(said) < 100


def test_whole_numbers_of_thousands_of_digits_in_json(world):
    good(world)
    for number, key in enumerate(("participant", "years", "exported", "page", "rank")):
        content = exported(world, world.korea[1], [1, 2, 3, 4], participant=f"p{number}")
        text = json.dumps(content)
        old = {
            "participant": f'"p{number}"', "years": "9,", "exported": '"exported": 1',
            "page": f'"{world.korea[1]}"', "rank": ": 4}",
        }[key]  # fmt: skip
        new = {"exported": f'"exported": {LONG}', "years": f"{LONG},", "rank": f": {LONG}}}"}.get(key, LONG)
        assert old in text
        (world.folder / f"{key}.json").write_text(text.replace(old, new))
    people, rejected = others(world)
    assert people == ["p2"]
    files = [f"{key}.json" for key in ("page", "participant", "rank", "years")]
    assert [row[:2] for row in rejected] == [(file, 1) for file in files]


@pytest.mark.parametrize("column", GENERIC)
@pytest.mark.parametrize("kind", ["list", "struct", "binary", "bad text", "date"])
def test_a_column_of_a_foreign_type_costs_its_rows(world, column, kind):
    good(world)
    rows = long_rows(world, world.korea[1], [1, 2, 3, 4])
    columns = {name: [row[place] for row in rows] for place, name in enumerate(GENERIC)}
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in range(5)))
    columns[column] = {
        "list": pa.array([["a"]] * 4),
        "struct": pa.array([{"a": 1}] * 4),
        "binary": pa.array([b"\xff"] * 4),
        "bad text": pa.Array.from_buffers(pa.string(), 4, [None, offsets, pa.py_buffer(b"\xff\xfe\xff\xfe")]),
        "date": pa.array([10**15] * 4, pa.timestamp("s")),
    }[kind]
    pq.write_table(pa.table(columns), world.folder / "odd.parquet")
    people, rejected = others(world)
    assert people == []
    assert {row[0] for row in rejected} == {"odd.parquet"}
    assert min(row[1] for row in rejected) == 1


NOTES = [b"7", b"[]", b"\xff\xfe", b"[" * 9999, b'{"simulated": ' + LONG.encode() + b"}"]


@pytest.mark.parametrize("note", NOTES)
def test_a_foreign_note_costs_its_file_at_most(world, note):
    good(world)
    rows = [dict(zip(GENERIC, row, strict=True)) for row in long_rows(world, world.korea[1], [1, 2, 3, 4])]
    table = pa.Table.from_pylist(rows).replace_schema_metadata({b"scoft": note, b"\xff": b"\xff"})
    pq.write_table(table, world.folder / "odd.parquet")
    if note.startswith(b'{"simulated'):
        (world.folder / "good.csv").unlink()
        assert len(world.read()[0]) == 1
    else:
        people, ((file, row, _),) = others(world)
        assert (people, file, row) == ([], "odd.parquet", 0)


def test_a_file_name_that_is_no_text(world):
    good(world)
    name = os.fsdecode(b"caf\xe9.csv")
    world.csv(name, GENERIC, long_rows(world, world.korea[1], [1, 2, 3, 4]))
    world.csv(name + ".txt", GENERIC, [])
    world.csv(os.fsdecode(b"x.\xff"), GENERIC, [])
    people, rejected = others(world)
    assert people == ["p1"]
    assert [row[0] for row in rejected] == ["caf?.csv.txt", "x.?"]


TASK = {"data": {"page": "p"}}
SHAPES = [
    *(7, "a", None, [[]], [7], {"a/b": 7}, [{"annotations": 7}], [{"annotations": [7]} | TASK]),
    {"annotation_id": 1, "page": ["p"]},
    {"result": 7, "task": TASK, "completed_by": 1},
    {"result": [{"type": "ranker", "from_name": ["a"], "value": {"ranker": []}}], "task": TASK},
    {"participant": "p", "a/b": [{"a": 1}, ["b"]]},
    {"participant": HALF, f"{HALF}/{HALF}": [HALF]},
    {"format": "scoft-survey", "version": 1, "answers": [7, None, {"page": 1, "item": 2, "ranks": 3}]},
]


@pytest.mark.parametrize("content", SHAPES, ids=str)
def test_json_of_any_shape_costs_itself(world, content):
    good(world)
    world.json("odd.json", content)
    people, rejected = others(world)
    assert people == []
    assert rejected and {row[0] for row in rejected} == {"odd.json"}


def test_a_csv_cell_of_any_size_costs_its_row(world):
    good(world)
    text = io.StringIO()
    text.write(",".join(GENERIC) + "\n")
    for place in range(len(GENERIC)):
        row = [str(cell) for cell in long_rows(world, world.korea[1], [1, 2, 3, 4])[0]]
        row[place] = LONG
        text.write(",".join(row) + "\n")
    (world.folder / "odd.csv").write_text(text.getvalue())
    people, rejected = others(world)
    assert people == []
    assert all(len(said) < 300 for _, _, said in rejected)
    assert {row[1] for row in rejected} == {2, 3, 4, 5, 6, 7}
