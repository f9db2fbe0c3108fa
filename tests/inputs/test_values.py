"""Single foreign values: what is taken, what is refused and in which words, at the edges of each rule."""

import json
from decimal import Decimal

import pytest

from pipeline_steps.inputs.values import RejectedError, as_json, as_text, first_line, quoted, read_json, whole

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" a b ", "a b"), ("\ufeffa", "a"), ("e\u0301", "é"), (7, "7"), (7.0, "7"), (Decimal("7.00"), "7"),
        (7.5, "7.5"), (Decimal("7.5"), "7.5"), (-3.0, "-3"), (2.0**53 - 1, "9007199254740991"),
        ("x" * 200, "x" * 200), (10**200 - 1, "9" * 200), (Decimal(2**60), str(2**60)),
    ],
)  # fmt: skip
def test_what_is_text(value, text):
    assert as_text(value, "page") == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "page is missing"), ("", "page is missing"), (" \u200b", "page is missing"),
        (NAN, "page is missing"), (Decimal("NaN"), "page is missing"),
        (True, "page is no text (True)"), ([1], "page is no text ([1])"), (b"a", "page is no text (b'a')"),
        (2.0**53, "page is no text (9007199254740992.0)"), (-1e300, "page is no text (-1e+300)"),
        (float("inf"), "page is no text (inf)"),
        ("a\ud800", "page holds half a character ('a?')"), ("\udfffb", "page holds half a character ('?b')"),
        ("x" * 201, "page is longer than 200 letters"), (10**200, "page is longer than 200 letters"),
        (-(10**200), "page is longer than 200 letters"),
    ],
)  # fmt: skip
def test_what_is_no_text(value, reason):
    with pytest.raises(RejectedError) as caught:
        as_text(value, "page")
    assert str(caught.value) == reason


def test_a_caller_says_how_long_a_text_may_be():
    assert as_text("abc", "code", 3) == "abc"
    for value in ("abcd", 1000):
        with pytest.raises(RejectedError, match="code is longer than 3 letters"):
            as_text(value, "code", 3)


def test_whole_numbers_are_told_from_others():
    assert [whole(value) for value in (2.0, -2.0, 0.0, Decimal("1e3"))] == [2, -2, 0, 1000]
    assert all(isinstance(whole(value), int) for value in (2.0, Decimal("1e3"), 2.0**53 - 1))
    for value in (2.5, 2.0**53, -(2.0**53), float("inf"), Decimal("0.1"), Decimal("Infinity")):
        assert whole(value) is value
    assert whole(NAN) is NAN


def test_messages_show_values_on_one_short_line():
    assert quoted("a\nb") == "'a b'" and quoted(1.5) == "1.5" and quoted(["a\n"]) == "['a\\n']"
    assert quoted("x" * 60) == f"'{'x' * 60}'" and quoted("x" * 61) == f"'{'x' * 59}…'"
    assert quoted(10**40 - 1) == "9" * 40
    assert quoted(10**40) == quoted(-(10**40)) == "a number of more than 40 digits"
    nested = []
    for _ in range(100_000):
        nested = [nested]
    assert quoted(nested) == "a list"


def test_json_reads_numbers_of_any_length_and_no_nan():
    digits = "9" * 40
    assert read_json(f'[{digits}, {digits}9, 1.5, NaN, Infinity, -Infinity, "a"]') == [
        int(digits), float(digits + "9"), 1.5, None, None, None, "a",
    ]  # fmt: skip
    assert isinstance(read_json(digits), int) and isinstance(read_json(digits + "9"), float)
    assert read_json("9" * 5000) == float("inf")
    with pytest.raises(RejectedError, match=r"^is not JSON \(Expecting value: line 1 column 1 \(char 0\)\)$"):
        read_json("x")
    with pytest.raises(RejectedError, match=r"^is not JSON \(maximum recursion depth exceeded"):
        read_json("[" * 100_000)


def test_what_json_cannot_say_is_stored_as_its_text():
    assert as_json({"b": Decimal("1.5"), "a": "é"}) == '{"a": "é", "b": "1.5"}'
    assert json.loads(as_json({"a": "\ud800"})) == {"a": "?"}
    endless = []
    endless.append(endless)
    with pytest.raises(RejectedError, match=r"^a column cannot be stored \(Circular reference detected\)$"):
        as_json(endless)
    with pytest.raises(RejectedError, match="a column cannot be stored"):
        as_json({1: "a", "b": 2})


def test_an_error_is_told_by_its_first_line():
    assert first_line(ValueError("one\ntwo")) == "one" and first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("x" * 161)) == "x" * 160
