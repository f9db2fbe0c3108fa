"""From answers to tables and the report, against known truth and figures computed another way."""

import itertools
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from pipeline_steps.artifacts import (
    ANSWERS,
    CONSENSUS,
    POWER,
    REJECTED,
    SIMULATED,
    SKILLS,
    STATISTICS,
    VOTES,
    Origin,
)
from pipeline_steps.config import SimulationConfig, SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.method.crowd import crowd_skills, simulate_ranks
from pipeline_steps.survey.shown import ITEMS
from pipeline_steps.survey.survey_aggregate import survey_aggregate
from pipeline_steps.survey.survey_import import survey_import
from pipeline_steps.survey.survey_power import survey_power
from pipeline_steps.survey.survey_report import survey_report
from pipeline_steps.survey.survey_simulate import survey_simulate
from tests.survey.survey_world import VARIANTS, make_pages

TABLES = {"votes": VOTES, "consensus": CONSENSUS, "skills": SKILLS, "statistics": STATISTICS}


def made(people=15, pages=6, cultures=("india", "korea"), strengths=(0, 0.7, 1.4, 2.5), careless=0.2, seed=0):
    """Answers of a simulated crowd, each page in an order of its own; every seventh is blank."""
    rng = np.random.default_rng(seed)
    rows, number = [], 0
    for culture in cultures:
        ranks = simulate_ranks(strengths, crowd_skills(people, careless, 0.1), pages * 4, rng)
        order = [rng.permutation(4) for _ in range(pages)]
        for person, (page, item) in itertools.product(
            range(people), itertools.product(range(pages), range(4))
        ):
            number += 1
            given = ranks[person, page * 4 + item][order[page]].tolist()
            rows.append(
                {
                    "culture": culture,
                    "participant": f"p{person:02d}",
                    "page": f"{culture}-{page}",
                    "item": ITEMS[item],
                    "prompt": f"prompt {page // 2}",
                    "variants": [VARIANTS[n] for n in order[page]],
                    "ranks": None if number % 7 == 0 else given,
                    "file": "x.csv",
                }
            )
    return rows


def write(path, rows, simulated=True):
    rows = sorted(rows, key=lambda row: tuple(row[name] for name in ANSWERS.key))
    ANSWERS.write(path, rows, Origin("india,korea", "answers"), {"simulated": simulated, "rejected": 3})


def aggregate(folder, rows):
    write(folder / "answers.parquet", rows)
    paths = {name: folder / f"{name}.parquet" for name in TABLES}
    survey_aggregate(folder / "answers.parquet", *paths.values(), seed=5)
    return {name: table.read(paths[name]) for name, table in TABLES.items()}


@pytest.fixture(scope="module")
def summed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("summed")
    rows = made(pages=16)
    return folder, rows, aggregate(folder, rows)


def figure(found, statistic, subject, culture="all", item="all"):
    (row,) = (
        row
        for row in found["statistics"]
        if (row["culture"], row["item"], row["statistic"], row["subject"])
        == (culture, item, statistic, subject)
    )
    return row


def by_variant(rows, **where):
    """Ranks of each variant, shape (n, 4), straight from the rows."""
    table = []
    for row in rows:
        if row["ranks"] and all(row[name] == value for name, value in where.items()):
            rank = dict(zip(row["variants"], row["ranks"], strict=True))
            table.append([rank[name] for name in VARIANTS])
    return np.array(table)


def test_the_true_order_is_found_in_every_scope(summed):
    _, _, found = summed
    orders = {}
    for row in found["consensus"]:
        orders.setdefault((row["culture"], row["item"]), {})[row["variant"]] = row["place"]
    assert set(orders) == set(itertools.product(("all", "india", "korea"), ("all", *ITEMS)))
    truth = dict(zip(VARIANTS, (4, 3, 2, 1), strict=True))
    assert [scope for scope, order in orders.items() if order != truth] == []


