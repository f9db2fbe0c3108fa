"""Tables 1 and 2, and Fig. 7: our figures from score files, the paper's beside them."""

import csv

import pytest

from pipeline_steps.artifacts import ANSWERS, SCORES, STATISTICS, Origin
from pipeline_steps.config import FIG7
from pipeline_steps.drawing import paper
from pipeline_steps.drawing.charts import interval_chart, line_chart, violin_chart
from pipeline_steps.errors import UserError
from pipeline_steps.method.estimate import Estimate, mean_of
from pipeline_steps.report.fig5 import fig5
from pipeline_steps.report.fig7 import fig7
from pipeline_steps.report.paper_table import paper_table


def write_scores(path, culture, variant, network="ab" * 32, **metrics):
    """Write a score file whose intervals reach 0.5 to both sides."""
    about = {"interval": "95%, bootstrap", "unit": "u", "generated": 200, "reference": 60}
    about |= {"extractor": "net", "weights_sha256": network}
    rows = [
        {"variant": variant, "metric": m, "value": v, "low": v - 0.5, "high": v + 0.5, **about}
        for m, v in sorted(metrics.items())
    ]
    SCORES.write(path, rows, Origin(culture, culture))
    return path


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def table1(tmp_path):
    scores, coco = [], []
    for shift, culture in enumerate(("india", "korea")):
        for place, variant in enumerate(paper.TABLES[1]):
            name = f"{culture}_{variant}.parquet"
            scores.append(
                write_scores(
                    tmp_path / "test" / name, culture, variant, kid=shift + place / 10, clip_score=0.8
                )
            )
            coco.append(write_scores(tmp_path / "coco" / name, culture, variant, kid=2.0))
    return scores, coco, tmp_path / "table1.csv"


def test_table1_has_cultures_their_mean_and_the_papers_figures(table1):
    scores, coco, table = table1
    paper_table(1, scores, coco, table)
    rows = {(row["source"], row["culture"], row["variant"]): row for row in read(table)}
    assert len(rows) == 4 * 3 + 4
    assert float(rows["ours", "korea", "scoft_m"]["kid_ccub_x1000"]) == pytest.approx(1100)
    whole = rows["ours", "all", "scoft_m"]
    assert float(whole["kid_ccub_x1000"]) == pytest.approx(600)
    # Two independent half-widths of 0.5: sqrt(2 * 0.25) / 2 = 0.35355
    assert float(whole["kid_ccub_x1000_high"]) == pytest.approx(600 + 353.553, rel=1e-5)
    assert (whole["kid_ccub_x1000_generated"], whole["kid_ccub_x1000_reference"]) == ("400", "120")
    assert whole["kid_ccub_x1000_weights_sha256"] == "ab" * 32
    assert whole["best_described"] == ""
    printed = rows["paper", "all", "scoft_mpc"]
    assert (printed["kid_ccub_x1000"], printed["kid_coco_x1000"], printed["clip_score"]) == (
        "19.621",
        "4.819",
        "0.799",
    )
    assert (printed["best_described"], printed["least_offensive"]) == ("1.83", "1.78")
    assert printed["kid_ccub_x1000_low"] == ""


def statistics(path, simulated, rounds=None):
    """Write mean ranks of two variants by one culture's participants, and something that is no rank."""
    about = {"interval": "95%, bootstrap", "participants": 7, "rankings": 70, "high": 3.5}
    rows = [
        {"culture": c, "item": i, "statistic": s, "subject": v, "value": value, "low": low, **about}
        for c in ("all", "india")
        for i in ("all", "description")
        for s, v, value, low in (
            ("kendall_w", "participants", 0.5, 0.1),
            ("mean_rank", "scoft_m", 2.5, 2.25),
            ("mean_rank", "sd", 3.25, None),
        )
    ]
    STATISTICS.write(path, rows, extra={"simulated": simulated, "rounds": rounds or {}})
    return path


