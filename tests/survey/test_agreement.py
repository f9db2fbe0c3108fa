"""The judge beside people: an agreement that is known, from drawn pictures to the page."""

import html
import re

import numpy as np
import pytest

from pipeline_steps.artifacts import AGREEMENT, ANSWERS, PAGES, SCORES, Origin
from pipeline_steps.config import JudgeConfig, SimulationConfig, SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.survey.agreement import agreement
from pipeline_steps.survey.judge import judge
from pipeline_steps.survey.survey_import import survey_import
from pipeline_steps.survey.survey_simulate import survey_simulate
from tests.survey.survey_world import VARIANTS
from tests.survey.test_judge import ORACLE, WORDING, drawn_pages

STRENGTHS = dict(zip(VARIANTS, (0.0, 0.7, 1.0, 1.8), strict=True))
CULTURES = ("india", "korea")


def preferred(errors=0.0):
    """How often a judge that errs at a rate prefers what a simulated person does (Plackett–Luce)."""
    worths = list(STRENGTHS.values())
    right = np.mean([1 / (1 + np.exp(worths[a] - worths[b])) for b in range(4) for a in range(b)])
    return (1 - errors) * right + errors * 0.5


def among():
    """How often two simulated persons prefer the same of two pictures."""
    worths = list(STRENGTHS.values())
    shares = [1 / (1 + np.exp(worths[a] - worths[b])) for b in range(4) for a in range(b)]
    return np.mean([p**2 + (1 - p) ** 2 for p in shares])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two cultures' drawn pages, and thirty simulated people of each."""
    folder = tmp_path_factory.mktemp("world")
    tables = [drawn_pages(folder, culture) for culture in CULTURES]
    (folder / "collected").mkdir()
    pages, forms = map(list, zip(*tables, strict=True))
    config = SurveyConfig(simulation=SimulationConfig(participants=30, strengths=STRENGTHS))
    survey_simulate(pages, forms, folder / "collected/simulated.parquet", 3, config)
    survey_import(folder / "collected", pages, folder / "a.parquet", folder / "r.parquet", config)
    return folder, pages


def compared(world, path, errors=0.0, people=True, scores=()):
    folder, pages = world
    judged = []
    for culture, table in zip(CULTURES, pages, strict=True):
        judged.append(path / f"{culture}.parquet")
        config = SurveyConfig(judge=JudgeConfig(errors=errors))
        judge(table, WORDING, judged[-1], culture, 5, config, None, ORACLE)
    answers = folder / "a.parquet" if people else None
    names = ["भारत", "Corée"]
    agreement(judged, list(scores), path / "t.parquet", path / "p.html", answers, CULTURES, names)
    page = (path / "p.html").read_text()
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page[page.index("<main>") :])).split())
    rows = {(row["culture"], row["item"], row["rater"]): row for row in AGREEMENT.rows(path / "t.parquet")}
    return rows, text, re.search("<title>(.*)</title>", page)[1]


@pytest.mark.parametrize("errors", [0.0, 0.8])
def test_the_page_shows_the_agreement_that_is_known(world, tmp_path, errors):
    rows, text, title = compared(world, tmp_path, errors)
    whole, people = rows["all", "all", "judge"], rows["all", "all", "people"]
    assert whole["agreement"] == pytest.approx(preferred(errors), abs=0.03)
    assert whole["low"] <= preferred(errors) <= whole["high"]
    assert people["agreement"] == pytest.approx(among(), abs=0.03)
    assert people["low"] <= among() <= people["high"]
    assert whole["tau"] == pytest.approx(2 * whole["agreement"] - 1)
    assert whole["pairs_in_order"] == whole["pairs"] == 6
    assert set(rows) == {
        (culture, item, rater)
        for culture in ("all", *CULTURES)
        for item in ("all", "description", "representation", "stereotypes", "offensiveness")
        for rater in ("judge", "people")
    }
    assert title == "The judge beside people" and "The people are simulated" in text
    ends = f"({whole['low']:.0%}–{whole['high']:.0%})"
    assert f"prefer the same one in {whole['agreement']:.0%} {ends} of cases" in text
    assert f"two people in {people['agreement']:.0%}" in text
    assert ("as far as people do? Yes." in text) == (errors == 0)
    assert "Corée" in text and "differs from 2.5 by more than chance." in text


def test_with_nobody_s_answers_the_title_says_that_the_judge_is_unchecked(world, tmp_path):
    rows, text, title = compared(world, tmp_path, people=False)
    assert not rows and title == "The judge is unchecked: nobody has answered"
    assert "SCoFT+MPC (1.0" in text and "Two people" not in text


def test_answers_that_are_all_blank_are_nobody_s(world, tmp_path):
    folder, pages = world
    rows = [row | {"ranks": None} for row in ANSWERS.rows(folder / "a.parquet")][:3]
    note = {"simulated": False, "judge": "", "asked": 0, "malformed": 0}
    ANSWERS.write(tmp_path / "a.parquet", rows, Origin("all", "x"), note)
    rows, _, title = compared((tmp_path, pages), tmp_path)
    assert not rows and title == "The judge is unchecked: nobody has answered"


