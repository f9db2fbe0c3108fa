"""Tables as other programs write them: CSV files, and the Parquet and Arrow files of data sets."""

import csv
import io
import json
import re
import zipfile
from datetime import date
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_steps.config import Culture
from pipeline_steps.data.folder import state
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


@pytest.mark.parametrize(
    "rows",
    [
        'good_train.png,"a gate\ngood_test.png,a wall\n',
        'good_train.png,"a gate\ngood_test.png,"a wall, in wales"\n',
        'good_train.png,"a gate" and a wall\ngood_test.png,a wall\n',
        'good_train.png,"a "gate" and a wall"\ngood_test.png,a wall\n',
        'good_train.png,"a wall\n\n\n',
    ],
)
def test_a_quote_that_does_not_end_is_named_by_its_line(corpus, tmp_path, rows):
    """Else the rows below it become part of the caption, and the next quote ends it."""
    corpus.add("odd.png", PNG, row=False)
    head = 'file_name,text\nodd.png,"an arch,\nin wales"\n\n'
    (corpus.folder / "metadata.csv").write_text(head + rows)
    with pytest.raises(
        UserError, match=r"metadata\.csv: line 5: a text begins with a quote and does not end"
    ):
        run(corpus.folder, tmp_path)


def test_captions_in_quotes_may_hold_lines_and_follow_a_space(corpus, tmp_path):
    (corpus.folder / "metadata.csv").write_text(
        'file_name,text,split\ngood_train.png, "a ""big"" gate,\r\n in wales", train\n'
        'good_test.png,the "big" wall,test\nodd.png,"an arch,\nin wales","test",1\n'
    )
    rows, lines = run(corpus.folder, tmp_path)
    captions = {key: (row["caption"], row["split"]) for key, row in rows.items()}
    assert captions["good_train"] == ('a "big" gate, in wales', "train")
    assert captions["good_test"] == ('the "big" wall', "test")
    assert "metadata.csv line 5: has more fields than the header; quote texts with commas" in lines


@pytest.mark.parametrize("form", ["csv", "xlsx", "jsonl", "parquet"])
@pytest.mark.parametrize("second", ["consent", "Consent"])
def test_a_column_that_is_there_twice_is_refused(corpus, tmp_path, form, second):
    """Of two answers only one would count."""
    names, cells = ["file_name", "text", "consent", second], ["good_train.png", "a gate", "no", ""]
    path = corpus.folder / f"metadata.{form}"
    if form == "xlsx":
        book = openpyxl.Workbook()
        book.active.append(names)
        book.active.append(cells)
        book.save(path)
    elif form == "parquet":
        pq.write_table(pa.Table.from_arrays([pa.array([cell]) for cell in cells], names), path)
    elif form == "jsonl":
        path.write_text(json.dumps(dict(zip(names, cells, strict=True)) | {"CONSENT": ""}))
    else:
        path.write_text(f"{','.join(names)}\n{','.join(cells)}\n")
    with pytest.raises(UserError, match=rf"metadata\.{form}.*: 'consent' and '\w+' are one column twice; d"):
        run(corpus.folder, tmp_path)


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


# --- tables as other people write them --------------------------------------------------------


def table(rows: list[dict], path: Path, form: str) -> None:
    """Write rows in one of the forms that people hand in."""
    names = list(rows[0])
    if form == "xlsx":
        book = openpyxl.Workbook()
        for cells in (names, *(list(row.values()) for row in rows)):
            book.active.append(cells)
        book.save(path)
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        mark, encoding, head = {
            "sep=": (";", "utf-8", "sep=;\r\n"), "tab": ("\t", "utf-16", ""), "ansi": (";", "cp1252", "")
        }[form]  # fmt: skip
        text = io.StringIO()
        lines = csv.DictWriter(text, names, delimiter=mark)
        lines.writeheader()
        lines.writerows(rows)
        path.write_bytes((head + text.getvalue()).encode(encoding))


FORMS = {
    "xlsx": "metadata.xlsx", "parquet": "metadata.parquet", "sep=": "metadata.csv", "tab": "Metadata.TSV",
    "ansi": "METADATA.CSV", "jsonl": "MetaData.JSONL",
}  # fmt: skip


@pytest.mark.parametrize("where", ["", "train", "inner/deep"])
@pytest.mark.parametrize("form", FORMS)
def test_metadata_in_every_form_place_and_case(tmp_path, form, where):
    folder = tmp_path / "culture" / where
    folder.mkdir(parents=True)
    (folder / "a.PNG").write_bytes(PNG)
    rows = [{"File_Name": "A.png", "TEXT": "a café — at night, in wales", "Likes": 3, "Consent": "yes"}]
    table(rows, folder / FORMS[form], form)
    found, lines = run(tmp_path / "culture", tmp_path)
    (row,) = found.values()
    assert (row["caption"], row["consent"]) == ("a café — at night, in wales", "yes")
    assert json.loads(row["extra"]) == {"Likes": 3 if form in ("parquet", "jsonl") else "3"}
    said = "is not UTF-8; read as Windows-1252: save it as UTF-8 if letters are wrong"
    place = f"{where}/{FORMS[form]}".lstrip("/")
    assert [line for line in lines if "held out" not in line] == [f"{place}: {said}"] * (form == "ansi")


def test_further_sheets_and_formulas_of_a_workbook(tmp_path):
    folder = tmp_path / "culture"
    folder.mkdir()
    (folder / "7.png").write_bytes(PNG)
    book = openpyxl.Workbook()
    head, row = ["file_name", "text", "seen", None], ["7.png", "a gate, in wales", date(2026, 1, 2)]
    for cells in ([], head, [], row):
        book.active.append(cells)
    book.create_sheet("notes")
    book.save(folder / "metadata.xlsx")
    rows, lines = run(folder, tmp_path)
    assert json.loads(rows["7"]["extra"]) == {"seen": "2026-01-02"}
    assert "metadata.xlsx: has 2 sheets; the first, 'Sheet', is read" in lines


