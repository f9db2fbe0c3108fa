"""Further sets of prompts and where culture is lost, on the page."""

import html
import re

import pytest

from pipeline_steps.artifacts import BREAKDOWN, SAMPLES, SCORES, Origin
from pipeline_steps.config import PipelineConfig, ReportConfig
from pipeline_steps.report import sets
from pipeline_steps.report.report import report
from tests.report.test_report import STYLE, TEMPLATE, cell, culture_files

VARIANTS = ("sd", "scoft_mpc")
ORIGIN = Origin("korea", "korea" * 8)


def broken_down(path, metric="clip_score", prompts=7):
    """Each further prompt scores better; of the last there are few pictures."""
    about = {"metric": metric, "low": None, "high": None, "interval": "none", "prompts": 1}
    rows = [
        about | {"by": by, "group": group, "variant": variant, "value": value, "generated": count}
        for variant in VARIANTS
        for by, group, value, count in (
            ("category", "clothing", 0.5, 40),
            ("category", "not stated", 0.25, 20),
            ("era", "modern", 0.4, 60),
            *(("prompt", f"prompt {n} <b>", n / 10, 30 if n < prompts - 1 else 5) for n in range(prompts)),
        )
    ]
    rows.sort(key=lambda row: tuple(row[name] for name in BREAKDOWN.key))
    BREAKDOWN.write(path, rows, ORIGIN)
    return path


def further_set(folder, prompts=7):
    """Samples and scores of a set called cube."""
    for variant in VARIANTS:
        rows = [
            {"prompt_id": f"{n:04d}", "index": i, "prompt": f"prompt {n} <b>", "seed": i, "image": cell(n)}
            for n in range(prompts)
            for i in range(3)
        ]
        SAMPLES.write(folder / f"runs/cube/samples/{variant}.parquet", rows, ORIGIN)
    about = dict.fromkeys(SCORES.schema.names) | {
        "metric": "clip_score", "value": 0.625, "interval": "95%", "unit": "u", "generated": 21,
        "extractor": "net", "weights_sha256": "0",
    }  # fmt: skip
    rows = [about | {"variant": variant} for variant in sorted(VARIANTS)]
    SCORES.write(folder / "runs/cube/scores.parquet", rows, ORIGIN, {"blank": {"sd": 2, "scoft_mpc": 0}})
    return [folder / f"runs/cube/samples/{variant}.parquet" for variant in VARIANTS]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    folder = root / "korea"
    culture_files(folder, "korea")
    samples = further_set(folder)
    breakdowns = [broken_down(folder / name) for name in ("breakdown.parquet", "runs/cube/breakdown.parquet")]
    settings = PipelineConfig.model_validate(
        {
            "cultures": {"korea": {"suffix": ", in korea", "images": "nowhere"}},
            "evaluation": {"prompt_sets": {"cube": {"path": "data/CUBE_1K.json", "format": "cube"}}},
        }
    )
    files = {
        name: [folder / f"{name}.parquet"] for name in ("images", "depth", "negatives", "distances", "scores")
    }
    report(
        root / "report.html", TEMPLATE, STYLE, **files,
        samples=[folder / f"samples/{v}.parquet" for v in VARIANTS],
        features=[folder / f"features/{v}.safetensors" for v in VARIANTS],
        references=[folder / "features/images.safetensors"],
        train_logs=[folder / "train_log.parquet"],
        set_samples=samples, set_scores=[folder / "runs/cube/scores.parquet"], breakdowns=breakdowns,
        settings=settings,
    )  # fmt: skip
    return (root / "report.html").read_text()


def test_whose_file_it_is_stands_in_its_path():
    folder = sets.Path("results/korea")
    assert sets.set_of(folder / "runs/cube/samples/sd.parquet") == "cube"
    assert sets.set_of(folder / "runs/cube/scores.parquet") == "cube"
    assert sets.set_of(folder / "samples/sd.parquet") == sets.TEST
    assert sets.set_of(sets.Path("/home/runs/x/results/korea/breakdown.parquet")) == sets.TEST


def test_a_set_has_its_scores_and_pictures(page):
    part = page[page.index('id="set-cube"') : page.index('id="lost"')]
    assert "data/CUBE_1K.json" in part and "0.625" in part
    assert "Blank pictures, not scored: 2 of Stable Diffusion." in part
    assert part.count("<figcaption>prompt ") == sets.PROMPTS
    assert part.count("<img ") == sets.PROMPTS * 2 * 3 and "<b>" not in re.sub(r"<b>\w", "", part)


def test_the_worst_prompts_are_shown_with_their_pictures_worst_first(page):
    part = page[page.index('id="lost"') : page.index('id="copies"')]
    text = html.unescape(part)
    assert "<h3>korea: test prompts</h3>" in part and "<h3>korea: cube</h3>" in part
    cube = text[text.index("<h3>korea: cube</h3>") :]
    shown = re.findall(r"<figcaption>prompt (\d) <b>: ([\d.]+), (\d+) pictures", cube)
    assert shown == [(str(n), str(n / 10).removesuffix(".0"), "30") for n in range(5)]
    assert cube.count("<img ") == 5 * 3


def test_every_group_says_how_many_pictures_it_rests_on(page):
    part = html.unescape(page[page.index('id="lost"') :])
    rows = re.findall(
        r'<th scope="row">([^<]+(?:<b>)?)</th>\n<td class="figure">(\d+)(, few)? <meter [^>]*value="(\d+)"',
        part,
    )
    found = {(group, int(count), bool(few)) for group, count, few, bar in rows if count == bar}
    assert (
        ("clothing", 40, False) in found
        and ("not stated", 20, False) in found
        and ("modern", 60, False) in found
    )
    assert len(rows) == 2 * (3 + sets.WORST)


def test_the_worst_by_a_score_of_which_less_is_better(tmp_path):
    path = broken_down(tmp_path / "b.parquet", "kid")
    found = sets.lost(path, [], ReportConfig())
    (table,) = found["tables"]
    assert table["name"] == "KID (lower is better)" and found["worst"] == []
    worst = [row["group"] for row in table["rows"] if row["by"] == "prompt"]
    assert sorted(worst) == [f"prompt {n} <b>" for n in (2, 3, 4, 5, 6)]
    assert [row["few"] for row in table["rows"] if row["group"].startswith("prompt 6")] == [True]
