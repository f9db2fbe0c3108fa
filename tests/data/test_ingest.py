"""The table that comes out."""

import hashlib
import json

from pipeline_steps.artifacts import IMAGES
from pipeline_steps.data.names import picture_id
from tests.data.corpus import PNG, drawn, encoded, run


def test_optional_columns_are_kept(corpus, tmp_path):
    about = {
        "category": "city",
        "era": "modern",
        "contributor": "ann",
        "url": "u",
        "author": "bob",
        "license": "CC0",
    }
    corpus.add("odd.png", PNG, split="train", **about, consent="given", likes=3, tags=["a", "b"], none=None)
    corpus.write()
    row = run(corpus.folder, tmp_path)[0]["odd"]
    assert (row["category"], row["era"], row["contributor"]) == ("city", "modern", "ann")
    assert (row["source"], row["author"], row["licence"], row["consent"]) == ("u", "bob", "CC0", "given")
    assert json.loads(row["extra"]) == {"likes": 3, "tags": ["a", "b"]}
    assert row["source_sha256"] == hashlib.sha256(PNG).hexdigest()


def test_same_input_same_bytes_and_every_change_is_seen(corpus, tmp_path):
    corpus.write()
    run(corpus.folder, tmp_path / "a")
    run(corpus.folder, tmp_path / "b")
    assert (tmp_path / "a/images.parquet").read_bytes() == (tmp_path / "b/images.parquet").read_bytes()
    first = IMAGES.note(tmp_path / "a/images.parquet")["fingerprint"]
    corpus.rows[0]["text"] = "another caption"
    corpus.write()
    run(corpus.folder, tmp_path / "b")
    assert IMAGES.note(tmp_path / "b/images.parquet")["fingerprint"] != first
    listed = (tmp_path / f"a/data_sets/{first}.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == ["good_test", "good_train"]


def test_another_picture_of_its_name_moves_none_to_the_other_split(corpus, tmp_path):
    for number in range(30):
        corpus.add(f"a/{number}.png", encoded(drawn(number)))
    corpus.write()
    before = {row["source_sha256"]: row["split"] for row in run(corpus.folder, tmp_path / "a")[0].values()}
    for number in range(10):
        corpus.add(f"b/{number}.png", encoded(drawn(100 + number)))
    corpus.write()
    after = {row["source_sha256"]: row["split"] for row in run(corpus.folder, tmp_path / "b")[0].values()}
    assert len(after) > len(before) and before.items() <= after.items()
    assert set(before.values()) == {"train", "test"}


def test_ids_are_unique_readable_and_safe(corpus, tmp_path):
    corpus.add("a/one.png", encoded(drawn(1)), split="train")
    corpus.add("b/one.png", encoded(drawn(2)), split="train")
    corpus.add("b/One.jpg", encoded(drawn(3), "JPEG"), split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert len(rows) == 5
    assert sum(key.startswith(("one~", "One~")) for key in rows) == 3
    assert lines == []
    hostile = ["..", "a/../b", "\u202egpj.exe.png", "a\x00b", "...", "a:b*c?.png", "x" * 500, "한" * 200]
    for name in hostile:
        found = picture_id(name)
        assert found
        assert not set(found) & set('/\\:*?"<>|\0\u202e \n')
        assert len(found.encode()) <= 120
        assert not found.startswith(".")
