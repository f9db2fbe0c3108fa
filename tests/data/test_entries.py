"""One odd row, name or folder, and the line it earns."""

import os
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_steps.errors import UserError
from tests.data.corpus import PNG, drawn, encoded, run

ROWS_LEFT_OUT = {
    "no such file": (
        {"file_name": "gone.png", "text": "x"},
        "gone.png: no such file; add it or delete its row",
    ),
    "parent": (
        {"file_name": "../secret.png", "text": "x"},
        "../secret.png: lies outside the folder; copy it",
    ),
    "absolute": (
        {"file_name": "/etc/passwd", "text": "x"},
        "/etc/passwd: is an absolute path; write it relative",
    ),
    "drive": ({"file_name": "C:\\p.png", "text": "x"}, "C:/p.png: is an absolute path; write it relative"),
    "link": ({"file_name": "https://x.org/a.jpg", "text": "x"}, "https://x.org/a.jpg: is a link, not a file"),
    "a folder": ({"file_name": "inner", "text": "x"}, "inner: is no file; delete its row"),
    "control character": (
        {"file_name": "a\nb.png", "text": "x"},
        "a b.png: its name holds control characters; rename",
    ),
    "null character": (
        {"file_name": "a\0b.png", "text": "x"},
        "a b.png: its name holds control characters; rename",
    ),
    "lone surrogate": ({"file_name": "\ud800.png", "text": "x"}, "?.png: no such file"),
    "no file name": (
        {"file_name": None, "text": "x"},
        "metadata.jsonl line 3: has no file_name; write it or delete",
    ),
    "empty file name": (
        {"file_name": "  ", "text": "x"},
        "metadata.jsonl line 3: has no file_name; write it",
    ),
    "no caption": ({"file_name": "odd.png"}, "odd.png: has no caption; write one"),
    "empty caption": ({"file_name": "odd.png", "text": " \t\n"}, "odd.png: has no caption; write one"),
    "null caption": ({"file_name": "odd.png", "text": None}, "odd.png: has no caption; write one"),
    "number as caption": (
        {"file_name": "odd.png", "text": 7},
        "odd.png: its caption is not text; write a sentence",
    ),
    "NaN as caption": ('{"file_name": "odd.png", "text": NaN}', "odd.png: has no caption; write one"),
    "unknown split": (
        {"file_name": "odd.png", "text": "x", "split": "both"},
        "odd.png: its split is 'both'; write train or test",
    ),
    "half a character as split": (
        {"file_name": "odd.png", "text": "x", "split": "tr\ud800ain"},
        "odd.png: its split is 'tr?ain'; write train or test",
    ),
}


@pytest.mark.parametrize("case", ROWS_LEFT_OUT)
def test_row_is_left_out_and_named(corpus, tmp_path, case):
    row, line = ROWS_LEFT_OUT[case]
    (corpus.folder / "inner").mkdir()
    corpus.add("odd.png", PNG, row=False)
    (tmp_path / "secret.png").write_bytes(encoded(drawn(9)))
    corpus.rows.append(row)
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert sorted(rows) == ["good_test", "good_train"]
    assert [found for found in lines if found.startswith(line)], lines


def test_link_out_of_the_folder_is_left_out(corpus, tmp_path):
    (tmp_path / "outside.png").write_bytes(PNG)
    (corpus.folder / "odd.png").symlink_to(tmp_path / "outside.png")
    corpus.add("odd.png", None)
    corpus.write()
    _, lines = run(corpus.folder, tmp_path)
    where = "(metadata.jsonl line 3)"
    assert lines == [
        f"odd.png: is a link that leads out of the folder; copy the picture into the folder {where}"
    ]


def test_pipe_is_never_opened(corpus, tmp_path):
    os.mkfifo(corpus.folder / "odd.png")
    corpus.add("odd.png", None)
    corpus.write()
    _, lines = run(corpus.folder, tmp_path)
    assert lines == ["odd.png: is no file; delete its row (metadata.jsonl line 3)"]


def test_folder_may_itself_be_a_link(corpus, tmp_path):
    corpus.write()
    (tmp_path / "alias").symlink_to(corpus.folder)
    assert len(run(tmp_path / "alias", tmp_path)[0]) == 2


