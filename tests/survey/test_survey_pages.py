"""Pages, forms, the wording and the page made of them."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipeline_steps.artifacts import FORMS, PAGES, decode_picture
from pipeline_steps.config import SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.survey.shown import page_contents, render
from pipeline_steps.survey.survey_html import survey_html
from pipeline_steps.survey.survey_pages import survey_pages
from pipeline_steps.survey.wording import Wording, read_translations, read_wording, read_wordings
from tests.survey.survey_world import VARIANTS, dealt, make_pages, picture, write_samples


def test_each_page_shows_one_sample_of_every_variant(tmp_path):
    pages, _ = make_pages(tmp_path, prompts=3, each=4, pages=12)
    rows = PAGES.read(pages)
    assert len(rows) == 48 and len({row["picture"] for row in rows}) == 48
    for start in range(0, 48, 4):
        page = rows[start : start + 4]
        assert [row["position"] for row in page] == [1, 2, 3, 4]
        assert sorted(row["variant"] for row in page) == sorted(VARIANTS)
        for field in ("page", "prompt_id", "index", "prompt", "seed"):
            assert len({row[field] for row in page}) == 1
        for row in page:
            expected = picture(row["variant"], int(row["prompt_id"]), row["index"])
            assert decode_picture(row["image"]).tobytes() == expected.tobytes()
            assert row["variant"] not in row["picture"] + row["page"] + row["image"]["path"]
    # Every sample once, every variant equally often at every position.
    assert len({(row["prompt_id"], row["index"]) for row in rows}) == 12
    assert set(Counter((row["variant"], row["position"]) for row in rows).values()) == {3}


def test_prompts_take_turns(tmp_path):
    pages, _ = make_pages(tmp_path, prompts=3, each=4, pages=6)
    per_prompt = Counter(row["prompt_id"] for row in PAGES.rows(pages, ["prompt_id"]))
    assert set(per_prompt.values()) == {2 * 4}


@pytest.mark.parametrize(("count", "each"), [(6, 3), (6, 4), (7, 3), (5, 5), (8, 1), (4, 9)])
def test_every_page_is_seen_equally_often(tmp_path, count, each):
    _, forms = make_pages(tmp_path, pages=count, pages_per_participant=each)
    shown = dealt(forms)
    assert all(len(set(form)) == len(form) == min(each, count) for form in shown)
    assert len(set(Counter(page for form in shown for page in form).values())) == 1


def test_same_settings_same_bytes_and_another_seed_another_order(tmp_path):
    first, _ = make_pages(tmp_path / "a")
    second, _ = make_pages(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    samples = write_samples(tmp_path / "c")
    third = tmp_path / "c" / "pages.parquet"
    survey_pages(samples, third, tmp_path / "f", "korea", 8, SurveyConfig(pages=6, pages_per_participant=3))
    assert {row["page"] for row in PAGES.rows(third)} != {row["page"] for row in PAGES.rows(first)}


def test_attention_checks(tmp_path):
    pages, forms = make_pages(tmp_path, pages=6, pages_per_participant=4, attention_checks=2)
    checks = {row["page"] for row in PAGES.rows(pages) if row["check"]}
    assert len(checks) == 2
    for form in dealt(forms):
        assert len(form) == 6 and set(form) >= checks
        assert form[0] not in checks and form[-1] not in checks


def test_flat_pictures_are_never_shown(tmp_path, caplog):
    samples = write_samples(tmp_path, prompts=1, each=5, flat={(0, 2)})
    pages = tmp_path / "pages.parquet"
    survey_pages(samples, pages, tmp_path / "forms.parquet", "korea", 7, SurveyConfig(pages=9))
    assert {row["index"] for row in PAGES.rows(pages)} == {0, 1, 3, 4}
    assert "1 samples are not shown" in caplog.text and "4 pages: the samples hold no more" in caplog.text


def test_variants_that_do_not_belong_together(tmp_path):
    samples = write_samples(tmp_path, prompts=2)
    others = write_samples(tmp_path / "other", prompts=3)
    outputs = (tmp_path / "p", tmp_path / "f", "korea", 7)
    with pytest.raises(UserError, match="sample 0002/0 of 'scoft_m' has another prompt or seed"):
        survey_pages([samples[0], *others[1:]], *outputs, SurveyConfig())
    with pytest.raises(UserError, match="2 sample tables for 4 variants"):
        survey_pages(samples[:2], *outputs, SurveyConfig())
    flat = write_samples(tmp_path / "flat", prompts=1, each=1, flat={(0, 0)})
    with pytest.raises(UserError, match="no sample that all variants can show"):
        survey_pages(flat, *outputs, SurveyConfig())


def test_forms_are_read_back_in_order(tmp_path):
    _, forms = make_pages(tmp_path)
    rows = FORMS.read(forms)
    assert [(row["form"], row["place"]) for row in rows] == [(f, p) for f in range(2) for p in range(3)]


# --- wording and HTML ---


def test_a_wrong_wording_is_named(tmp_path):
    good = yaml.safe_load(SurveyConfig().wording.read_text())
    path = tmp_path / "w.yaml"

    def fault(**changes):
        path.write_text(yaml.safe_dump({k: v for k, v in (good | changes).items() if v is not None}))
        with pytest.raises(UserError) as caught:
            read_wording(path)
        return str(caught.value)

    assert "w.yaml: next: Field required" in fault(next=None)
    assert "nxt: Extra inputs" in fault(nxt="Next")
    assert "direction" in fault(direction="up")
    names = "needs description, representation, stereotypes, offensiveness and no other"
    one, *others = good["items"].items()
    assert f"w.yaml: items: {names}" in fault(items=dict(others))
    assert f"w.yaml: items: {names}" in fault(items=good["items"] | {"beauty": one[1]})
    path.write_text("a: [")
    with pytest.raises(UserError, match="cannot be read as YAML"):
        read_wording(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_wording(tmp_path / "missing.yaml")


def test_a_translation_reaches_the_page(tmp_path):
    words = yaml.safe_load(SurveyConfig().wording.read_text())
    words |= {"language": "ar", "direction": "rtl", "title": 'كيف <نُرى> "نحن"؟', "next": "التالي"}
    wording = tmp_path / "wording.ar.yaml"
    wording.write_text(yaml.safe_dump(words, allow_unicode=True))
    pages, forms = make_pages(tmp_path)
    survey = tmp_path / "survey.html"
    survey_html(pages, forms, [wording], survey, "korea", SurveyConfig(jpeg_quality=None), "Corée")
    text = survey.read_text()
    assert '<html lang="ar" dir="rtl">' in text and "التالي" in text
    assert "<title>كيف &lt;نُرى> &quot;نحن&quot;؟</title>" in text
    assert "data:image/png;base64," in text and "{{" not in text and '"name":"Corée"' in text


def test_contents_cannot_break_out_of_the_page(tmp_path):
    template = tmp_path / "t.html"
    template.write_text('<script type="application/json">{{survey}}</script>')
    evil = {"prompt": "</script><script>alert(1)</script><!--", "mark": "{{nonce}}"}
    text = render(template, read_wordings(SurveyConfig().wordings), {"cultures": evil})
    inside = text.removeprefix('<script type="application/json">').removesuffix("</script>")
    assert "<" not in inside
    assert json.loads(inside)["cultures"] == evil


def test_every_sentence_is_used():
    template = (SurveyConfig().wording.parent / "page.html").read_text()
    for name in Wording.model_fields.keys() - {"draft", "language_name", "items"}:
        assert f"words.{name}" in template, f"'{name}' is translated for nothing"


SHIPPED = sorted(SurveyConfig().wording.parent.glob("wording.*.yaml"))


def sentences(value, key=""):
    """Every text of a wording, by its key."""
    if isinstance(value, str):
        yield key, value
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield from sentences(inner, f"{key}.{name}")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_wordings_say_the_same(path, caplog):
    """Each fills in what the English one does; all but that one are drafts, and say so."""
    english, wording = (
        dict(sentences(yaml.safe_load(p.read_text()))) for p in (SurveyConfig().wording, path)
    )
    assert english.keys() == wording.keys()
    for key, text in english.items():
        assert set(re.findall(r"{\w+}", wording[key])) == set(re.findall(r"{\w+}", text)), key
    [read] = read_wordings([path])
    assert path.name == f"wording.{read.language}.yaml"
    assert len(read.consent) == 4
    assert ("is a draft" in caplog.text) == read.draft == (read.language != "en")


def test_languages_offered():
    assert {path.name.split(".")[1] for path in SHIPPED} >= {"en", "es", "hi", "ko", "yo", "zh"}
    with pytest.raises(UserError, match="'en' has a wording already"):
        read_wordings([SHIPPED[0].with_name("wording.en.yaml")] * 2)
    assert SurveyConfig(wording="a.yaml").wordings == (Path("a.yaml"),)
    both = SurveyConfig.model_validate_json('{"wording": ["a.yaml", "b.yaml"]}', strict=True)
    assert both.wordings == (Path("a.yaml"), Path("b.yaml"))


def test_prompts_in_other_languages(tmp_path, caplog):
    wordings = read_wordings([SHIPPED[0].with_name(f"wording.{name}.yaml") for name in ("en", "ko", "es")])
    table = tmp_path / "prompts.csv"
    table.write_text(
        "prompt;ko;es\nscene 0, in korea <b>;한국의 장면 0;\nscene 1, in korea <b>;장면 1;escena 1\n"
    )
    found = read_translations(table, wordings)
    assert found["scene 0, in korea <b>"] == {"ko": "한국의 장면 0"}
    assert "1 of 2 prompts have no text in 'es'" in caplog.text and "in 'ko'" not in caplog.text
    pages, _ = make_pages(tmp_path)
    contents = page_contents(pages, found)
    assert {page["prompts"].get("ko") for page in contents.values()} == {"한국의 장면 0", "장면 1", None}
    assert "1 prompts are not in the table" in caplog.text
    table.write_text("text;ko\na;b\n")
    with pytest.raises(UserError, match="name the first column 'prompt'"):
        read_translations(table, wordings)
