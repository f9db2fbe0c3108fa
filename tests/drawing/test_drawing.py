"""Names, the frame of pages, and pictures as text."""

import base64
import io
import re

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from pipeline_steps.artifacts import encode_picture
from pipeline_steps.config import SurveyConfig
from pipeline_steps.drawing import labels, page, paper, pictures
from pipeline_steps.drawing.page import Figure
from pipeline_steps.errors import UserError
from pipeline_steps.report import curves, study
from pipeline_steps.survey.wording import read_wording
from tests import ROOT

HOSTILE = "<script>alert(1)</script> \"'&"


def test_survey_items_are_called_alike_everywhere():
    assert list(read_wording(SurveyConfig().wording).items) == list(labels.SURVEY_ITEMS)
    assert [item.column for item in labels.SURVEY_ITEMS.values()] == [
        "best_described", "most_culturally_representative", "least_stereotypical", "least_offensive",
    ]  # fmt: skip
    assert all(len(ranks) == len(labels.SURVEY_ITEMS) for ranks in paper.RANKS.values())
    assert paper.RANKS["scoft_mpc"] == (1.83, 1.84, 1.91, 1.78)


def test_scores_that_are_drawn_have_names():
    assert {*study.METRICS, *curves.METRICS} <= labels.SCORES.keys()
    assert labels.SCORES["div"].heading == "Diversity" and labels.SCORES["kid"].heading == "KID"


@pytest.fixture
def templates(tmp_path):
    """The frame and the parts, beside a template of the test."""
    for name in ("frame.html", "parts.html"):
        (tmp_path / name).write_text((ROOT / page.TEMPLATES / name).read_text())

    def write(body):
        (tmp_path / "own.html").write_text(
            '{% extends "frame.html" %}{% from "parts.html" import table %}{% block body %}'
            + body
            + "{% endblock %}"
        )
        return tmp_path / "own.html"

    return write


def test_texts_are_escaped_and_figures_stand_with_their_intervals(templates):
    template = templates("<p>{{ text }}</p>{{ table(text, [text], [[text, 7, figure, bare]]) }}")
    contents = {"text": HOSTILE, "figure": Figure("1.50", "(1–2)"), "bare": Figure("–")}
    text = page.render(template, ROOT / page.STYLE, **contents)
    assert text.startswith("<!doctype html>") and (ROOT / page.STYLE).read_text() in text
    assert "<script" not in text and text.count("&lt;script&gt;") == 4
    assert (
        '<td class="figure">7</td><td class="figure">1.50 <small>(1–2)</small></td><td class="figure">–</td>'
        in text
    )


def test_a_page_that_lacks_something_is_not_made(templates, tmp_path):
    with pytest.raises(UndefinedError, match="'verdict' is undefined"):
        page.render(templates("{{ verdict }}"), ROOT / page.STYLE)
    with pytest.raises(UserError, match=r"nowhere.html: no such template"):
        page.render(tmp_path / "nowhere.html", ROOT / page.STYLE)


def test_no_page_has_a_frame_or_a_style_of_its_own():
    parts = ("frame", "parts", "sets")
    found = [path for path in (ROOT / page.TEMPLATES).glob("*.html") if path.stem not in parts]
    assert len(found) == 9
    for path in found:
        text = path.read_text()
        assert text.startswith('{% extends "frame.html" %}\n')
        assert not re.search(r"<!doctype|<html", text)
        assert ("<script" in text) == (path.stem == "collection")  # served, with a policy of its own
        # The report names its variants in a rule; whatever else a page looks like stands in page.css.
        assert ("<style" in text) == (path.stem in ("page", "collection"))
    frame = (ROOT / page.TEMPLATES / "frame.html").read_text()
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in frame


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), ("", "–"), (-0.123456, "−0.1235"), ("30.355", "30.36")]
)
def test_numbers_have_four_digits(value, text):
    assert page.number(value) == text


@pytest.mark.parametrize(("form", "off"), [("PNG", 0), ("JPEG", 6), ("WEBP", 16)])
def test_nothing_but_the_pixels_is_left(form, off):
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    picture = Image.fromarray(np.stack([*np.meshgrid(ramp, ramp), np.full((32, 32), 90, np.uint8)], -1))
    file = io.BytesIO()
    hidden = {"comment": b"secret", "exif": b"Exif\x00\x00secret", "icc_profile": b"secret profile"}
    picture.save(file, "JPEG", quality=100, subsampling=0, **hidden)
    given = Image.open(file)
    data, kind = pictures.encode(given, form, 95)
    assert kind == f"image/{form.lower()}"
    assert file.getvalue().count(b"secret") == 3 and b"secret" not in data
    found = Image.open(io.BytesIO(data))
    assert found.format == form and not found.getexif() and "icc_profile" not in found.info
    difference = np.abs(np.asarray(found, int) - np.asarray(given, int))
    assert difference.max() <= off
    assert pictures.encode(given, form, 95).uri == f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(("size", "shown"), [((64, 32), (16, 8)), ((12, 8), (12, 8))])
def test_a_thumbnail_is_made_smaller_and_never_larger(size, shown):
    text = pictures.thumbnail(encode_picture(Image.new("L", size, 200), "x.png"), 16)
    found = Image.open(io.BytesIO(base64.b64decode(text.removeprefix("data:image/webp;base64,"))))
    assert found.size == shown and found.mode == "RGB"
