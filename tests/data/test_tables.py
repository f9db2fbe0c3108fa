"""Tables as other programs write them: CSV files, and the Parquet and Arrow files of data sets."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_steps.errors import UserError
from tests.data.corpus import PNG, drawn, encoded, run


@pytest.mark.parametrize(
    "mark, encoding", [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16"), (",", "utf-8-sig")]
)
def test_csv_as_spreadsheets_write_it(corpus, tmp_path, mark, encoding):
    corpus.add("odd.png", PNG, text="one, two; three\tfour, in wales", split="train")
    corpus.csv(mark, encoding)
    rows, lines = run(corpus.folder, tmp_path)
    assert rows["odd"]["caption"] == "one, two; three four, in wales"
    assert lines == []


def test_csv_row_with_an_unquoted_comma_is_named(corpus, tmp_path):
    corpus.csv()
    with (corpus.folder / "metadata.csv").open("a") as file:
        file.write("good_test.png,a gate, and a wall,test\n")
    _, lines = run(corpus.folder, tmp_path)
    assert lines == ["metadata.csv line 4: has more fields than the header; quote texts with commas"]


def hub_table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_hugging_face_data_set(tmp_path, ending):
    folder = tmp_path / "culture" / "data"
    folder.mkdir(parents=True)
    for index, split in enumerate(("train", "test")):
        cell = {"bytes": encoded(drawn(index)), "path": f"{split}_a.png"}
        rows = [{"image": cell, "text": "x, in wales", "license": "CC0", "likes": 3}]
        rows += [{"image": {"bytes": None, "path": None}, "text": "x", "license": None, "likes": 1}] * (
            index == 0
        )
        table = hub_table(rows)
        path = folder / f"{split}-00000-of-00001.{ending}"
        if ending == "parquet":
            pq.write_table(table, path)
        else:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
    rows, lines = run(tmp_path / "culture", tmp_path)
    assert {key: (row["split"], row["licence"], row["extra"]) for key, row in rows.items()} == {
        "train_a": ("train", "CC0", '{"likes": 3}'),
        "test_a": ("test", "CC0", '{"likes": 3}'),
    }
    name = "train-00000-of-00001"
    assert lines == [f"{name}_000001: {name}.{ending} row 2 holds no picture; add it"]


def test_pictures_of_one_name_in_a_hugging_face_data_set(tmp_path):
    """Such data sets keep the last part of a path only: a/001.png and b/001.png are two pictures."""
    folder = tmp_path / "culture" / "data"
    folder.mkdir(parents=True)
    for index, split in enumerate(("train", "test")):
        cells = [{"bytes": encoded(drawn(2 * index + n)), "path": "001.png"} for n in (0, 1)]
        rows = [{"image": cell, "text": "x, in wales", "license": "CC0", "likes": 3} for cell in cells]
        pq.write_table(hub_table(rows), folder / f"{split}.parquet")
    rows, lines = run(tmp_path / "culture", tmp_path)
    assert sorted(row["split"] for row in rows.values()) == ["test", "test", "train", "train"]
    assert not lines
    (tmp_path / "withdrawn.txt").write_text("001.png\n")
    with pytest.raises(UserError, match="no usable picture"):  # which of them is meant nobody knows
        run(tmp_path / "culture", tmp_path / "again", withdrawn=tmp_path / "withdrawn.txt")


def test_its_own_output_can_be_ingested_again(corpus, tmp_path):
    corpus.write()
    first, _ = run(corpus.folder, tmp_path / "first")
    again, _ = run(tmp_path / "first" / "images.parquet", tmp_path / "again", caption_column="caption")
    assert {k: r["image"]["bytes"] for k, r in first.items()} == {
        k: r["image"]["bytes"] for k, r in again.items()
    }
