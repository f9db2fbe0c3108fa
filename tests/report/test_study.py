"""Named runs, and the sums over cultures and seeds."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pandas
import pytest
import torch

from pipeline_steps.artifacts import FEATURES, IMAGES, NEGATIVES_KEPT, SCORES, TARGETS, Origin
from pipeline_steps.config import BaseRef, CacheConfig, ModelRef, PerceptualConfig, TargetsConfig
from pipeline_steps.config.checks import load_config
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.reconstruct import reconstruct
from pipeline_steps.method.kid import kid
from pipeline_steps.report.curves import curves
from pipeline_steps.report.study import study
from pipeline_steps.training.targets import targets
from tests.evaluation.test_score import KOREA, MINI, images, picture

CULTURES = {"korea": {"suffix": ", in korea", "images": "resources/mini/ccub/korea"}}


def test_a_run_changes_what_it_names_and_nothing_else():
    runs = {"quick": {"seed": 5, "train": {"updates": 7, "perceptual": {"views": 2}}}}
    config = load_config({"cultures": CULTURES, "train": {"batch_size": 3}, "runs": runs})
    run = config.of_run("quick")
    assert (run.seed, run.train.updates, run.train.perceptual.views) == (5, 7, 2)
    assert run.train.batch_size == 3 and run.train.perceptual.layers == config.train.perceptual.layers
    assert run.filter == config.filter and config.train.updates != 7


@pytest.mark.parametrize(
    "runs, message",
    [
        ({"a": {"train": {"updatez": 1}}}, r"runs\.a\.train\.updatez: no such setting"),
        ({"a": {"train": {"updates": 0}}}, r"runs\.a\.train\.updates: input should be"),
        ({"a": {"train": {"updates": "5"}}}, r"runs\.a\.train\.updates: a whole number must"),
        ({"a b": {}}, r"runs\.a b: a name has"),
        ({"a": {"caption": {}}}, r"runs: a: can change seed, filter, train, sample, not \['caption'\]"),
        ({"coco_prompts": {}}, "runs: no run can be called 'coco_prompts'"),
    ],
)
def test_mistakes_in_runs_are_named(runs, message):
    with pytest.raises(UserError, match=message):
        load_config({"cultures": CULTURES, "runs": runs})


def test_runs_share_what_they_leave_alone(tmp_path):
    config = {
        "results": str(tmp_path), "cultures": CULTURES,
        "runs": {"other_seed": {"seed": 2}, "loose": {"filter": {"min_distance": 0.0}},
                 "guided": {"sample": {"guidance_scale": 7.0}}},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    scores = [f"{tmp_path}/korea/runs/{run}/scores/scoft_mpc.parquet" for run in config["runs"]]
    scores.append(f"{tmp_path}/korea/runs/loose/scores/ldm.parquet")  # to it a filter is nothing
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--nolock"]
    command += ["--configfile", tmp_path / "config.yaml", "--", *scores]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE))
    # One of each shared stage; the other seed takes the default run's targets, the loose filter its own.
    # Other guidance draws with the default run's LoRA.
    assert jobs["caption"] == jobs["synthesize"] == jobs["cache"] == jobs["data_card"] == "1"
    assert jobs["filter"] == jobs["targets"] == "2"
    assert jobs["train"] == jobs["sample"] == "4"


def test_another_pictures_negatives(tmp_path):
    images(tmp_path / "images.parquet", ["a", "b", "c"], tests=1)
    rows = [
        {
            "image_id": f"{i:03d}",
            "index": 0,
            "prompt": "p",
            "seed": 1,
            "image": picture(50 + i),
            "distance": 0.5,
        }
        for i in range(3)
    ]
    NEGATIVES_KEPT.write(tmp_path / "kept.parquet", rows, KOREA)
    found = {}
    for whose in ("own", "another"):
        targets(
            tmp_path / "images.parquet", tmp_path / "kept.parquet", tmp_path / f"{whose}.st", "korea", 1,
            ModelRef(path=str(MINI / "clip")), PerceptualConfig(negatives=whose), TargetsConfig(),
        )  # fmt: skip
        found[whose] = TARGETS.read(tmp_path / f"{whose}.st")
    assert found["own"]["negatives_of"].flatten().tolist() == [0, 1, 2]
    assert found["another"]["negatives_of"].flatten().tolist() == [2, 0, 1]
    assert torch.equal(found["own"]["negative.0"], found["another"]["negative.0"])


def test_reconstructed_pictures_are_the_vaes(tmp_path):
    images(tmp_path / "images.parquet", ["a", "b"], tests=1)
    base = BaseRef(path=str(MINI / "base"))
    reconstruct(tmp_path / "images.parquet", tmp_path / "r.parquet", "korea", base, CacheConfig(batch_size=2))
    before, after = IMAGES.read(tmp_path / "images.parquet"), IMAGES.read(tmp_path / "r.parquet")
    drop = lambda row: {k: v for k, v in row.items() if k != "image"}  # noqa: E731
    assert [drop(row) for row in before] == [drop(row) for row in after]
    assert all(a["image"]["bytes"] != b["image"]["bytes"] for a, b in zip(before, after, strict=True))


VARIANTS = ("sd", "scoft_m", "scoft_mp", "scoft_mpc")


def written(path, origin, values):
    about = {"low": None, "high": None, "interval": "none", "unit": "u", "generated": 4, "reference": 4}
    about |= {"variant": path.stem, "extractor": "e", "weights_sha256": "0"}
    rows = [about | {"metric": metric, "value": value} for metric, value in sorted(values.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    SCORES.write(path, rows, origin)
    return path


@pytest.fixture
def world(tmp_path):
    """Two cultures, two seeds, four variants: accuracies that are easily summed up by head."""
    random = np.random.default_rng(0)
    files = {"scores": [], "features": [], "images": [], "reconstructed": [], "bleed": [], "controls": [],
             "control_features": [], "control_runs": []}  # fmt: skip
    truth = {}
    for number, culture in enumerate(("india", "korea")):
        origin = Origin(culture, "f" * 64)
        folder = tmp_path / culture
        folder.mkdir()
        images(tmp_path / "all.parquet", ["c"], tests=3)
        IMAGES.write(folder / "images.parquet", IMAGES.read(tmp_path / "all.parquet"), origin)
        files["images"].append(folder / "images.parquet")
        real = torch.from_numpy(random.normal(size=(4, 5)).astype(np.float32))
        FEATURES.write(folder / "reconstructed.safetensors", {"inception": real}, origin)
        files["reconstructed"].append(folder / "reconstructed.safetensors")
        for seed, run in enumerate(("", "runs/two")):
            for step, variant in enumerate(VARIANTS):
                accuracy = 0.1 * step + 0.02 * number + 0.01 * seed
                path = folder / run / "scores" / f"{variant}.parquet"
                values = {"attribute_accuracy": accuracy, "kid": 1 - accuracy, "stereotype": 0.5,
                          "generic_accuracy": 0.9}  # fmt: skip
                files["scores"].append(written(path, origin, values))
                drawn = torch.from_numpy(random.normal(size=(6, 5)).astype(np.float32))
                blank = torch.tensor([False] * 5 + [True])
                seen = folder / run / f"{variant}.safetensors"
                FEATURES.write(seen, {"inception": drawn, "blank": blank}, origin)
                files["features"].append(seen)
                truth[culture, seed, variant] = kid(drawn[:5], real[1:]).value
        bleed = {"attribute_accuracy": 0.3, "stereotype": 0.1, "generic_accuracy": 0.8}
        files["bleed"].append(written(folder / "runs/generic_prompts/scores/sd.parquet", origin, bleed))
        for run, value in (("loose", 0.7), ("loose_two", 0.5), ("long", 0.4), ("long_two", 0.1)):
            path = folder / "runs" / run / "scores/scoft_mp.parquet"
            files["controls"].append(written(path, origin, bleed | {"kid": value}))
            files["control_features"].append(seen)  # those of the last one above
        files["control_runs"] += ["loose:", "loose:two", "long:", "long:two"]
    return files, truth


def test_study_by_hand(world, tmp_path):
    files, truth = world
    study(
        **files, table=tmp_path / "t.csv", summary=tmp_path / "s.md", values=tmp_path / "v.csv",
        pairs=["loose:long"],
    )  # fmt: skip
    lines = {
        (row["part"], row["culture"], row["name"], row["metric"]): row
        for row in csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    }

    def value(*key):
        return pytest.approx(float(lines[key]["value"]), rel=1e-5, abs=1e-6)

    # Culture means .305 + .01 · (0, 1, …): seeds differ by .01, cultures by .02.
    assert value("variants", "india", "scoft_mpc", "attribute_accuracy") == 0.305
    assert value("variants", "all", "scoft_mpc", "attribute_accuracy") == 0.315
    one = lines["variants", "india", "scoft_mpc", "attribute_accuracy"]
    # t with one degree of freedom: 12.706 · (.01/√2) / √2.
    assert float(one["high"]) == pytest.approx(0.305 + 12.7062 * 0.005, abs=1e-5) and one["count"] == "2"
    assert lines["variants", "all", "sd", "kid"]["interval"] == "95%, t over 2 cultures"
    # A difference is the same in every culture and seed, so that its interval has no width.
    step = lines["differences", "all", "scoft_mp − scoft_m", "attribute_accuracy"]
    assert [float(step[key]) for key in ("value", "low", "high")] == pytest.approx(
        [0.1] * 3, rel=1e-5, abs=1e-6
    )
    mean = np.mean([truth[c, s, "sd"] for c in ("india", "korea") for s in (0, 1)])
    assert value("variants", "all", "sd", "kid_reconstructed") == mean
    assert value("bleed", "all", "sd", "attribute_accuracy") == 0.3
    # A control is compared with the full variant of its own culture and seed: 1 − (.31 + .01) against .5.
    assert value("controls", "all", "loose", "kid") == 0.6
    assert value("differences", "india", "scoft_mpc − loose", "kid") == (0.7 - 0.7 + 0.69 - 0.5) / 2
    assert value("differences", "all", "scoft_mpc − loose", "attribute_accuracy") == 0.315 - 0.3
    own = [truth[c, 1, "scoft_mpc"] for c in ("india", "korea")]
    assert value("controls", "all", "loose", "kid_reconstructed") == np.mean(own)
    # One control less another, seed by seed: (.4 − .7 + .1 − .5) / 2.
    assert value("differences", "all", "long − loose", "kid") == -0.35
    # The table can be made again of the values alone.
    values = pandas.read_csv(tmp_path / "v.csv", keep_default_na=False)
    assert len(values) == 2 * (2 * 4 * 5 + 4 * 5) and set(values["run"]) == {"", "two"}
    by_culture = values[values["run"] == ""].groupby(["name", "metric"])["value"].mean()
    assert (
        by_culture["scoft_mp", "attribute_accuracy"] == pytest.approx(0.21)
        and by_culture["loose", "kid"] == 0.7
    )
    reconstructed = values[(values["name"] == "sd") & (values["metric"] == "kid_reconstructed")]["value"]
    assert reconstructed.mean() == pytest.approx(mean, rel=1e-5)
    text = (tmp_path / "s.md").read_text()
    assert "| korea | 0.025 (" in text and "### Controls" in text and "scoft_mpc − loose" in text
    assert "### Controls less one another, seed by seed\n\n| score | long − loose |" in text


def test_curves_take_seconds_from_the_benchmarks(tmp_path):
    scores, benchmarks = [], []
    for culture, seconds in (("india", 10.0), ("korea", 30.0)):
        values = {
            "attribute_accuracy": 0.5,
            "kid": seconds,
            "div": 1,
            "nearest_train": 1,
            "generic_accuracy": 1,
        }
        scores.append(written(tmp_path / culture / "scores/ldm.parquet", Origin(culture, "f" * 64), values))
        benchmarks.append(tmp_path / f"{culture}.tsv")
        benchmarks[-1].write_text(f"s\th:m:s\n{seconds}\t0:00:10\n")
    curves(scores, [60, 60], benchmarks, tmp_path / "c.html", tmp_path / "c.csv")
    (row,) = csv.DictReader((tmp_path / "c.csv").read_text().splitlines())
    assert (row["variant"], row["updates"], row["cultures"]) == ("ldm", "60", "2")
    assert float(row["seconds"]) == 20 and float(row["kid"]) == 20
    assert (tmp_path / "c.html").read_text().count("<svg") == 10


def test_curves_of_scores_that_some_cultures_lack(tmp_path):
    """Without an oracle there are no attributes; a score of one culture is drawn of that one."""
    scores, benchmarks = [], []
    for culture, values in (("india", {"kid": 1.0, "div": 0.5}), ("korea", {"kid": 3.0})):
        scores.append(written(tmp_path / culture / "scores/ldm.parquet", Origin(culture, "f" * 64), values))
        benchmarks.append(tmp_path / f"{culture}.tsv")
        benchmarks[-1].write_text("s\th:m:s\n10\t0:00:10\n")
    curves(scores, [60, 60], benchmarks, tmp_path / "c.html", tmp_path / "c.csv")
    (row,) = csv.DictReader((tmp_path / "c.csv").read_text().splitlines())
    assert (row["kid"], row["div"]) == ("2.0", "0.5") and "attribute_accuracy" not in row
    assert (tmp_path / "c.html").read_text().count("<svg") == 4
