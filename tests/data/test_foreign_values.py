"""Values that no table of pictures should hold: each costs its own row."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.corpus import PNG, drawn, encoded, run

GOOD = {"image": {"bytes": PNG, "path": "a.png"}, "text": "a gate, in wales"}
FOREIGN = {
    "bytes is a number": ({"image": {"bytes": 7, "path": "b.png"}}, "holds no picture's bytes but 7"),
    "path is a number": ({"image": {"bytes": PNG, "path": 7}}, "has a path that is no text (7); mend it"),
    "file_name is a list": ({"file_name": ["b.png"]}, "has a file_name that is no text (['b.png']); mend it"),
    "picture is a number": ({"image": 7}, "holds no picture's bytes but 7; mend it"),
    "picture is a list": ({"image": [PNG]}, "holds no picture's bytes but [b"),
    "no picture": ({"image": None}, "holds no picture; add it"),
    "a path out of the folder": ({"image": "../b.png"}, "names '../b.png': lies outside the folder"),
    "caption is a list of numbers": ({"text": [1]}, "its caption is not text; write a sentence"),
    "caption is a struct": ({"text": {"en": "a"}}, "its caption is not text; write a sentence"),
    "split is a list": ({"split": ["train"]}, "its split is '['train']'; write train or test"),
    "consent is a list": ({"consent": ["yes"]}, """its consent is '["yes"]', no clear yes"""),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_value_costs_its_own_row(tmp_path, case):
    columns, line = FOREIGN[case]
    folder = tmp_path / "culture"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist([GOOD]), folder / "a.parquet")
    pq.write_table(pa.Table.from_pylist([GOOD | columns]), folder / "b.parquet")
    rows, lines = run(folder, tmp_path)
    assert sorted(rows) == ["a"]
    assert any(line in found and found.startswith(("b_000000", "b_000000/a.png")) for found in lines), lines


def test_text_that_is_none_and_a_date_beyond_the_calendar_cost_their_rows(tmp_path):
    folder = tmp_path / "culture"
    folder.mkdir()
    pictures = pa.array([{"bytes": encoded(drawn(n)), "path": f"{n}.png"} for n in range(3)])
    offsets = pa.py_buffer(np.array([0, 1, 2, 3], np.int32).tobytes())
    text = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"a\xffb")])
    pq.write_table(pa.table({"image": pictures, "text": text}), folder / "t.parquet")
    rows, lines = run(folder, tmp_path, duplicate_difference=0)
    assert sorted(rows) == ["0", "2"]
    assert any(line.startswith("t_000001: t.parquet row 2 cannot be read (") for line in lines), lines
    days = pa.array([0, 10**15, 0], pa.timestamp("s"))
    pq.write_table(pa.table({"image": pictures, "text": ["a", "b", "c"], "d": days}), folder / "t.parquet")
    assert sorted(run(folder, tmp_path)[0]) == ["0", "2"]


def test_numbers_without_an_end_and_long_names_stop_nothing(corpus, tmp_path):
    corpus.add("odd.png", PNG, split="train")
    corpus.rows[-1] = json.dumps(corpus.rows[-1])[:-1] + f', "likes": {"9" * 5000}}}'
    corpus.rows.append({"file_name": "x" * 5000 + ".png", "text": "x"})
    corpus.rows.append({"file_name": ["a"], "text": "x"})
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert "odd" in rows
    assert len(lines) == 2


def test_an_arrow_file_that_lies_about_lengths_costs_its_rows(tmp_path):
    """Arrow trusts them, and would read foreign memory."""
    folder = tmp_path / "culture"
    folder.mkdir()
    pictures = [{"bytes": encoded(drawn(n)), "path": f"{n}.png"} for n in range(2)]
    table = pa.table({"image": pictures, "text": ["x" * 7, "y" * 9]})
    path = folder / "data-0.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    true, false = (np.array([0, 7, end], np.int32).tobytes() for end in (16, 2**30))
    assert path.read_bytes().count(true) == 1
    path.write_bytes(path.read_bytes().replace(true, false))
    rows, lines = run(folder, tmp_path)
    assert sorted(rows) == ["0"]
    assert any(line.startswith("data-0_000001: data-0.arrow row 2 cannot be read (") for line in lines)
