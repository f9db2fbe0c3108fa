"""The rules, by the real snakemake: from samples to pages, from a folder of answers to the report."""

import csv
import os
import re
import subprocess

import pytest
import yaml

from pipeline_steps.artifacts import ANSWERS, PAGES, REJECTED
from pipeline_steps.survey.answer_files import GENERIC
from pipeline_steps.survey.shown import ITEMS
from tests.survey.survey_world import ROOT, VARIANTS, write_samples

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with samples of one culture, a config, and the survey's rules alone."""
    folder = tmp_path_factory.mktemp("workflow")
    for variant, path in zip(VARIANTS, write_samples(folder), strict=True):
        target = folder / "results/korea/samples" / f"{variant}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    (folder / "resources").symlink_to(ROOT / "resources")
    (folder / "pictures").mkdir()
    config = {
        "cultures": {"korea": {"suffix": ", in korea", "images": "pictures"}},
        "survey": {
            "pages": 4,
            "pages_per_participant": 2,
            "simulation": {"participants": 4, "power_trials": 2, "power_participants": [5]},
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rules = ROOT / "workflow/rules"
    (folder / "Snakefile").write_text(
        'configfile: "config.yaml"\nPRESETS = []\n'
        + "".join(f'include: "{rules / name}.smk"\n' for name in ("common", "survey"))
    )
    return folder


def snakemake(folder, *arguments):
    command = ["python", "-m", "snakemake", "--cores", "1", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )


def rules_run(done):
    return set(re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, re.MULTILINE))


def answers(folder, people, name, spoil=False):
    pictures = {}
    for row in PAGES.rows(folder / "results/survey/korea/pages.parquet", ["picture", "variant"]):
        pictures.setdefault(row["page"], []).append((row["picture"], VARIANTS.index(row["variant"])))
    with (folder / "answers" / name).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(GENERIC)
        for person in people:
            for page, shown in pictures.items():
                for item in ITEMS:
                    for picture, rank in shown:
                        table.writerow([person, "korea", page, item, picture, 9 if spoil else 4 - rank])


def test_from_samples_to_the_report(folder):
    done = snakemake(folder, "results/survey/korea/survey.html", "results/survey/simulated/report.html")
    assert done.returncode == 0, done.stderr
    assert "These answers are simulated" in (folder / "results/survey/simulated/report.html").read_text()

    report = folder / "results/survey/report.html"
    missing = snakemake(folder, "results/survey/report.html")
    assert missing.returncode != 0 and "survey.answers: no file in answers" in missing.stderr + missing.stdout
    (folder / "answers").mkdir()
    answers(folder, ["a", "b", "c"], "first.csv")
    done = snakemake(folder, "results/survey/report.html")
    assert done.returncode == 0, done.stderr
    assert rules_run(done) == {"survey_import", "survey_aggregate", "survey_report"}
    text = report.read_text()
    assert "These answers are simulated" not in text and "3 participants from 1 culture" in text
    assert ANSWERS.count(folder / "results/survey/answers.parquet") == 3 * 4 * 4

    # A further file is noticed; nothing that people have seen is made anew.
    answers(folder, ["d"], "second.csv", spoil=True)
    done = snakemake(folder, "results/survey/report.html")
    assert rules_run(done) == {"survey_import", "survey_aggregate", "survey_report"}
    assert REJECTED.count(folder / "results/survey/rejected.parquet") == 16
    assert "no permutation: description of page" in report.read_text()
    assert rules_run(snakemake(folder, "results/survey/report.html", "-n")) == set()


def test_settings_that_matter_rerun_what_they_touch(folder):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["survey"]["failed_checks"] = 1
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    planned = snakemake(folder, "results/survey/report.html", "results/survey/korea/survey.html", "-n", "-p")
    assert rules_run(planned) == {"survey_import", "survey_aggregate", "survey_report"}


def test_an_earlier_round_is_summed_up_and_a_wrong_name_answered_with_those_there_are(folder):
    (kept,) = (folder / "results/survey/korea/rounds").iterdir()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name in ("ffffffff", kept.stem):
        config["survey"]["rounds"] = {"korea": name}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        done = snakemake(folder, "results/survey/report.html")
        if name == kept.stem:
            assert done.returncode == 0, done.stderr
        else:
            message = "survey.rounds.korea: results/survey/korea/rounds has no round ffffffff"
            assert done.returncode != 0
            assert f"{message} (there are: {kept.stem})" in done.stderr + done.stdout
    page = " ".join((folder / "results/survey/report.html").read_text().split())
    assert f"pictures that have been made anew since: korea ({kept.stem})" in page
