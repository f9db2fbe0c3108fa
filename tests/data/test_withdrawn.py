"""Pictures that somebody wants left out."""

import hashlib

import openpyxl
import pytest

from pipeline_steps.artifacts import FINDINGS
from pipeline_steps.data.findings import MEND
from pipeline_steps.errors import UserError
from tests.data.corpus import PNG, copies, drawn, encoded, run


@pytest.mark.parametrize(
    "text",
    [
        "good_train.png\n",
        "# asked on 3 May\n\n  good_train  \n",
        "file_name,asked\ngood_train.png,3 May\n",
        "image_id;asked\ngood_train;3 May\n",
        "sha256\n" + hashlib.sha256(encoded(drawn(101))).hexdigest() + "\n",
    ],
)
def test_withdrawn_picture_and_its_copies_are_left_out(corpus, tmp_path, text):
    corpus.add("other.png", encoded(drawn(3)), split="train")
    corpus.add("again.png", encoded(drawn(101)), split="train")
    corpus.write()
    listed = tmp_path / "withdrawn.csv"
    listed.write_text(text)
    rows, lines = run(corpus.folder, tmp_path, listed)
    assert sorted(rows) == ["good_test", "other"]
    left = [line for line in lines if "withdrawn" in line]
    assert len(left) == 2
    assert "good_train.png: is withdrawn; left out" in left


def test_what_looks_like_a_withdrawn_picture_is_named(corpus, tmp_path):
    corpus.add("good_train.png", encoded(drawn(101, (192, 160))), row=False)
    corpus.add("near.jpg", copies()["recoded.jpg"], split="train")
    corpus.write()
    (tmp_path / "withdrawn.txt").write_text("good_train.png\nmisspelt.png\n")
    lines = run(corpus.folder, tmp_path, tmp_path / "withdrawn.txt")[1]
    assert lines == [
        "misspelt.png: is in the withdrawn list and names no picture here; check its spelling, unless it was "
        "deleted",
        "near.jpg: looks like the withdrawn good_train.png; withdraw it too if it is the same",
        "good_train.png: is withdrawn; left out",
    ]


def test_a_copy_is_left_out_where_withdrawn_pictures_look_alike(corpus, tmp_path):
    for name in ("first.png", "second.png", "copy.png"):
        shot = drawn(3) if name == "first.png" else drawn(3).point(lambda v: min(255, v + 2))
        corpus.add(name, encoded(shot), split="train")
    corpus.write()
    (tmp_path / "withdrawn.txt").write_text("first.png\nsecond.png\n")
    rows, lines = run(corpus.folder, tmp_path, tmp_path / "withdrawn.txt")
    assert sorted(rows) == ["good_test", "good_train"]
    assert "copy.png: is a copy of the withdrawn second.png; left out" in lines


@pytest.mark.parametrize(
    "columns", [{"withdrawn": "yes"}, {"withdrawn": True}, {"consent": "refused"}, {"consent": "no"}]
)
def test_a_row_can_withdraw_itself(corpus, tmp_path, columns):
    corpus.add("odd.png", PNG, split="train", **columns)
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert "odd" not in rows
    assert lines == ["odd.png: is withdrawn; left out"]


@pytest.mark.parametrize(
    "row",
    [{"text": "", "consent": "no"}, {"text": ""}, {"consent": "pending"}, {"split": "none"}, None],
    ids=str,
)
def test_a_withdrawn_picture_takes_its_copies_along_whatever_its_row_lacks(corpus, tmp_path, row):
    refused = bool(row and row.get("consent") == "no")
    corpus.add("odd.png", PNG, row=row is not None, **(row or {}))
    corpus.add("copy.png", PNG, split="train")
    corpus.write()
    (tmp_path / "withdrawn.txt").write_text("odd.png\n")
    rows, lines = run(corpus.folder, tmp_path, None if refused else tmp_path / "withdrawn.txt")
    assert sorted(rows) == ["good_test", "good_train"]
    assert lines == [
        "copy.png: is a copy of the withdrawn odd.png; left out",
        "odd.png: is withdrawn; left out",
    ]


def test_missing_withdrawn_list_is_refused(corpus, tmp_path):
    corpus.write()
    with pytest.raises(UserError, match=r"gone\.txt: cannot be read"):
        run(corpus.folder, tmp_path, tmp_path / "gone.txt")


@pytest.mark.parametrize("listed", ["GOOD_TRAIN.png", "good_train.PNG", "Good_Train", "./good_train.png"])
def test_withdrawn_names_are_found_whatever_their_case(corpus, tmp_path, listed):
    corpus.add("other.png", encoded(drawn(3)), split="train")
    corpus.write()
    (tmp_path / "withdrawn.txt").write_text(listed)
    rows, lines = run(corpus.folder, tmp_path, tmp_path / "withdrawn.txt")
    assert sorted(rows) == ["good_test", "other"]
    assert lines == ["good_train.png: is withdrawn; left out"]


def test_a_line_that_names_no_picture_is_to_be_mended(corpus, tmp_path):
    corpus.write()
    (tmp_path / "withdrawn.txt").write_text("Misspelt.PNG\n")
    run(corpus.folder, tmp_path, tmp_path / "withdrawn.txt")
    (row,) = FINDINGS.rows(tmp_path / "findings.parquet")
    assert (row["severity"], row["file"]) == (MEND, "Misspelt.PNG")


@pytest.mark.parametrize("write", ["utf-8-sig", "utf-16", "xlsx", ";"])
def test_a_withdrawn_list_as_spreadsheets_write_it(corpus, tmp_path, write):
    corpus.add("other.png", encoded(drawn(3)), split="train")
    corpus.write()
    path = tmp_path / "withdrawn.csv"
    if write == "xlsx":
        path = tmp_path / "withdrawn.xlsx"
        book = openpyxl.Workbook()
        for row in (["asked", "File_Name"], ["3 May", "good_train.png"]):
            book.active.append(row)
        book.save(path)
    elif write == ";":
        path.write_text("asked;FILE_NAME\n3 May, by phone;good_train.png\n")
    else:
        path.write_text("good_train.png\n", encoding=write)
    rows, lines = run(corpus.folder, tmp_path, path)
    assert sorted(rows) == ["good_test", "other"]
    assert lines == ["good_train.png: is withdrawn; left out"]
