"""Who is trained on and who is scored against."""

import json
import os
import unicodedata
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_steps.data.splits import split_of
from pipeline_steps.errors import UserError
from tests.data.corpus import Corpus, copies, drawn, encoded, run


def test_splits_from_the_folders_of_an_imagefolder(tmp_path):
    for index, split in enumerate(("train", "test")):
        folder = tmp_path / "culture" / split
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(encoded(drawn(index)))
        (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "x, in wales"}))
    rows, lines = run(tmp_path / "culture", tmp_path)
    assert sorted((row["split"], key.split("~")[0]) for key, row in rows.items()) == [
        ("test", "a"),
        ("train", "a"),
    ]
    assert len(rows) == 2
    assert lines == []


def test_adding_a_picture_does_not_move_the_others(tmp_path):
    folder = tmp_path / "culture"
    folder.mkdir()
    corpus = Corpus(folder)
    corpus.rows.clear()
    for index in range(40):
        corpus.add(f"{index:02d}.png", encoded(drawn(index)))
    corpus.write()
    before = {
        key: row["split"] for key, row in run(folder, tmp_path)[0].items() if not key.startswith("good")
    }
    corpus.add("00a.png", encoded(drawn(99)))
    corpus.write()
    after = {key: row["split"] for key, row in run(folder, tmp_path)[0].items()}
    assert {key: after[key] for key in before} == before
    assert 2 <= list(before.values()).count("test") <= 16


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_neither_split_stays_empty(tmp_path, share):
    folder = tmp_path / "culture"
    folder.mkdir()
    corpus = Corpus(folder)
    for row in corpus.rows:
        del row["split"]
    corpus.write()
    assert {row["split"] for row in run(folder, tmp_path, test_share=share)[0].values()} == {"train", "test"}


def test_splits_that_cannot_be_used(corpus, tmp_path):
    corpus.rows = [corpus.rows[0]]
    corpus.write()
    lines = run(corpus.folder, tmp_path)[1]
    assert ": no picture is held out for scoring; add pictures" in lines
    corpus.rows[0]["split"] = "test"
    corpus.write()
    with pytest.raises(UserError, match="wales: no training picture, 1 picture in the test split; mark some"):
        run(corpus.folder, tmp_path)


@pytest.mark.parametrize("name", ["same.png", *copies()])
def test_training_picture_in_the_test_split_is_refused(corpus, tmp_path, name):
    corpus.add("good_train.png", encoded(drawn(101, (192, 160))), row=False)
    data = copies() | {"same.png": encoded(drawn(101, (192, 160)))}
    corpus.add("x_" + name, data[name], split="test")
    corpus.write()
    with pytest.raises(
        UserError, match=r"x_.* \(test\) .* good_train.png \(train\): a training picture in the test"
    ):
        run(corpus.folder, tmp_path)


def test_row_in_both_splits_is_refused(corpus, tmp_path):
    corpus.add("good_train.png", None, split="test")
    corpus.write()
    with pytest.raises(UserError, match=r"good_train\.png is in both splits; delete one of its rows"):
        run(corpus.folder, tmp_path)


def test_copies_share_the_split_that_is_drawn(tmp_path):
    folder = tmp_path / "culture"
    folder.mkdir()
    corpus = Corpus(folder)
    corpus.rows.clear()
    for index in range(12):
        corpus.add(f"{index:02d}.png", encoded(drawn(index, (96, 80))))
        corpus.add(f"{index:02d}_copy.jpg", encoded(drawn(index, (96, 80)), "JPEG", quality=80))
    corpus.write()
    rows, lines = run(folder, tmp_path, test_share=0.5)
    assert sum("looks the same" in line for line in lines) == 12
    assert all(rows[f"{i:02d}"]["split"] == rows[f"{i:02d}_copy"]["split"] for i in range(12))


@pytest.mark.parametrize(
    "path, split",
    [
        ("train/a.png", "train"), ("Validation/deep/a.png", "test"), ("eval/train/a.png", "train"),
        ("a.png", None), ("train.jpg", None), ("test-tube.png", None), ("trains/a.png", None),
        ("train-00000-of-00002.parquet", "train"), ("data/validation.parquet", "test"),
        ("default/test/0000.parquet", "test"), ("x-train-0.arrow", "train"), ("0000.parquet", None),
        ("train/test-0.parquet", "test"), ("contest.parquet", None),
    ],
)  # fmt: skip
def test_the_split_that_a_path_says(path, split):
    assert split_of(PurePosixPath(path)) == split