@pytest.mark.parametrize("simulated", [False, True])
def test_table1_takes_the_surveys_ranks_and_says_whose_they_are(table1, tmp_path, simulated):
    scores, coco, table = table1
    paper_table(1, scores, coco, table, statistics(tmp_path / "statistics.parquet", simulated))
    rows = {(row["source"], row["culture"], row["variant"]): row for row in read(table)}
    for culture in ("india", "all"):
        found = rows["ours", culture, "scoft_m"]
        names = ("", "_low", "_high", "_interval", "_participants", "_rankings")
        assert [found[f"best_described{end}"] for end in names] == [
            "2.5", "2.25", "3.5", "95%, bootstrap", "7", "70",
        ]  # fmt: skip
        assert found["survey"] == ("simulated participants" if simulated else "participants")
        assert found["least_offensive"] == ""
    assert rows["ours", "all", "sd"]["best_described_low"] == ""
    nobody = rows["ours", "korea", "sd"]
    assert (nobody["survey"], nobody["best_described"]) == ("", "")
    assert rows["paper", "all", "sd"]["best_described"] == "3.09"


def test_table1_says_where_an_earlier_round_is_summed_up(table1, tmp_path):
    scores, coco, table = table1
    paper_table(1, scores, coco, table, statistics(tmp_path / "s.parquet", False, {"india": "3f2a91c0"}))
    found = {(row["culture"], row["survey"]) for row in read(table) if row["best_described"]}
    assert found == {
        ("india", "participants, round 3f2a91c0"),
        ("all", "participants, with earlier rounds: india (3f2a91c0)"),
        ("all", ""),  # the paper's
    }


def test_table1_mean_of_coco_counts_the_shared_pictures_once(table1):
    scores, coco, table = table1
    paper_table(1, scores, coco, table)
    whole = next(r for r in read(table) if (r["source"], r["culture"], r["variant"]) == ("ours", "all", "sd"))
    assert whole["kid_coco_x1000_reference"] == "60"
    # Half-widths of 0.5 and 0.5 whose errors may be one and the same.
    assert float(whole["kid_coco_x1000_high"]) == pytest.approx(2500)


def test_cultures_scored_by_different_networks_are_refused(table1, tmp_path):
    scores, coco, table = table1
    write_scores(scores[0], "india", "sd", network="cd" * 32, kid=1.0, clip_score=0.8)
    with pytest.raises(UserError, match="kid: cultures were scored by different networks"):
        paper_table(1, scores, coco, table)


@pytest.mark.parametrize("simulated", [False, True])
def test_fig5_draws_every_item_and_culture_and_marks_simulated_people(tmp_path, simulated):
    about = {"page": "p", "prompt": "a jar", "variants": ["scoft_m", "sd"], "file": "f"}
    rows = [
        about | {"culture": c, "participant": f"{n}", "item": i, "ranks": None if n == 2 else [1 + n, 2 - n]}
        for c in ("india", "korea")
        for n in range(3)
        for i in ("description", "stereotypes")
    ]
    ANSWERS.write(tmp_path / "answers.parquet", rows, extra={"simulated": simulated})
    fig5(tmp_path / "answers.parquet", tmp_path / "fig5.svg")
    svg = (tmp_path / "fig5.svg").read_text()
    assert (
        svg.count("<polygon") - svg.count('opacity=".55"') == 5
    )  # markers that are squares, one in the legend
    assert svg.count('opacity=".55"') == 2 * 4
    assert "Stereotypes, SCoFT+M: mean rank 1.50, n = 4" in svg and "korea (2 participants)" in svg
    assert ("Ranks given by 4 simulated participants" in svg) == simulated
    ANSWERS.write(
        tmp_path / "blank.parquet", [row | {"ranks": None} for row in rows], extra={"simulated": False}
    )
    with pytest.raises(UserError, match="all answers are blank"):
        fig5(tmp_path / "blank.parquet", tmp_path / "none.svg")


