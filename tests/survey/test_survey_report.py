"""The report in words that a reader without statistics takes rightly."""

import html
import json
import re
import xml.etree.ElementTree as ET

import pytest

from pipeline_steps.artifacts import ANSWERS, POWER, REJECTED, Origin
from pipeline_steps.config import SimulationConfig, SurveyConfig
from pipeline_steps.survey.survey_aggregate import survey_aggregate
from pipeline_steps.survey.survey_power import survey_power
from pipeline_steps.survey.survey_report import survey_report
from tests.survey.survey_world import VARIANTS
from tests.survey.test_survey_aggregate import made

AGGREGATED: dict[str, dict[str, bytes]] = {}
NAMES = ("votes", "consensus", "skills", "statistics")


def page(folder, rows, power=None, called=("भारत", "Corée"), rejected=(), **note):
    """The report of some answers, as text without marks and as HTML."""
    rows = sorted(rows, key=lambda row: tuple(row[name] for name in ANSWERS.key))
    note = {"simulated": False, "rejected": 1} | note
    ANSWERS.write(folder / "answers.parquet", rows, Origin("india,korea", "answers"), note)
    REJECTED.write(folder / "rejected.parquet", rejected)
    paths = [folder / f"{name}.parquet" for name in NAMES]
    known = AGGREGATED.setdefault(json.dumps([rows, note]), {})
    if not known:  # its jackknife takes seconds, and three tests ask about the same crowd
        survey_aggregate(folder / "answers.parquet", *paths, seed=1)
        known |= {path.name: path.read_bytes() for path in paths}
    for path in paths:
        path.write_bytes(known[path.name])
    report = folder / "report.html"
    inputs = (folder / "answers.parquet", folder / "rejected.parquet", *paths)
    survey_report(*inputs, report, power, ["india", "korea"], list(called))
    text = report.read_text()
    body = text[text.index("<main") :]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split()), body


def ranking(person, ranks, culture="korea", item="description"):
    return {
        "culture": culture, "participant": person, "page": f"{culture}-0", "item": item, "prompt": "a",
        "variants": list(VARIANTS), "ranks": ranks, "file": "x.csv",
    }  # fmt: skip


def test_one_of_each_is_said_in_the_singular(tmp_path):
    text, _ = page(tmp_path, [ranking("a", [1, 2, 3, 4])])
    assert "1 participant from 1 culture ( Corée ) gave 1 ranking" in text.replace("(Corée)", "( Corée )")
    assert "0 questions were left blank and 1 answer could not be used" in text
    assert not re.search(r"\b1 (participants|cultures|rankings|answers|questions|people|decisions)\b", text)


def test_an_earlier_round_is_named(tmp_path):
    text, _ = page(tmp_path, [ranking("p1", [4, 3, 2, 1])], rounds={"korea": "3f2a91c0"})
    assert "answers to an earlier round, of pictures that have been made anew since: Corée (3f2a91c0)" in text
    assert "earlier round" not in page(tmp_path, [ranking("p1", [4, 3, 2, 1])])[0]


def test_a_tie_is_no_best(tmp_path):
    rows = [ranking("a", [1, 2, 3, 4]), ranking("b", [2, 1, 3, 4])]
    text, _ = page(tmp_path, rows)
    assert "SCoFT+M and Stable Diffusion share the first place" in text
    assert "do not say which of them is better" in text
    assert not re.search(r"is ranked [\d.]+", text)


def test_few_people_have_no_interval_and_are_called_few(tmp_path):
    rows = made(people=2, pages=4, cultures=("korea",), careless=0)
    text, body = page(tmp_path, rows)
    assert "Only 2 people answered" in text
    assert "<small>(" not in body, "no interval of two people"
    text, body = page(tmp_path, made(people=8, pages=4, cultures=("korea",)))
    assert "answered. So few" not in text and "<small>(" in body


def test_each_culture_has_its_ranks_and_shares(tmp_path):
    text, body = page(tmp_path, made(people=6, pages=4))
    assert "Culture by culture" in text and "भारत" in text and "Corée" in text
    assert not re.search(r"\b(india|korea)\b", text), "by the names that people write"
    table = body[body.index('aria-label="Average ranks by culture"') :]
    rows = ET.fromstring(table[table.index("<table>") : table.index("</table>") + 8]).findall("./tbody/tr")
    ranks = [[float(cell.text) for cell in row.findall("td")[1:]] for row in rows]
    assert [len(row) for row in ranks] == [2] * 4
    assert [sum(column) for column in zip(*ranks, strict=True)] == pytest.approx([10, 10], abs=0.03)
    shares = body[body.index('aria-label="One variant against another by culture"') :]
    assert shares[: shares.index("</table>")].count("<tr>") == 1 + 6


def test_terms_are_explained_where_they_stand(tmp_path):
    text, body = page(tmp_path, made(people=6, pages=4))
    assert "Holm)" not in "".join(re.findall(r"<th.*?</th>", body)), "no test's name heads a column"
    for term in ("Wilcoxon", "Friedman"):
        assert re.search(rf"p(:| is) how often .{{0,120}}{term}", text), term


@pytest.mark.parametrize("codes", [False, True])
def test_open_enrolment_says_what_it_cannot_exclude(tmp_path, codes):
    text, _ = page(tmp_path, made(people=6, pages=2), codes=codes, together=0 if codes else 60)
    assert ("one person who took part many times" in text) != codes
    assert ("60 participants began within one minute" in text) != codes
    assert ("Only the codes handed out" in text) == codes


def test_no_code_stands_on_the_page(tmp_path):
    """Who reads one can answer in its owner's name."""
    code = "stonestonestone-1"
    left_out = {
        "file": f"survey-korea-{code}.json", "row": 7, "reason": f"double answer by '{code}'",
        "public_file": "survey-korea-person 4.json", "public_reason": "double answer by person 4",
    }  # fmt: skip
    text, body = page(tmp_path, [ranking(code, [1, 2, 3, 4])], rejected=[left_out])
    assert "survey-korea-person 4.json 7 double answer by person 4" in text
    assert "rejected.parquet says who each person is" in text and "stone" not in body


def test_strengths_stand_in_a_sentence(tmp_path):
    power = tmp_path / "power.parquet"
    crowd = {
        "power_participants": (3,),
        "power_careless": (0.0,),
        "power_adversarial": (0.0,),
        "power_trials": 2,
    }
    survey_power(power, 1, SurveyConfig(simulation=SimulationConfig(**crowd), pages_per_participant=3))
    assert "{" in POWER.note(power)["strengths"]
    text, _ = page(tmp_path, made(people=6, pages=2), power)
    assert "Stable Diffusion 0, SCoFT+M 0.7, SCoFT+MP 1, SCoFT+MPC 1.8" in text
    assert "{'" not in text
