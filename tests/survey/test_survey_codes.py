"""Codes: hard to guess, on sheets to print, and refused where they are not."""

import pytest

from pipeline_steps.errors import UserError
from pipeline_steps.survey.codes import LETTERS, make_codes, read_codes, stem
from pipeline_steps.survey.survey_codes import survey_codes


def test_codes_drawn_are_good_ones(tmp_path):
    path, sheets = tmp_path / "codes.txt", tmp_path / "codes.html"
    survey_codes(30, path, sheets, "https://survey.example/")
    codes = read_codes(path)
    assert len(codes) == 30
    assert sorted(int(code.rpartition("-")[2]) for code in codes) == list(range(1, 31)), "forms take turns"
    assert {len(stem(code)) for code in codes} == {14} and len(LETTERS) ** 14 > 2**64
    text = sheets.read_text()
    assert all(f"<code>{code}</code>" in text for code in codes)
    assert text.count("data:image/svg+xml") == 30 and "https://survey.example/" in text
    with pytest.raises(UserError, match="is there already"):
        survey_codes(30, path, sheets)


def test_a_sheets_picture_is_the_link_with_the_code(tmp_path):
    """Each QR code is the one that an encoder draws for the link."""
    import segno

    path, sheets = tmp_path / "codes.txt", tmp_path / "codes.html"
    survey_codes(2, path, sheets, "https://survey.example/")
    for code in path.read_text().split():
        link = f"https://survey.example/#code={code}"
        assert (
            segno.make(link, error="m")
            .svg_data_uri(scale=4, border=2)
            .replace("&", "&amp;")
            .replace("'", "&#39;")
            in sheets.read_text()
        )


def test_no_two_codes_are_alike():
    assert len({stem(code) for code in make_codes(2000)}) == 2000


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("riverriverriver-1\nriverriverriver-1\n", "twice"),
        ("", "no codes"),
        ("abc\n", "code 1: can be guessed"),
        ("seoul-1\nseoul-2\n", "code 1: can be guessed"),
        ("1234567890123456\n", "code 1: can be guessed"),
        ("participant-in-seoul-1\nparticipant-in-seoul-2\n", "differ by a number alone"),
        ("riverriverriver 1\n", "code 1: has at most 64"),
    ],
)
def test_guessable_codes_are_refused(tmp_path, text, fault):
    path = tmp_path / "codes.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=fault):
        read_codes(path)


def test_codes_of_a_file(tmp_path):
    path = tmp_path / "codes.txt"
    path.write_text("# ours\nriverriverriver-1\n\nstonestonestone-2\n")
    assert read_codes(path) == {"riverriverriver-1", "stonestonestone-2"}
    with pytest.raises(UserError, match="cannot be read"):
        read_codes(tmp_path / "missing")
