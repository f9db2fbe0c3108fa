"""Who is trained on and who is scored against."""

import json

import pytest

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
    assert ": no picture is held out for scoring; mark some as test" in lines
    corpus.rows[0]["split"] = "test"
    corpus.write()
    with pytest.raises(UserError, match="wales: all 1 pictures are in the test split; mark some as train"):
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