def test_table2(tmp_path):
    scores, sets = [], []
    for variant in paper.TABLES[2]:
        scores.append(
            write_scores(tmp_path / f"t_{variant}.parquet", "korea", variant, div=0.3, clip_score=0.7)
        )
        sets.append(
            write_scores(
                tmp_path / f"s_{variant}.parquet",
                "korea",
                variant,
                div=0.2,
                clip_i=0.9,
                dino=0.8,
                dreamsim=0.6,
            )
        )
    paper_table(2, scores, sets, tmp_path / "table2.csv")
    rows = read(tmp_path / "table2.csv")
    ours = next(row for row in rows if row["source"] == "ours" and row["variant"] == "ldm")
    assert (ours["div_train"], ours["div_test"], ours["clip_i"]) == ("0.2", "0.3", "0.9")
    printed = next(row for row in rows if row["source"] == "paper" and row["variant"] == "scoft_m")
    assert [printed[c] for c in ("clip_i", "dino", "dreamsim", "div_train", "div_test", "clip_score")] == [
        "0.897", "0.808", "0.55", "0.356", "0.379", "0.814",
    ]  # fmt: skip


def test_a_baseline_that_is_scored_has_a_row(table1, tmp_path):
    scores, coco, table = table1
    for culture in ("india", "korea"):
        place = tmp_path / f"{culture}_dpo.parquet"
        scores.append(write_scores(place, culture, "dpo", kid=3.0, clip_score=0.5))
        coco.append(write_scores(tmp_path / f"{culture}_dpo_coco.parquet", culture, "dpo", kid=4.0))
    paper_table(1, scores, coco, table)
    rows = read(table)
    ours = {row["variant"]: row for row in rows if (row["source"], row["culture"]) == ("ours", "all")}
    assert list(ours) == [*paper.TABLES[1], "dpo"]
    assert (ours["dpo"]["kid_ccub_x1000"], ours["dpo"]["kid_coco_x1000"]) == ("3000", "4000")
    assert [row["variant"] for row in rows if row["source"] == "paper"] == list(paper.TABLES[1])


def test_a_missing_score_is_named(table1):
    scores, coco, table = table1
    with pytest.raises(UserError, match="korea, scoft_mpc: no score 'kid' on coco_prompts"):
        paper_table(1, scores, coco[:-1], table)
    assert not table.exists()


def test_mean_without_an_interval_says_so():
    whole = mean_of([Estimate(1, 0, 2, ""), Estimate(3, None, None, "none: one prompt")])
    assert (whole.value, whole.low) == (2, None) and whole.interval.startswith("none")
    with pytest.raises(ValueError, match="no estimates"):
        mean_of([])


def test_fig7_means_over_cultures(tmp_path):
    scores = [
        write_scores(tmp_path / c / f"{FIG7}clip_{r}_{u}" / "scores" / "sd.parquet", c, "sd", kid=value + u)
        for c, value in (("korea", 0.0), ("india", 1.0))
        for r in ("first", "last")
        for u in (10, 20)
    ]
    fig7(scores, tmp_path / "fig7.svg", tmp_path / "fig7.csv")
    rows = read(tmp_path / "fig7.csv")
    assert [(r["record"], r["updates"], r["kid_x1000"], r["cultures"]) for r in rows] == [
        ("first", "10", "10500", "2"), ("first", "20", "20500", "2"),
        ("last", "10", "10500", "2"), ("last", "20", "20500", "2"),
    ]  # fmt: skip
    assert (tmp_path / "fig7.svg").read_text().count("<polyline") == 2


def test_charts_place_points_where_they_belong():
    svg = line_chart("t", {"a": [(0, 0), (10, 1)]}, "x", "y", height=280)
    assert 'points="58.0,236.0 426.0,32.0"' in svg
    assert "<title>a &lt; b</title>" in line_chart("a < b", {"s": [(0, 5)]}, "x", "y")
    with pytest.raises(ValueError, match="no values"):
        interval_chart("t", {"korea": {}})
    with pytest.raises(ValueError, match="no ranks"):
        violin_chart("t", {"korea": {"sd": []}})
    assert "mean rank 1.50, n = 4" in violin_chart("t", {"korea": {"sd": [1, 2, 1, 2]}})