def test_votes_are_one_per_participant_and_written_down(summed):
    _, rows, found = summed
    assert len(found["votes"]) == 15 * 6
    left_right = {(row["left"], row["right"]) for row in found["votes"]}
    assert len(left_right) == 6, "a pair's orientation is the same in every scope"
    assert any(VARIANTS.index(a) > VARIANTS.index(b) for a, b in left_right)
    assert any(VARIANTS.index(a) < VARIANTS.index(b) for a, b in left_right)
    for row in found["votes"]:
        people = 30 if row["culture"] == "all" else 15
        assert row["votes_left"] + row["votes_right"] <= people
    # By hand: the overall vote of one pair.
    a, b = sorted(left_right)[0]
    left = right = 0
    for culture, person in {(row["culture"], row["participant"]) for row in rows}:
        table = by_variant(rows, culture=culture, participant=person)
        share = (table[:, VARIANTS.index(a)] < table[:, VARIANTS.index(b)]).mean()
        left, right = left + (share > 0.5), right + (share < 0.5)
    (row,) = (
        r for r in found["votes"] if (r["culture"], r["item"], r["left"], r["right"]) == ("all", "all", a, b)
    )
    assert (row["votes_left"], row["votes_right"]) == (left, right)


def test_the_careless_and_adversarial_weigh_less(summed):
    _, _, found = summed
    skills = {
        r["participant"]: r["skill"]
        for r in found["skills"]
        if (r["level"], r["culture"]) == ("item", "korea")
    }
    truth = crowd_skills(15, 0.2, 0.1)
    attentive = [skills[f"p{n:02d}"] for n in range(15) if truth[n] == 1]
    others = [skills[f"p{n:02d}"] for n in range(15) if truth[n] == -1]
    assert max(others) < 0 < min(attentive)
    assert {row["level"] for row in found["skills"]} == {"overall", "item", "culture", "culture_item"}


def test_figures_computed_another_way(summed):
    _, rows, found = summed
    for culture, item in (
        ("all", "all"),
        ("korea", "all"),
        ("all", "offensiveness"),
        ("india", "description"),
    ):
        where = {k: v for k, v in {"culture": culture, "item": item}.items() if v != "all"}
        table = by_variant(rows, **where)
        for number, variant in enumerate(VARIANTS):
            row = figure(found, "mean_rank", variant, culture, item)
            assert row["value"] == pytest.approx(table[:, number].mean())
            assert row["low"] < row["value"] < row["high"]
            assert row["rankings"] == len(table) and row["participants"] == (30 if culture == "all" else 15)
            for other in range(number):
                share = (table[:, number] < table[:, other]).mean()
                subject = f"{variant} over {VARIANTS[other]}"
                assert figure(found, "win_share", subject, culture, item)["value"] == pytest.approx(share)
    shown = np.array([row["ranks"] for row in rows if row["ranks"]])
    for position in range(4):
        row = figure(found, "position_rank", f"position {position + 1}")
        assert row["value"] == pytest.approx(shown[:, position].mean())
    means = [
        by_variant(rows, culture=culture, participant=f"p{person:02d}").mean(0)
        for culture, person in itertools.product(("india", "korea"), range(15))
    ]
    test = stats.friedmanchisquare(*np.array(means).T)
    assert figure(found, "friedman_p", "all variants")["value"] == pytest.approx(test.pvalue)
    w = figure(found, "kendall_w", "participants")
    assert w["value"] == pytest.approx(test.statistic / (30 * 3)) and w["low"] < w["value"] < w["high"]
    worths = [figure(found, "plackett_luce", variant)["value"] for variant in VARIANTS]
    assert sum(worths) == pytest.approx(1) and worths == sorted(worths)
    alpha = figure(found, "krippendorff_alpha", "participants")
    assert alpha["low"] < alpha["value"] < alpha["high"] < 1


def test_same_answers_same_bytes(summed, tmp_path):
    folder, rows, _ = summed
    aggregate(tmp_path, rows[::-1])
    for name in TABLES:
        assert (tmp_path / f"{name}.parquet").read_bytes() == (folder / f"{name}.parquet").read_bytes()


