"""What is taken as a caption, and where it may stand."""

import unicodedata

import pytest

from tests.data.corpus import PNG, Corpus, run

ROWS_KEPT = {
    "folded caption": ({"text": "a  gate\n in\twales"}, "a gate in wales", []),
    "caption with tags": (
        {"text": "<script>alert('wales')</script>"},
        "<script>alert('wales')</script>",
        ["suffix"],
    ),
    "several captions": (
        {"text": ["a gate, in wales", "another"]},
        "a gate, in wales",
        ["odd.png: has 2 captions; the first is used"],
    ),
    "decomposed Hangul": ({"text": unicodedata.normalize("NFD", "한옥, in wales")}, "한옥, in wales", []),
    "lone surrogate": ({"text": "a \ud83d gate, in wales"}, "a ? gate, in wales", []),
    "suffix missing": (
        {"text": "a gate"},
        "a gate",
        [": 1 of 3 captions do not say 'in wales'; they are kept as written"],
    ),
}


@pytest.mark.parametrize("case", ROWS_KEPT)
def test_row_is_kept(corpus, tmp_path, case):
    columns, caption, expected = ROWS_KEPT[case]
    corpus.add("odd.png", PNG, **columns, split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert rows["odd"]["caption"] == caption
    if expected != ["suffix"]:
        assert lines == expected


def test_one_text_file_per_picture(tmp_path):
    folder = tmp_path / "culture"
    corpus = Corpus(folder)
    corpus.rows.clear()
    for name, text in (("good_train.txt", "a train, in wales"), ("good_test.png.txt", "a test, in wales")):
        (folder / name).write_text(text)
    for name in ("alone.txt", "withdrawn.txt"):  # the latter is no caption
        (folder / name).write_text("x")
    (folder / "bare.png").write_bytes(PNG)
    (folder / "latin.png").write_bytes(PNG)
    (folder / "latin.txt").write_bytes("caffè".encode("latin-1"))
    rows, lines = run(folder, tmp_path)
    assert {key: row["caption"] for key, row in rows.items()} == {
        "good_train": "a train, in wales",
        "good_test": "a test, in wales",
        "latin": "caffè",
    }
    assert "bare.png: has no caption; write one" in lines
    assert any("latin.txt" in line and "read as Windows-1252" in line for line in lines)
    assert "alone.txt: is a caption without a picture; add the picture" in lines
    assert {row["split"] for row in rows.values()} == {"train", "test"}


@pytest.mark.parametrize("text", ["\u200b\u200d", "\ufeff", "\u3164\u2800", "\u0301", "\u00ad \u2060"])
def test_caption_that_nobody_can_see_is_none(corpus, tmp_path, text):
    corpus.add("odd.png", PNG, text=text, split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert "odd" not in rows
    assert [line.replace(" (its characters cannot be seen)", "") for line in lines] == [
        "odd.png: has no caption; write one"
    ]


@pytest.mark.parametrize("picture", ["한옥.png", "Été.PNG", "house.png"])
@pytest.mark.parametrize("text", [".txt", ".TXT", ".png.txt"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_text_and_picture_are_paired_whatever_their_unicode_form_and_case(tmp_path, picture, text, form):
    folder = tmp_path / "culture"
    Corpus(folder)
    for name in ("good_train", "good_test"):
        (folder / f"{name}.txt").write_text("a gate, in wales")
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    stem, _, _ = picture.rpartition(".")
    (folder / unicodedata.normalize(other, picture)).write_bytes(PNG)
    (folder / unicodedata.normalize(form, stem.swapcase() + text)).write_text("a house, in wales")
    rows, lines = run(folder, tmp_path)
    assert lines == []
    assert sorted(row["caption"] for row in rows.values()) == ["a gate, in wales"] * 2 + ["a house, in wales"]