SPLIT_FOLDERS = {"train": "train", "validation": "test", "test": "test"}


def fill(folder: Path, form: str) -> None:
    """Write three folders with files of one name, as a data set of the given form."""
    for number, name in enumerate(SPLIT_FOLDERS):
        (folder / name).mkdir(parents=True)
        data = encoded(drawn(number))
        row = {"image": {"bytes": data, "path": None}, "text": f"{name}, in wales"}
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist([row]), folder / name / "0000.parquet")
        elif form == "arrow":
            table = pa.Table.from_pylist([row])
            path = str(folder / name / "data-0.arrow")
            with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
        else:
            (folder / name / "0.png").write_bytes(data)
            (folder / name / "0.txt").write_text(row["text"])
    if form == "metadata":
        lines = [{"file_name": f"{name}/0.png", "text": f"{name}, in wales"} for name in SPLIT_FOLDERS]
        (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))


@pytest.mark.parametrize("form", ["parquet", "arrow", "text", "metadata"])
def test_files_of_one_name_in_three_splits_stay_three(tmp_path, form):
    fill(tmp_path / "culture", form)
    rows, lines = run(tmp_path / "culture", tmp_path)
    found = {row["caption"].partition(",")[0]: row["split"] for row in rows.values()}
    assert (found, lines) == (SPLIT_FOLDERS, [])


@pytest.mark.parametrize(
    "names",
    [("한옥.png", unicodedata.normalize("NFD", "한옥.png")), ("a.png", "A.png"), (b"\xe9.png", b"\xe8.png")],
)
def test_two_files_never_become_one(tmp_path, names):
    folder = tmp_path / "culture"
    folder.mkdir()
    for number, name in enumerate(names):
        name = os.fsdecode(name)
        (folder / name).write_bytes(encoded(drawn(number)))
        (folder / f"{name}.txt").write_text(f"{number}, in wales")
    rows, lines = run(folder, tmp_path)
    assert sorted(row["caption"] for row in rows.values()) == ["0, in wales", "1, in wales"]
    assert lines == []


NEED_MORE = "density and coverage need more than score.neighbours (3)"


@pytest.mark.parametrize(
    "train, held_out, line",
    [
        (1, 0, "no picture is held out for scoring; add pictures"),
        (2, 0, "no picture is held out for scoring; mark some as test"),
        (1, 1, "one picture is held out, and scores need two; add pictures"),
        (2, 1, "one picture is held out, and scores need two; mark more as test"),
        (2, 2, f"2 pictures are held out, and {NEED_MORE}; add pictures"),
        (3, 2, f"2 pictures are held out, and {NEED_MORE}; mark more as test"),
        (1, 3, f"3 pictures are held out, and {NEED_MORE}; add pictures"),
        (1, 4, None),
    ],
)
def test_what_scores_will_lack_is_said_at_once(corpus, tmp_path, train, held_out, line):
    """Whoever has so few that marking them leaves none to train on is asked for more."""
    corpus.rows = corpus.rows[:1]
    for number in range(1, train):
        corpus.add(f"train{number}.png", encoded(drawn(20 + number)), split="train")
    for number in range(held_out):
        corpus.add(f"{number}.png", encoded(drawn(number)), split="test")
    (corpus.folder / "good_test.png").unlink()
    corpus.write()
    _, lines = run(corpus.folder, tmp_path, neighbours=3)
    assert lines == ([f": {line}"] if line else [])


def test_too_few_training_pictures_are_said_first(corpus, tmp_path, caplog):
    corpus.write()
    with caplog.at_level("WARNING"):
        run(corpus.folder, tmp_path, neighbours=3)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "wales: only 1 train picture; 50 or more serve better"
    assert said[1].startswith("wales: one picture is held out")
    for number in range(49):
        corpus.add(f"{number}.png", encoded(drawn(number)), split="train")
    corpus.write()
    caplog.clear()
    run(corpus.folder, tmp_path, duplicate_difference=0)
    assert "serve better" not in caplog.text