def test_people_of_an_earlier_round_are_not_compared(world, tmp_path):
    """Those of the other culture are, and of nobody's answers the page does not say that nobody answered."""
    folder, pages = world
    rows, note = list(ANSWERS.rows(folder / "a.parquet")), {"simulated": False}
    for rounds in ({"india": "3f2a91c0"}, {"india": "3f2a91c0", "korea": "aaaaaaaa"}):
        ANSWERS.write(tmp_path / "a.parquet", rows, Origin("all", "x"), note | {"rounds": rounds})
        found, text, title = compared((tmp_path, pages), tmp_path)
        assert "earlier round of the survey: भारत (3f2a91c0)" in text
        if "korea" in rounds:
            assert not found and title == "The judge is unchecked: people answered an earlier round"
        else:
            assert {culture for culture, *_ in found} == {"all", "korea"}
            assert found["all", "all", "judge"]["people"] == 30
            assert title == "The judge beside people"


def test_a_judge_that_likes_a_place_is_found_out(world, tmp_path):
    _, pages = world
    rows = [
        {"culture": "korea", "participant": f"vlm@1, turn {turn}", "page": page, "item": item, "prompt": "p",
         "variants": list(VARIANTS), "ranks": [1, 2, 3, 4], "file": ""}
        for page in sorted({row["page"] for row in PAGES.rows(pages[1], ["check"]) if not row["check"]})
        for item in ("description", "stereotypes") for turn in (1, 2)
    ]  # fmt: skip
    rows.sort(key=lambda row: tuple(row[name] for name in ANSWERS.key))
    note = {"simulated": False, "judge": "vlm@1", "asked": 100, "malformed": 1}
    ANSWERS.write(tmp_path / "j.parquet", rows, Origin("korea", "judge"), note)
    agreement([tmp_path / "j.parquet"], [], tmp_path / "t.parquet", tmp_path / "p.html")
    text = " ".join((tmp_path / "p.html").read_text().split())
    assert "position 1 and position 2 and position 3 and position 4 differs from 2.5" in text
    assert "100 questions" in text and "1 reply was no order of the pictures" in text


def scored(folder, culture, **metrics):
    """Scores of the variants in their order."""
    about = dict.fromkeys(SCORES.schema.names) | {
        "interval": "", "unit": "", "generated": 4, "extractor": "net", "weights_sha256": "0",
    }  # fmt: skip
    for number, variant in enumerate(VARIANTS):
        rows = [
            about | {"variant": variant, "metric": metric, "value": float(values[number])}
            for metric, values in sorted(metrics.items())
        ]
        SCORES.write(folder / f"{culture}_{variant}.parquet", rows, Origin(culture, "f" * 64))
        yield folder / f"{culture}_{variant}.parquet"


def test_a_score_is_a_rater_that_orders_all_pages_alike(world, tmp_path):
    metrics = {"kid": (4, 3, 2, 1), "clip_score": (4, 3, 2, 1), "cmmd": (1, 1, 2, 3), "vendi": (2, 1, 3, 4)}
    scores = [path for culture in CULTURES for path in scored(tmp_path, culture, **metrics)]
    rows, text, _ = compared(world, tmp_path, scores=scores)
    kid, clip, vendi = (rows["all", "all", name] for name in ("kid", "clip_score", "vendi"))
    assert kid["agreement"] == pytest.approx(preferred(), abs=0.03) and kid["pairs_in_order"] == 6
    assert clip["agreement"] == pytest.approx(1 - kid["agreement"]) and clip["pairs_in_order"] == 0
    assert clip["tau"] < 0 and vendi["pairs_in_order"] == 5
    assert not any(rater == "cmmd" for _, _, rater in rows), "two variants alike: no order"
    assert "KID (lower)" in text and "CLIPScore (higher)" in text and "5 of 6" in text


def test_answers_to_other_variants_and_a_mute_judge_are_refused(world, tmp_path):
    note = {"simulated": False, "judge": "vlm@1", "asked": 1, "malformed": 1}
    ANSWERS.write(tmp_path / "j.parquet", [], Origin("korea", "judge"), note)
    with pytest.raises(UserError, match="the judge gave no usable reply"):
        agreement([tmp_path / "j.parquet"], [], tmp_path / "t.parquet", tmp_path / "p.html")
    row = {"culture": "korea", "participant": "x", "page": "p", "item": "description", "prompt": "p",
           "variants": ["sd", "ldm"], "ranks": [1, 2], "file": ""}  # fmt: skip
    ANSWERS.write(tmp_path / "j.parquet", [row], Origin("korea", "judge"), note)
    with pytest.raises(UserError, match="pages with other variants than sd, ldm"):
        agreement(
            [tmp_path / "j.parquet"], [], tmp_path / "t.parquet", tmp_path / "p.html", world[0] / "a.parquet"
        )


def test_a_judge_s_table_among_people_s_answers_counts_nowhere(world, tmp_path):
    _, pages = world
    (tmp_path / "answers").mkdir()
    path = tmp_path / "answers/judged.parquet"
    judge(pages[1], WORDING, path, "korea", 5, SurveyConfig(), None, ORACLE)
    with pytest.raises(UserError, match="no usable answer"):
        survey_import(
            tmp_path / "answers", pages, tmp_path / "a.parquet", tmp_path / "r.parquet", SurveyConfig()
        )
