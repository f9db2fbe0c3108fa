"""The first hour by the real snakemake: a new culture, its report, its card, and a withdrawal."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline_steps.artifacts import IMAGES
from pipeline_steps.new_culture import new_culture
from tests import ROOT

pytestmark = pytest.mark.usefixtures("warm")


def snakemake(folder, *arguments):
    command = ["python", "-m", "snakemake", "--cores", "1", *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    return done.returncode, done.stdout + done.stderr


def rules_run(text):
    return set(re.findall(r"^(?:local)?rule (\w+):", text, re.MULTILINE))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The project with a fresh culture of six drawn pictures."""
    for name in ("Snakefile", "workflow", "resources", "envs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("results: results\n")
    monkeypatch.chdir(tmp_path)
    new_culture("wales", ", in Wales")
    with (tmp_path / "data/wales/metadata.csv").open("a") as table:
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
            name = f"pictures/p{number}.jpg"
            Image.fromarray(pixels).resize((96, 80)).save(tmp_path / "data/wales" / name)
            table.write(f'{name},"a gate, in Wales"\n')
    return tmp_path


def test_from_a_new_culture_to_its_withdrawal(folder):
    code, text = snakemake(folder, "-n", "results/wales/lora.safetensors")
    assert code == 0, text
    assert {"ingest", "data_card", "train"} <= rules_run(text), "no LoRA without its card"

    code, text = snakemake(folder, "results/wales/data_report.html", "results/wales/data_card.md")
    assert code == 0, text
    assert re.search(r"INFO wales: 6 pictures .* to be mended; worst: .* see results/wales/data_report", text)
    before = IMAGES.note(folder / "results/wales/images.parquet")["fingerprint"]

    (folder / "data/wales/withdrawn.txt").write_text("pictures/p3.jpg\n")
    code, text = snakemake(folder, "withdraw_report")
    assert code == 0, text
    held = (folder / "results/withdraw_report.tsv").read_text()
    for name in ("images.parquet", "findings.parquet", "data_report.html", "data_card.md"):
        assert f"wales/{name}\twales\twithdrawn: pictures/p3.jpg\n" in held

    code, text = snakemake(folder, "results/wales/data_card.md", "results/wales/data_report.html")
    assert rules_run(text) == {"ingest", "data_card", "data_report"}, text
    assert IMAGES.note(folder / "results/wales/images.parquet")["fingerprint"] != before
    assert len(IMAGES.read(folder / "results/wales/images.parquet", ["image_id"])) == 5
    assert rules_run(snakemake(folder, "-n", "results/wales/data_card.md")[1]) == set()

    (folder / "data/wales/withdrawn.txt").write_text("pictures/p3.jpg\npictures/p4.jpg\n")
    code, text = snakemake(folder, "withdraw_report")
    assert code == 0 and rules_run(text) == {"withdraw_report"}, text
    held = (folder / "results/withdraw_report.tsv").read_text()
    assert "wales/images.parquet\twales\twithdrawn: pictures/p4.jpg\n" in held


def test_the_folders_own_list_is_read_where_the_settings_name_none(folder):
    config, listed = folder / "config/config.yaml", folder / "data/wales/withdrawn.txt"
    listed.unlink()
    config.write_text("".join(line for line in config.open() if "withdrawn" not in line))
    snakemake(folder, "results/wales/images.parquet")
    listed.write_text("pictures/p3.jpg\n")
    code, text = snakemake(folder, "results/wales/images.parquet", "withdraw_report")
    assert code == 0 and len(IMAGES.read(folder / "results/wales/images.parquet", ["image_id"])) == 5, text


def test_results_without_snakemakes_record_of_them_are_named(folder):
    code, text = snakemake(folder, "results/wales/images.parquet")
    assert code == 0 and "has no record" not in text
    assert "has no record" not in snakemake(folder, "-n", "results/wales/captions.parquet")[1]
    (folder / "results").rename(folder / "moved")
    moved = ["--config", "results=moved", "--", "moved/wales/images.parquet"]
    text = snakemake(folder, "-n", *moved)[1]
    assert "moved/wales/images.parquet: Snakemake has no record of how it was made" in text
    assert rules_run(snakemake(folder, "-R", "ingest", *moved)[1]) == {"ingest"}
    assert "has no record" not in snakemake(folder, "-n", *moved)[1]


def test_links_that_failed_are_asked_for_again_with_the_command_that_the_log_names(folder):
    (folder / "served").mkdir()
    names = ["p0.jpg", "p1.jpg", "p2.jpg"]
    for name in names[:2]:
        shutil.copy(folder / "data/wales/pictures" / name, folder / "served")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=folder / "served")
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rows = [f"http://127.0.0.1:{server.server_port}/{name},a gate\n" for name in names]
    (folder / "links.csv").write_text("url,text\n" + "".join(rows))
    links = {"suffix": ", in Wales", "images": "links.csv"}
    settings = {"cultures": {"links": links}, "data": {"allowed_hosts": ["127.0.0.1"]}}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings))
    target = "results/links/download/metadata.jsonl"
    code, text = snakemake(folder, target)
    assert code == 0 and "1 not fetched" in text and "add -R download -- before the target" in text
    shutil.copy(folder / "data/wales/pictures/p2.jpg", folder / "served")
    asked.clear()
    assert rules_run(snakemake(folder, target)[1]) == set()
    code, text = snakemake(folder, "-R", "download", "--", target)
    server.shutdown()
    assert code == 0 and asked == ["/p2.jpg"] and "not fetched:" not in text, text
    assert len((folder / target).read_text().splitlines()) == 3


def test_an_edited_caption_is_seen_and_a_new_card_trains_nothing(folder):
    snakemake(folder, "results/wales/images.parquet")
    table = folder / "data/wales/metadata.csv"
    table.write_text(table.read_text().replace("a gate, in", "a door, in", 1))
    assert rules_run(snakemake(folder, "-n", "results/wales/images.parquet")[1]) == {"ingest"}

    # Once there is a LoRA, a card written anew is no reason to train again.
    home = folder / "results/wales"
    for name in (
        *("captions.parquet", "depth.parquet", "negatives.parquet", "negatives_kept.parquet"),
        *("distances.parquet", "train_cache.safetensors", "targets.safetensors"),
        *("lora.safetensors", "train_log.parquet", "data_card.md"),
    ):
        (home / name).touch()
    os.utime(home / "data_card.md", (2**31, 2**31))
    planned = snakemake(folder, "-n", "--rerun-triggers", "mtime", "--", "results/wales/lora.safetensors")[1]
    assert rules_run(planned) == set(), planned


def test_a_file_managers_own_files_make_nothing_anew(folder):
    snakemake(folder, "results/wales/images.parquet")
    data = folder / "data/wales"
    for name in (".DS_Store", "pictures/Thumbs.db", "pictures/desktop.ini", "README.md"):
        (data / name).write_text("seen")  # and the folders' own times with it
    assert rules_run(snakemake(folder, "-n", "results/wales/images.parquet")[1]) == set()
    (data / "pictures/p0.jpg").unlink()
    assert rules_run(snakemake(folder, "-n", "results/wales/images.parquet")[1]) == {"ingest"}


def test_braces_in_a_name_are_named(folder):
    config = folder / "config/config.yaml"
    (folder / "data/{w}").mkdir()
    config.write_text(config.read_text().replace("data/wales", "data/{w}", 1))
    code, text = snakemake(folder, "-n", "results/wales/images.parquet")
    assert code != 0 and "data/{w}: braces are Snakemake's wildcards; give it a name without" in text
