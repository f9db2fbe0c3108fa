"""Text files and single values in whatever form they come."""

from decimal import Decimal

import pytest

from pipeline_steps.errors import UserError
from pipeline_steps.inputs.text import clean_text, read_prompts, read_text
from pipeline_steps.inputs.values import RejectedError, as_json, as_text, quoted, read_json
from pipeline_steps.survey.codes import read_codes

PROMPTS = "# note\na café\n\nein Krug — “alt”\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_prompts_and_codes_begin_without_a_mark(tmp_path, encoding):
    path = tmp_path / "p.txt"
    path.write_text(PROMPTS.removeprefix("# note\n"), encoding=encoding)
    assert read_prompts(path) == ["a café", "ein Krug — “alt”"]
    path.write_text("riverriverriver-1\nstonestonestone-2\n", encoding=encoding)
    assert read_codes(path) == {"riverriverriver-1", "stonestonestone-2"}


def test_marks_of_joined_files_are_no_part_of_a_prompt(tmp_path):
    path = tmp_path / "p.txt"
    path.write_bytes(b"\xef\xbb\xbfa jar\n\xef\xbb\xbf# a note\n\xef\xbb\xbfa robe\n")
    assert read_prompts(path) == ["a jar", "a robe"]


@pytest.mark.parametrize(
    "data, line",
    [
        (PROMPTS.encode("latin-1", "replace"), "line 2 is not UTF-8; save the file as UTF-8"),
        ("한복\n".encode("cp949"), "line 1 is not UTF-8"),
        (b"\xff\xfea\x00\x00\xd8", "is not UTF-16"),
        (b"a jar\n\xe2\x80\x8b\n", "prompt 2 has no visible character; delete its line"),
        (b"", "no prompts; write one a line"),
    ],
)
def test_prompts_that_cannot_be_read_are_refused_in_one_line(tmp_path, data, line):
    path = tmp_path / "p.txt"
    path.write_bytes(data)
    with pytest.raises(UserError) as error:
        read_prompts(path)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError):
        read_codes(path)


@pytest.mark.parametrize(
    "text, read",
    [
        ("file,text\na,“déjà vu” – À l’œuvre, 5 €\n", True),
        ("Größe, Straße, Åse, señor", True),
        ("Русский текст", False),
    ],
)
def test_windows_1252_is_read_where_asked_for_and_likely(tmp_path, text, read):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("cp1252" if read else "cp1251"))
    notes: list[str] = []
    if read:
        assert read_text(path, notes) == text
        assert notes == ["is not UTF-8; read as Windows-1252: save it as UTF-8 if letters are wrong"]
    else:
        with pytest.raises(UserError, match="line 1 is not UTF-8"):
            read_text(path, notes)
    with pytest.raises(UserError, match=r"line \d is not UTF-8"):
        read_text(path)


@pytest.mark.parametrize(
    "value, text",
    [
        ("  a ", "a"), (3, "3"), (3.0, "3"), (Decimal("3.00"), "3"), (1.5, "1.5"), ("e\u0301", "é"),
        ("\ufeffa", "a"),
    ],
)  # fmt: skip
def test_values_that_are_as_good_as_text(value, text):
    assert as_text(value, "page") == text


@pytest.mark.parametrize(
    "value, reason",
    [
        (None, "page is missing"), ("", "page is missing"), ("\u200b\u3164", "page is missing"),
        (float("nan"), "page is missing"),
        (True, "page is no text (True)"), (["a"], "page is no text (['a'])"),
        ({"a": 1}, "page is no text"), (b"a", "page is no text (b'a')"),
        ("a" * 201, "page is longer than 200 letters"),
        (10**300, "page is longer than 200 letters"), ("\ud800", "page holds half a character ('?')"),
    ],
)  # fmt: skip
def test_values_that_are_no_text(value, reason):
    with pytest.raises(RejectedError) as error:
        as_text(value, "page")
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "1 2", '"\\ud8', ""])
def test_what_is_no_json_is_rejected(text):
    with pytest.raises(RejectedError, match="is not JSON"):
        read_json(text)


def test_json_of_any_number_and_character_can_be_stored():
    value = read_json('{"n": ' + "9" * 5000 + ', "x": NaN, "s": "\\ud800", "m": -12}')
    assert value == {"n": float("inf"), "x": None, "s": "\ud800", "m": -12}
    assert as_json(value).encode() == b'{"m": -12, "n": Infinity, "s": "?", "x": null}'
    assert quoted(10**5000) == "a number of more than 40 digits"
    assert len(quoted("x" * 999)) == 62
    assert clean_text("\x1b[31mred\x07\ufeff") == "[31mred"