@pytest.mark.parametrize("written, stored", [("NFC", "NFD"), ("NFD", "NFC")])
def test_unicode_form_of_a_name_does_not_matter(corpus, tmp_path, written, stored):
    corpus.add(unicodedata.normalize(stored, "한복.png"), PNG, row=False)
    corpus.add(unicodedata.normalize(written, "한복.png"), None, split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert "한복" in rows
    assert lines == []


@pytest.mark.parametrize("written", ["ODD.PNG", "./odd.png", "inner/../odd.png", ".\\odd.png"])
def test_other_spellings_of_a_name(corpus, tmp_path, written):
    corpus.add("odd.png", PNG, row=False)
    corpus.add(written, None, split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert len(rows) == 3
    assert lines == []


def test_picture_without_a_row_is_named(corpus, tmp_path):
    corpus.add("odd.png", PNG, row=False)
    corpus.write()
    _, lines = run(corpus.folder, tmp_path)
    assert lines == ["odd.png: no row in the metadata names it; add one with its caption"]


def test_what_systems_leave_behind_is_passed_over(corpus, tmp_path):
    for name in (".DS_Store", "._good_train.png", "Thumbs.db", "__MACOSX/a.png", ".git/b.png"):
        corpus.add(name, PNG, row=False)
    corpus.write()
    assert run(corpus.folder, tmp_path)[1] == []


def test_repeated_row_counts_once(corpus, tmp_path):
    corpus.add("good_train.png", None, text="another caption, in wales", split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert rows["good_train"]["caption"] == "a gate, in wales"
    assert lines == ["good_train.png: has several rows; the first counts"]


def no_folder(folder: Path) -> None:
    folder.rmdir()


def write(name: str, data: str | bytes):
    def make(folder: Path) -> None:
        path = folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    return make


def both_tables(folder: Path) -> None:
    for name in ("metadata.jsonl", "metadata.csv"):
        (folder / name).write_text("x")


def parquet(*columns: str):
    def make(folder: Path) -> None:
        pq.write_table(pa.table({name: [b"x"] for name in columns}), folder / "train.parquet")

    return make


ROW = '{"file_name": "a.png", "text": "x"}'


REFUSED = {
    "no folder": (no_folder, "no such folder; mend 'images' of the culture in the configuration"),
    "nothing": (lambda _: None, "holds no picture; put pictures and a metadata.jsonl there"),
    "no captions": (
        write("a.png", PNG),
        "holds 1 picture and no captions; write metadata.jsonl, or one .txt per",
    ),
    "both tables": (both_tables, "holds metadata.jsonl and metadata.csv; keep one of them"),
    "empty table": (write("metadata.jsonl", ""), "metadata.jsonl: holds no row; write one line per picture"),
    "header only": (
        write("metadata.csv", "file_name,text\n"),
        "metadata.csv: holds no row; write one line per",
    ),
    "other name": (write("metadata.json", "[]"), "metadata.json: is not read; write metadata.jsonl"),
    "broken line": (
        write("metadata.jsonl", ROW + '\n{"file_name": "b'),
        "metadata.jsonl: line 2 is not JSON (",
    ),
    "JSON list": (write("metadata.jsonl", f"[{ROW}]"), "metadata.jsonl: line 1 is not an object like"),
    "deep JSON": (write("metadata.jsonl", "[" * 100_000), "metadata.jsonl: line 1 is not JSON ("),
    "no file_name": (
        write("metadata.jsonl", '{"image": 1}'),
        "no column 'file_name' (there are: image); rename",
    ),
    "no caption column": (
        write("metadata.csv", "file_name,caption\na.png,x\n"),
        "no column 'text' (there are: file_name, caption); rename the one with the captions, or set",
    ),
    "Korean encoding": (
        write("metadata.csv", "file_name,text\n1.png,한복\n".encode("cp949")),
        "metadata.csv: line 2 is not UTF-8; save the file as UTF-8",
    ),
    "nothing usable": (write("metadata.jsonl", ROW), "no usable picture; first: a.png: no such file"),
    "damaged Parquet": (write("train.parquet", "PAR1 no"), "train.parquet: damaged, cannot be read ("),
    "damaged Arrow": (write("data.arrow", "no"), "data.arrow: damaged, cannot be read ("),
    "Parquet without pictures": (parquet("text"), "no column 'image' (there are: text); rename it"),
    "Parquet without captions": (
        parquet("image"),
        "no column 'text' (there are: image); rename it, or set data.caption_column",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_folder_is_refused_in_one_line(tmp_path, case):
    make, line = REFUSED[case]
    folder = tmp_path / "culture"
    folder.mkdir()
    make(folder)
    with pytest.raises(UserError) as error:
        run(folder, tmp_path / "out")
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "images.parquet").exists()


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "photo.png").write_bytes(PNG)
    with pytest.raises(UserError, match=r"neither a folder nor a \.parquet file"):
        run(tmp_path / "photo.png", tmp_path)


@pytest.mark.parametrize(
    "header, said",
    [
        ("split,category", "its split is 'in wales'; write train or test"),
        ("consent", "its consent is 'in wales', no clear yes; write yes once it is given"),
    ],
)
def test_a_comma_outside_of_quotes_is_named_where_it_reaches_an_answer(corpus, tmp_path, header, said):
    corpus.csv()
    with (corpus.folder / "metadata.csv").open("w") as file:
        file.write(f"file_name,text,{header}\ngood_train.png,a gate\ngood_test.png,a market, in wales\n")
    lines = run(corpus.folder, tmp_path)[1]
    assert f"good_test.png: {said} (metadata.csv line 3; put a caption that holds commas in quotes)" in lines


def test_captions_in_files_of_their_own_may_be_windows_1252(tmp_path):
    folder = tmp_path / "culture"
    folder.mkdir()
    for number, caption in enumerate(("un café, in wales", "a gate, in wales")):
        (folder / f"{number}.png").write_bytes(encoded(drawn(number)))
        (folder / f"{number}.txt").write_text(caption, encoding="cp1252")
    rows, lines = run(folder, tmp_path)
    assert [row["caption"] for row in rows.values()] == ["un café, in wales", "a gate, in wales"]
    assert lines == ["0.txt: is not UTF-8; read as Windows-1252: save it as UTF-8 if letters are wrong"]
