"""Answers to pages that have been made anew since."""

import csv

import pytest

from pipeline_steps.artifacts import ANSWERS, PAGES, REJECTED, ROUND
from pipeline_steps.config import SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.survey.survey_import import survey_import
from tests.survey.survey_world import make_pages


@pytest.fixture
def asked(tmp_path):
    """Answers to each page of a first round, and a second round that has taken its place."""
    pages, _ = make_pages(tmp_path)
    rows = PAGES.read(pages)
    (tmp_path / "answers").mkdir()
    with (tmp_path / "answers/a.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["participant", "culture", "page", "item", "picture", "rank"])
        for row in rows:
            table.writerow(["ada", "korea", row["page"], "description", row["picture"], 5 - row["position"]])
    (first,) = (tmp_path / "korea/rounds").iterdir()
    make_pages(tmp_path, variants=["sd", "scoft_mp", "scoft_mpc"])
    return tmp_path, pages, first, rows


def summed_up(folder, pages):
    result, rejected = folder / "a.parquet", folder / "r.parquet"
    survey_import(folder / "answers", pages, result, rejected, SurveyConfig(), survey=folder)
    return ANSWERS.read(result), REJECTED.read(rejected)


def test_the_key_to_a_round_outlives_its_pages(asked):
    folder, pages, first, rows = asked
    second = {path.name for path in (folder / "korea/rounds").iterdir()} - {first.name}
    assert len(second) == 1  # one key for each round
    assert ROUND.read(first) == [{name: row[name] for name in ROUND.schema.names} for row in rows]
    assert {row["page"] for row in PAGES.rows(pages)}.isdisjoint(row["page"] for row in rows)
    assert "fingerprint" not in ROUND.note(first)  # it holds no picture, and outlives a withdrawal


def test_answers_to_another_round_say_which(asked):
    folder, pages, first, _ = asked
    with pytest.raises(
        UserError, match=rf'to sum that one up, set survey\.rounds: \{{korea: "{first.stem}"\}}'
    ):
        summed_up(folder, [pages])


def test_an_earlier_round_is_summed_up(asked):
    folder, _, first, rows = asked
    answers, rejected = summed_up(folder, [first])
    assert ANSWERS.note(folder / "a.parquet")["rounds"] == {"korea": first.stem}
    assert rejected == [] and len(answers) == 6
    for answer in answers:
        shown = [row["variant"] for row in rows if row["page"] == answer["page"]]
        assert answer["variants"] == shown and answer["ranks"] == [4, 3, 2, 1]


def test_answers_of_a_culture_that_is_not_surveyed_any_more_say_whose_they_are(asked, tmp_path):
    folder, *_ = asked
    pages, _ = make_pages(tmp_path, "cymru")
    with pytest.raises(
        UserError, match=r"was asked of 'korea', which is not surveyed now; name it in survey\.cultures"
    ):
        summed_up(folder, [pages])
