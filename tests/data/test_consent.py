"""A picture is used if somebody said yes, or was not asked; never if the answer is anything else."""

import re

import pytest

from pipeline_steps.data.consent import NO, YES, is_yes
from tests import ROOT
from tests.data.corpus import PNG, run

CLEAR = [
    *(
        "yes",
        "YES",
        " Yes. ",
        "y",
        "true",
        "1",
        "ok",
        "given",
        "Signed",
        "ja",
        "Oui!",
        "sí",
        "네",
        "はい",
        "同意",
    ),
    *("हाँ", "نعم", "ＹＥＳ", "given 2026-01-02", "yes (3.5.2026)", "signed, 2026/01/02", "given in writing"),
    *("not needed: synthetic", True, 1),
]
UNCLEAR = [
    *("pending", "2026-01-02", "asked", "maybe", "yes?", "yes, but not for training", "see e-mail", "?"),
    *("unknown", "n/a", "NA", "CC BY 4.0", "x", "yesterday", ["yes"], {"given": True}, 2, 1.5),
]
REFUSED = ["Refused.", "no consent", "declined", "refused 2026-01-02", "nein", "N", "Non", "いいえ", False, 0]


@pytest.mark.parametrize("answer", CLEAR)
def test_a_clear_yes_is_used(corpus, tmp_path, answer):
    corpus.add("odd.png", PNG, split="train", consent=answer)
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert "odd" in rows
    assert lines == []


@pytest.mark.parametrize("answer", UNCLEAR, ids=str)
def test_what_is_no_clear_yes_is_left_out_and_quoted(corpus, tmp_path, answer):
    corpus.add("odd.png", PNG, split="train", consent=answer)
    corpus.write()
    rows, (line,) = run(corpus.folder, tmp_path)
    assert "odd" not in rows
    assert re.fullmatch(r"odd\.png: its consent is '.+', no clear yes; write yes once it is given", line)
    if isinstance(answer, str):
        assert f"'{answer}'" in line


@pytest.mark.parametrize("answer", REFUSED)
def test_a_refusal_leaves_out_the_copies_too(corpus, tmp_path, answer):
    corpus.add("odd.png", PNG, split="train", consent=answer)
    corpus.add("copy.png", PNG, split="train", consent="yes")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert sorted(rows) == ["good_test", "good_train"]
    assert lines == [
        "copy.png: is a copy of the withdrawn odd.png; left out",
        "odd.png: is withdrawn; left out",
    ]


@pytest.mark.parametrize("required", [False, True])
def test_no_answer_is_a_yes_unless_consent_is_required(corpus, tmp_path, required):
    corpus.rows = [row | {"consent": "yes"} for row in corpus.rows]
    corpus.add("odd.png", PNG, split="train")
    corpus.add("blank.png", PNG, row=False)
    corpus.add("blank.png", None, split="train", consent=" ")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path, require_consent=required, duplicate_difference=0)
    assert ("odd" in rows, "blank" in rows) == (not required, not required)
    said = "has no consent (data.require_consent); write yes once it is given"
    assert [line for line in lines if "consent" in line] == (
        [f"blank.png: {said}", f"odd.png: {said}"] if required else []
    )


@pytest.mark.parametrize(
    "answers", [("", "no"), ("no", ""), ("yes", "refused"), ("", "pending"), ("pending", "")]
)
def test_what_is_no_yes_counts_in_any_row_of_a_file(corpus, tmp_path, answers):
    for consent in answers:
        corpus.add("odd.png", PNG, split="train", consent=consent)
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    unclear = "odd.png: its consent is 'pending', no clear yes; write yes once it is given"
    assert (sorted(rows), lines) == (
        ["good_test", "good_train"],
        [unclear if "pending" in answers else "odd.png: is withdrawn; left out"],
    )


def test_withdrawn_column_that_says_neither(corpus, tmp_path):
    corpus.add("odd.png", PNG, split="train", withdrawn="asked for on 3 May")
    corpus.add("no.png", None, row=False)
    corpus.rows[0]["withdrawn"] = "no"
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert sorted(rows) == ["good_test", "good_train"]
    assert lines == ["odd.png: its 'withdrawn' says 'asked for on 3 May'; write yes or no"]


def test_words_are_listed_for_readers_and_mean_one_thing():
    assert not YES & NO
    page = " ".join((ROOT / "docs/data.md").read_text(encoding="utf-8").casefold().split())
    assert [word for word in sorted(YES | NO) if f"`{word}`" not in page] == []
    assert is_yes("") is None