def test_one_participant_and_one_page(tmp_path):
    rows = [row for row in made(people=1, pages=1, cultures=("korea",), careless=0) if row["ranks"]]
    found = aggregate(tmp_path, rows)
    assert {row["reason"] for row in found["votes"] if row["culture"] == "korea"} >= {
        "fewer than three participants"
    }
    row = figure(found, "mean_rank", "sd")
    assert row["low"] is None and "needs two participants" in row["interval"]
    assert figure(found, "kendall_w", "participants")["value"] is None


def test_blank_answers_only_and_different_variants(tmp_path):
    rows = made(people=2, pages=1)
    with pytest.raises(UserError, match="all 16 answers are blank"):
        aggregate(tmp_path, [row | {"ranks": None} for row in rows])
    rows[0]["variants"] = ["sd", "ldm", "scoft_mp", "scoft_mpc"]
    with pytest.raises(UserError, match="pages with other variants than"):
        aggregate(tmp_path, rows)


def report(folder, power=None):
    left_out = {"file": "a<b.csv", "row": 7, "reason": "no permutation"}
    public = {f"public_{name}": left_out[name] for name in ("file", "reason")}
    REJECTED.write(folder / "rejected.parquet", [left_out | public])
    names = ("answers", "rejected", "votes", "consensus", "skills", "statistics")
    survey_report(*(folder / f"{name}.parquet" for name in names), folder / "report.html", power)
    return (folder / "report.html").read_text()


def test_the_report(summed):
    folder, rows, found = summed
    power = folder / "power.parquet"
    simulation = SimulationConfig(
        power_participants=(3, 12), power_careless=(0.0,), power_adversarial=(0.0,), power_trials=8
    )
    survey_power(power, 1, SurveyConfig(simulation=simulation, pages_per_participant=3))
    text = report(folder, power)
    assert "These answers are simulated. No person was asked." in text
    body = text[text.index("<main") :]
    said = " ".join(re.sub(r"<[^>]+>", " ", body).split())
    assert "They order the models SCoFT+MPC › SCoFT+MP › SCoFT+M › Stable Diffusion" in said
    assert re.search(r"india( MPC › MP › M › SD ✓ as the paper){2}", said)
    assert "30 participants from 2 cultures (india, korea)" in text
    assert f"{sum(row['ranks'] is None for row in rows)} questions were left blank" in text
    assert "a&lt;b.csv" in text and "3 answers could not be used" in text
    # The paper's own Table 1 beside ours, and marked as such.
    printed = re.findall(r'<tr class="paper"><td></td><td>the paper</td>(.*?)</tr>', text)
    assert [re.findall(r"[\d.]+(?=</td>)", row)[0] for row in printed] == ["3.09", "2.57", "2.33", "1.83"]
    assert [row.count("<td") for row in printed] == [4] * 4
    mean = figure(found, "mean_rank", "scoft_mpc", item="offensiveness")["value"]
    assert f"{mean:.2f} <small>(" in text
    assert re.search(r'<svg [^>]*aria-label="korea \(\d+ participants\)"', text)
    assert "How many people should we ask?" in text
    assert re.search(r"Some intervals for [^.]*korea come from few people or few prompts", text)
    assert not re.search(r'(src|href)="(?!data:|#)', text), "everything is inside"
    assert report(folder, power) == text


def test_a_real_survey_has_no_banner(tmp_path):
    found = aggregate(tmp_path, made(people=3, pages=2))
    del found
    write(tmp_path / "answers.parquet", made(people=3, pages=2), simulated=False)
    paths = [tmp_path / f"{name}.parquet" for name in TABLES]
    survey_aggregate(tmp_path / "answers.parquet", *paths, seed=5)
    assert "simulated. No person" not in report(tmp_path)
    assert STATISTICS.note(paths[-1])["simulated"] is False


