"""How many people to ask: against scipy's test, and against what must be so."""

import re

import numpy as np
import pytest
from scipy import stats

from pipeline_steps.config import SurveyConfig
from pipeline_steps.method.crowd import chance_to_see, signed_rank_p
from pipeline_steps.survey.survey_people import PEOPLE, survey_people


def test_many_signed_rank_tests_equal_scipys():
    rng = np.random.default_rng(1)
    many = rng.integers(-4, 6, (40, 30))
    expected = [stats.wilcoxon(row, method="approx").pvalue for row in many]
    assert signed_rank_p(many) == pytest.approx(expected)
    assert signed_rank_p(np.zeros((2, 5), int)).tolist() == [1, 1]
    assert signed_rank_p(np.full((1, 5), 3)) == 2 / 32, "no smaller than five people can make it"


def test_the_chance_is_what_theory_says():
    rng = np.random.default_rng(2)
    assert chance_to_see(40, 10, 0.5, 0, 0.05, 2000, rng) == pytest.approx(0.025, abs=0.012), (
        "by chance alone"
    )
    assert chance_to_see(40, 10, 0.9, 0, 0.05, 100, rng) == 1
    assert chance_to_see(5, 100, 0.9, 0, 0.05, 100, rng) == 0, "five people are never enough"
    # A z-test of the mean over people and pages is close to it.
    spread = np.sqrt(0.6 * 0.4 / 400)
    theory = stats.norm.sf((1.96 * np.sqrt(0.25 / 400) - 0.1) / spread)
    assert chance_to_see(40, 10, 0.6, 0, 0.05, 2000, rng) == pytest.approx(theory, abs=0.04)


@pytest.fixture(autouse=True)
def fewer_trials(monkeypatch):
    monkeypatch.setattr("pipeline_steps.survey.survey_people.TRIALS", 300)


def people(folder, **settings):
    survey_people(folder / "people.html", 1, SurveyConfig(**settings))
    text = (folder / "people.html").read_text()
    found = re.search(r'class="banner">(Ask|More than) (\d+) people in each culture, with (\d+) page', text)
    return (int(found[2]) if found[1] == "Ask" else np.inf), int(found[3]), text


def test_the_page_recommends_people_and_pages(tmp_path):
    count, pages, text = people(tmp_path)
    assert pages == SurveyConfig().pages_per_participant and count in PEOPLE
    assert people(tmp_path, simulation={"difference": 0.8})[0] < count
    assert people(tmp_path, simulation={"chance": 0.95})[0] > count
    assert people(tmp_path, pages_per_participant=40)[0] < count
    assert people(tmp_path, variants=["sd", "scoft_mpc"])[0] < count, "one pair takes fewer"
    assert people(tmp_path, simulation={"difference": 0.505})[0] == np.inf
    row = re.search(rf'<td class="figure">{count}</td>(.*?)</tr>', text)[1]
    assert max(int(chance) for chance in re.findall(r">(\d+)<", row)) >= 80