@pytest.mark.parametrize("damage", ["not a workbook", "cut", "bomb"])
def test_workbook_that_cannot_be_read_is_refused(tmp_path, damage):
    folder = tmp_path / "culture"
    folder.mkdir()
    path = folder / "metadata.xlsx"
    table([{"file_name": "a.png", "text": "x"}], path, "xlsx")
    if damage == "bomb":
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("x", "w") as part:
            for _ in range(600):
                part.write(bytes(1_000_000))
    else:
        path.write_bytes(b"file_name" if damage == "not a workbook" else path.read_bytes()[:900])
    line = "unpacks to 600 MB; save it as CSV" if damage == "bomb" else "cannot be read as Excel ("
    with pytest.raises(UserError, match=re.escape(f"metadata.xlsx: {line}")):
        run(folder, tmp_path)


def test_what_img2dataset_leaves_beside_pictures(tmp_path):
    folder = tmp_path / "culture"
    (folder / "00000").mkdir(parents=True)
    for number in range(2):
        (folder / f"00000/{number:09d}.jpg").write_bytes(encoded(drawn(number), "JPEG"))
        (folder / f"00000/{number:09d}.txt").write_text("a gate, in wales")
        (folder / f"00000/{number:09d}.json").write_text('{"url": "https://x.org/a.jpg"}')
    listing = pa.table({"url": ["a"], "caption": ["b"], "status": ["success"]})
    pq.write_table(listing, folder / "00000.parquet")
    (folder / "00000_stats.json").write_text("{}")
    rows, lines = run(folder, tmp_path)
    assert sorted(rows) == ["000000000", "000000001"]
    assert lines == [
        "00000.parquet: has no column 'image' (there are: url, caption, status); not read",
    ]


def test_img2dataset_parquet(tmp_path):
    folder = tmp_path / "culture"
    folder.mkdir()
    rows = [{"jpg": encoded(drawn(n), "JPEG"), "caption": "a gate", "key": str(n)} for n in range(2)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
    assert len(run(folder, tmp_path, caption_column="caption")[0]) == 2


@pytest.mark.parametrize("file_form", [False, True])
def test_a_data_set_saved_to_disk(tmp_path, file_form):
    """What datasets' save_to_disk writes, with a cache of the library beside it."""
    folder = tmp_path / "culture"
    for index, split in enumerate(("train", "test")):
        (folder / split).mkdir(parents=True)
        cell = {"bytes": encoded(drawn(index)), "path": None}
        rows = pa.Table.from_pylist([{"image": cell, "text": "a gate, in wales"}])
        for name in ("data-00000-of-00001.arrow", "cache-123.arrow"):
            write = pa.ipc.new_file if file_form else pa.ipc.new_stream
            with pa.OSFile(str(folder / split / name), "wb") as file, write(file, rows.schema) as stream:
                stream.write_table(rows)
        for name in ("state.json", "dataset_info.json"):
            (folder / split / name).write_text("{}")
    (folder / "dataset_dict.json").write_text("{}")
    rows, lines = run(folder, tmp_path)
    assert sorted(row["split"] for row in rows.values()) == ["test", "train"]
    said = "is a cache of the datasets library; not read"
    assert lines == [f"{split}/cache-123.arrow: {said}" for split in ("test", "train")]


@pytest.mark.parametrize(
    "name, said",
    [
        ("captions.csv", "captions.csv is not read: call it metadata"),
        ("labels.json", "labels.json is not read: save it as metadata.csv"),
        ("00000.tar", "00000.tar is an archive: unpack it"),
    ],
)
def test_what_was_seen_and_not_taken_is_said(tmp_path, name, said):
    folder = tmp_path / "culture"
    folder.mkdir()
    (folder / name).write_text("x")
    with pytest.raises(UserError, match=said):
        run(folder, tmp_path)
    (folder / "a.png").write_bytes(PNG)
    with pytest.raises(UserError, match=said):
        run(folder, tmp_path)


def test_metadata_further_inside_is_not_read_beside_the_first(corpus, tmp_path):
    corpus.add("old/a.png", PNG, row=False)
    corpus.write()
    (corpus.folder / "old/metadata.csv").write_text("file_name,text\na.png,x\n")
    _, lines = run(corpus.folder, tmp_path)
    assert "old/metadata.csv: is not read beside metadata.jsonl; move its rows there" in lines


@pytest.mark.parametrize("kind", ["metadata.csv", "Metadata.CSV", "metadata.xlsx"])
def test_the_metadata_file_itself_may_be_named(corpus, tmp_path, kind):
    table(corpus.rows, corpus.folder / kind, "xlsx" if kind.endswith("xlsx") else "ansi")
    assert len(run(corpus.folder / kind, tmp_path)[0]) == 2
    before = state(corpus.folder / kind)
    (corpus.folder / "good_train.png").write_bytes(PNG)
    assert state(corpus.folder / kind) != before


def test_which_csv_is_a_table_of_links():
    for images, links in (("links.csv", True), ("data/wales/metadata.csv", False), ("x/Metadata.CSV", False)):
        assert Culture(suffix=", in Wales", images=Path(images)).has_links is links
    assert Culture(suffix=", in Wales", images=Path("l.CSV"), country="KR").country == "KR"
    with pytest.raises(ValueError, match="only a table of links"):
        Culture(suffix=", in Wales", images=Path("data/metadata.csv"), country="KR")