def test_power_grows_with_people_and_falls_with_the_careless(tmp_path):
    simulation = SimulationConfig(
        strengths=dict(zip(VARIANTS, (0.0, 0.25, 0.5, 0.75), strict=True)),
        power_participants=(6, 30),
        power_careless=(0.0, 0.5),
        power_adversarial=(0.0, 0.3),
        power_trials=20,
    )
    survey_power(tmp_path / "p.parquet", 1, SurveyConfig(simulation=simulation, pages_per_participant=3))
    table = {
        (r["participants"], r["careless"], r["adversarial"], r["method"], r["statistic"]): r
        for r in POWER.read(tmp_path / "p.parquet")
    }
    assert len(table) == 2 * 2 * 2 * 3 * 2
    for method in ("mmsr_vote", "majority", "plackett_luce"):
        few, many = (table[people, 0.0, 0.0, method, "true_order"] for people in (6, 30))
        spoilt = table[30, 0.5, 0.3, method, "true_order"]
        assert few["value"] < many["value"] > spoilt["value"]
        assert many["low"] <= many["value"] <= many["high"] and many["trials"] == 20
        assert table[30, 0.0, 0.0, method, "true_best"]["value"] >= many["value"]
    assert POWER.note(tmp_path / "p.parquet")["simulated"] is True


def test_simulated_answers_go_the_whole_way(tmp_path):
    """Pages, simulated answers, import, sums: marked as simulated at each station."""
    tables = [make_pages(tmp_path, culture, attention_checks=1) for culture in ("india", "korea")]
    pages, forms = [p for p, _ in tables], [f for _, f in tables]
    simulation = SimulationConfig(
        participants=12, careless=0.25, strengths=dict(zip(VARIANTS, (0, 2, 4, 6), strict=True))
    )
    config = SurveyConfig(simulation=simulation)
    collected = tmp_path / "collected" / "simulated.parquet"
    survey_simulate(pages, forms, collected, 3, config)
    assert SIMULATED.note(collected)["simulated"] is True
    assert SIMULATED.count(collected) == 2 * 12 * 4 * 4 * 4
    first = collected.read_bytes()
    survey_simulate(pages, forms, collected, 3, config)
    assert collected.read_bytes() == first
    survey_import(
        collected.parent, pages, tmp_path / "answers.parquet", tmp_path / "rejected.parquet", config
    )
    assert ANSWERS.note(tmp_path / "answers.parquet")["simulated"] is True
    # The careless do not answer the check; the attentive do.
    people = {(r["culture"], r["participant"]) for r in ANSWERS.rows(tmp_path / "answers.parquet")}
    assert people == {(c, f"simulated{n:04d}") for c in ("india", "korea") for n in range(3, 12)}
    paths = [tmp_path / f"{name}.parquet" for name in TABLES]
    survey_aggregate(tmp_path / "answers.parquet", *paths, seed=5)
    assert all(
        table.note(path)["simulated"] is True for table, path in zip(TABLES.values(), paths, strict=True)
    )
    places = {
        r["variant"]: r["place"]
        for r in CONSENSUS.rows(paths[1])
        if (r["culture"], r["item"]) == ("all", "all")
    }
    assert places == dict(zip(VARIANTS, (4, 3, 2, 1), strict=True))
    assert b"simulated" in pq.read_schema(paths[0]).metadata[b"scoft"]


def test_hundreds_of_participants(tmp_path):
    """A tenth of the largest survey, so that nothing grows faster than the answers unnoticed."""
    rows = made(people=100, pages=10, cultures=("korea",))
    found = aggregate(tmp_path, rows)
    assert figure(found, "mean_rank", "sd")["participants"] == 100
    assert len({row["participant"] for row in found["skills"]}) == 100


def test_crowd_by_definition():
    assert crowd_skills(10, 0.2, 0.1).tolist() == [-1, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    ranks = simulate_ranks([0, 1], np.array([1.0, 0.0, -1.0]), 20_000, np.random.default_rng(0))
    wins = (ranks[..., 1] < ranks[..., 0]).mean(1)
    # Plackett–Luce: the odds of a pair are exp(skill × difference of strengths).
    np.testing.assert_allclose(wins, [1 / (1 + np.exp(-1)), 0.5, 1 / (1 + np.exp(1))], atol=0.015)
