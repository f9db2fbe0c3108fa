"""The report, the card and the withdrawal report, on data sets that ingest made."""

import base64
import html.parser
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from snakemake.report.common import data_uri_from_file
from transformers import CLIPTokenizer

from pipeline_steps import artifacts
from pipeline_steps.artifacts import ANSWERS, CAPTIONS, IMAGES, LORA, Origin
from pipeline_steps.config import BaseRef, DataConfig, ModelRef
from pipeline_steps.data.data_card import data_card
from pipeline_steps.data.data_report import data_report
from pipeline_steps.data.ingest import ingest
from pipeline_steps.data.withdraw_report import withdraw_report
from pipeline_steps.errors import UserError
from tests.browser import CHROMIUM, browser, check_axe

HOSTILE = "<script>alert(1)</script><img src=http://evil onerror='x'>\" & in wales"


def png(seed: int, size: tuple[int, int] = (48, 48)) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> ModelRef:
    """A model of which there is only a real CLIP tokenizer, which knows only letters."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    letters = [chr(i) for i in range(33, 127)]
    tokens = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])
    tokenizer.model_max_length = 77
    tokenizer.save_pretrained(folder / "tokenizer")
    return ModelRef(path=str(folder))


def build(folder: Path, results: Path, rows: list[dict], withdrawn: Path | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for seed, row in enumerate(rows):
        if not (folder / row["file_name"]).exists():
            (folder / row["file_name"]).write_bytes(row.pop("bytes", None) or png(seed))
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    home = results / "wales"
    ingest(
        folder, home / "images.parquet", "wales", ", in wales", 1, DataConfig(resolution=32),
        findings=home / "findings.parquet", withdrawn=withdrawn, data_sets=home / "data_sets",
    )  # fmt: skip
    return home


def rows(count: int, **columns) -> list[dict]:
    return [
        {"file_name": f"{i}.png", "text": f"gate {i}, in wales", "split": "test" if i % 4 == 3 else "train"}
        | columns
        for i in range(count)
    ]


class Tags(html.parser.HTMLParser):
    """Collects tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def page(home: Path, base: ModelRef) -> Tags:
    data_report(home / "images.parquet", home / "findings.parquet", home / "data_report.html", "wales", base)
    tags = Tags()
    tags.feed((home / "data_report.html").read_text(encoding="utf-8"))
    return tags


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_accessibility(tmp_path, base):
    handed = [*rows(8, category="food", contributor="a"), {"file_name": "x.png", "text": "한옥, in wales"}]
    home = build(tmp_path / "in", tmp_path, handed)
    page(home, base)
    with browser() as chromium:
        shown = chromium.new_page()
        shown.goto((home / "data_report.html").as_uri())
        check_axe(shown)


def test_everything_is_escaped_and_nothing_is_loaded(tmp_path, base):
    handed = rows(8, category=HOSTILE, contributor=HOSTILE)
    handed[0]["text"] = HOSTILE
    handed.append({"file_name": "<b>.png", "text": "x", "bytes": b"<html>"})
    tags = page(build(tmp_path / "in", tmp_path, handed), base)
    names = {tag for tag, _ in tags.found}
    assert not names & {"script", "iframe", "b "}
    assert [attributes["href"] for tag, attributes in tags.found if tag == "link"] == ["data:,"]
    images = [attributes["src"] for tag, attributes in tags.found if tag == "img"]
    assert len(images) == 8
    assert all(src.startswith("data:image/jpeg;base64,") for src in images)
    assert Image.open(io.BytesIO(base64.b64decode(images[0].split(",")[1]))).size == (32, 32)
    assert HOSTILE in tags.text
    assert "<b>.png: is a web page" in tags.text


def test_worst_comes_first_and_in_the_log(tmp_path, base, caplog):
    handed = rows(8)
    handed.append({"file_name": "empty.png", "text": "x", "bytes": b" "})
    handed.append(
        {"file_name": "small.png", "text": "s, in wales", "split": "train", "bytes": png(77, (20, 20))}
    )
    home = build(tmp_path / "in", tmp_path, handed)
    with caplog.at_level("INFO", "scoft"):
        caplog.clear()
        text = page(home, base).text
    parts = ("Left out: picture (1)", "To be mended: small (1)", "Worth knowing: ownership")
    order = [text.index(part) for part in parts]
    assert order == sorted(order)
    line = "wales: 9 pictures (7 train, 2 test), 1 left out, 3 to be mended; worst: empty.png is no"
    assert [record.getMessage()[: len(line)] for record in caplog.records] == [line]


def test_before_the_models_are_fetched_all_but_the_captions_lengths_is_told(tmp_path):
    home = build(tmp_path / "in", tmp_path, rows(8))
    text = page(home, BaseRef(path="someone/sd")).text
    assert "limit not known before the models are fetched" in text
    assert "then: snakemake --cores 1 -R data_report -- " in text and "ownership" in text


def test_counts_captions_owners_and_sizes(tmp_path, base):
    handed = rows(8, category="city", era="modern", licence="CC0")
    handed[0]["text"] = "a" * 90 + ", in wales"
    for row in handed[:6]:
        row["contributor"] = "ann"
    text = page(build(tmp_path / "in", tmp_path, handed), base).text
    tokens = 90 + len(",inwales") + 2
    assert f"0: its caption has {tokens} tokens, 77 are read; shorten it" in text
    assert "8 of 8 pictures have no consent" in text
    assert "2 of 8 pictures have no contributor" in text
    assert "have no licence" not in text
    assert "1 contributor; 5 or more see a culture wider" in text
    assert "only 6 train pictures; 50 or more serve better" in text
    assert "citymodern8" in text


def test_report_refuses_findings_of_other_pictures(tmp_path, base):
    home = build(tmp_path / "in", tmp_path / "a", rows(4))
    other = build(tmp_path / "in2", tmp_path / "b", rows(5))
    with pytest.raises(UserError, match="was made from other pictures than"):
        data_report(home / "images.parquet", other / "findings.parquet", tmp_path / "r.html", "wales", base)


def test_captions_that_do_not_name_the_culture_are_named(tmp_path, base):
    handed = rows(5)
    for row, text in zip(
        handed, ("a gate, in Wales", "a WELSH gate", "Cymru", "a gate", "of wales"), strict=True
    ):
        row["text"] = text
    home = build(tmp_path / "in", tmp_path / "a", handed)
    report = home / "data_report.html"
    data_report(
        home / "images.parquet", home / "findings.parquet", report, "wales", base, "Cymru", ", in Wales"
    )
    text = html.unescape(report.read_text(encoding="utf-8"))
    found = re.findall(r"<li>(\S+): its caption names none of cymru, wales</li>", text)
    assert len(found) == 2 and "<h1>Pictures of Cymru</h1>" in text
    assert "Worth knowing: culture (3)" in text


def test_card_says_what_who_how_consent_and_limits(tmp_path):
    handed = rows(8, licence="CC BY 4.0", consent="given in writing")
    for i, row in enumerate(handed):
        row |= {"contributor": f"secret name {i % 3}", "author": "A*B|<i>"}
    home = build(tmp_path / "in", tmp_path, handed)
    data_card(home / "images.parquet", home / "data_card.md", "wales", ", in Wales")
    text = (home / "data_card.md").read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == ["# Data card: wales", "## What", "## Who", "## How", "## Consent", "## Limits"]
    assert "8 pictures, each with one hand-written caption: 6 to train on, 2 held out" in text
    assert "3 contributors gave 2 to 3 pictures each." in text
    assert "secret name" not in text
    assert "| A\\*B\\|&lt;i&gt;, CC BY 4.0 | 8 |" in text
    assert "| given in writing | 8 |" in text
    assert IMAGES.note(home / "images.parquet")["fingerprint"] in text


def test_withdrawal_names_what_still_holds_the_picture(tmp_path):
    results = tmp_path / "results"
    handed = rows(5)
    handed.append({"file_name": "copy.png", "text": "again, in wales", "split": "train", "bytes": png(0)})
    home = build(tmp_path / "in", results, handed)
    old = IMAGES.note(home / "images.parquet")["fingerprint"]
    LORA.write(home / "lora.safetensors", {"a": torch.zeros(1)}, Origin("wales", old))
    LORA.write(home / "runs/x/lora.safetensors", {"a": torch.zeros(1)}, Origin("wales", "ab" * 32))
    LORA.write(results / "india/lora.safetensors", {"a": torch.zeros(1)}, Origin("india", old))
    CAPTIONS.write(home / "captions.parquet", [], Origin("wales", old))
    (home / "broken.parquet").write_bytes(b"no")
    (home / "figures").mkdir()
    for name, note in (("fig6", artifacts.picture_note(Origin("wales", old))), ("foreign", None)):
        Image.new("RGB", (4, 4)).save(home / f"figures/{name}.png", pnginfo=note)
    data_card(home / "images.parquet", home / "data_card.md", "wales", ", in wales")
    (home / "download/pictures").mkdir(parents=True)
    (home / "download/pictures/fetched.png").write_bytes(png(0))
    (home / "download/pictures/other.png").write_bytes(png(1))
    (home / "data_set/train").mkdir(parents=True)
    (home / "data_set/train/again.png").write_bytes(png(0))
    (home / "data_set/train.parquet").write_bytes(b"pictures")
    (home / "tensorboard/scoft_mpc").mkdir(parents=True)
    (home / "tensorboard/scoft_mpc/events.out").write_bytes(b"samples")
    (home / "runs/train_prompts").mkdir()
    (home / "runs/train_prompts/prompts.txt").write_text("again, in wales")

    listed = tmp_path / "withdrawn.txt"
    listed.write_text("# nobody yet\n")
    withdraw_report(results, tmp_path / "report.tsv", ["wales"], [listed])
    assert [line.split("\t")[0] for line in (tmp_path / "report.tsv").read_text().splitlines()] == [
        "file",
        "wales/runs/x/lora.safetensors",
    ]

    listed.write_text("0.png\n")
    build(tmp_path / "in", results, handed, listed)
    assert IMAGES.note(home / "images.parquet")["fingerprint"] != old
    withdraw_report(results, tmp_path / "report.tsv", ["wales"], [listed])
    lines = [line.split("\t") for line in (tmp_path / "report.tsv").read_text().splitlines()[1:]]
    assert {line[0]: line[2] for line in lines} == {
        "wales/captions.parquet": "withdrawn: 0.png, copy.png",
        "wales/data_card.md": "withdrawn: 0.png, copy.png",
        "wales/data_set/train.parquet": "unknown: a downloaded table of pictures; take it as holding them",
        "wales/data_set/train/again.png": "withdrawn: the picture itself",
        "wales/download/pictures/fetched.png": "withdrawn: the picture itself",
        "wales/figures/fig6.png": "withdrawn: 0.png, copy.png",
        "wales/lora.safetensors": "withdrawn: 0.png, copy.png",
        **dict.fromkeys(
            [
                "wales/broken.parquet",
                "wales/figures/foreign.png",
                "wales/runs/train_prompts/prompts.txt",
                "wales/tensorboard/scoft_mpc/events.out",
            ],
            "unknown: it does not say from which pictures it is; take it as holding them",
        ),
        "wales/runs/x/lora.safetensors": "unknown: its data set is not listed; take it as holding them",
    }
    boards = home / "tensorboard/scoft_mpc/events.out"
    os.utime(boards)  # written anew since the picture went
    withdraw_report(results, tmp_path / "report.tsv", ["wales"], [listed])
    assert "events.out" not in (tmp_path / "report.tsv").read_text()
    with pytest.raises(UserError, match="was made from other pictures than"):
        artifacts.same_origin((IMAGES, home / "images.parquet"), (LORA, home / "lora.safetensors"))


def test_results_under_a_former_name_are_held_against_every_list(tmp_path):
    results, handed = tmp_path / "results", [{"file_name": f"{i}.png", "text": "a gate"} for i in range(4)]
    home = build(tmp_path / "in", results, handed)
    LORA.write(
        home / "lora.safetensors",
        {"a": torch.zeros(1)},
        Origin("wales", IMAGES.note(home / "images.parquet")["fingerprint"]),
    )
    lists = {"cymru": tmp_path / "withdrawn.txt", "india": tmp_path / "none.txt"}
    lists["cymru"].write_text("0.png\n")
    lists["india"].write_text("of_nobody.png\n")
    report = tmp_path / "report.tsv"
    withdraw_report(results, report, tuple(lists), tuple(lists.values()), ("cymru", "india"))
    lines = [line.split("\t") for line in report.read_text().splitlines()[1:]]
    assert {line[0]: line[2] for line in lines if "withdrawn" in line[2]} == {
        f"wales/{name}": "withdrawn: 0.png"
        for name in ("findings.parquet", "images.parquet", "lora.safetensors")
    }
    # A culture that is still there, and has no list, has withdrawn nothing.
    withdraw_report(results, report, tuple(lists), tuple(lists.values()), ("cymru", "india", "wales"))
    assert report.read_text() == "file\tculture\tholds\n"


def test_peoples_answers_hold_no_picture(tmp_path):
    """They carry a word where others carry the fingerprint of a data set."""
    results, handed = tmp_path / "results", [{"file_name": f"{i}.png", "text": "a gate"} for i in range(4)]
    build(tmp_path / "in", results, handed)
    ANSWERS.write(results / "survey/answers.parquet", [], Origin("wales", "answers"))
    (tmp_path / "withdrawn.txt").write_text("# nobody yet\n")
    withdraw_report(results, tmp_path / "report.tsv", ("wales",), (tmp_path / "withdrawn.txt",))
    assert (tmp_path / "report.tsv").read_text() == "file\tculture\tholds\n"


def test_a_page_inside_snakemakes_own_report_is_seen(tmp_path):
    """It embeds pages as data addresses, with their own pictures in them."""
    results, handed = tmp_path / "results", [{"file_name": f"{i}.png", "text": "a gate"} for i in range(4)]
    home = build(tmp_path / "in", results, handed)
    old = IMAGES.note(home / "images.parquet")["fingerprint"]
    Image.new("RGB", (4, 4)).save(tmp_path / "fig6.png", pnginfo=artifacts.picture_note(Origin("wales", old)))
    (tmp_path / "report.html").write_text(f"<img src='data:image/png;base64,A'>{old}")
    for name in ("report.html", "fig6.png"):
        page = json.dumps({name: {"data_uri": data_uri_from_file(tmp_path / name)}})
        (results / f"with_{name}.html").write_text(f"<script>var results = {page};</script>")
    (tmp_path / "withdrawn.txt").write_text("0.png\n")
    withdraw_report(results, tmp_path / "report.tsv", ["wales"], [tmp_path / "withdrawn.txt"])
    lines = (tmp_path / "report.tsv").read_text().splitlines()
    assert {line for line in lines if line.startswith("with")} == {
        f"with_{name}.html\twales\twithdrawn: 0.png" for name in ("report.html", "fig6.png")
    }


def test_a_line_of_a_withdrawn_list_that_names_nothing_is_said(tmp_path, caplog):
    """But for what a collection or a download wrote, which is in no data set where it never came into one."""
    results, handed = tmp_path / "results", [{"file_name": f"{i}.png", "text": "a gate"} for i in range(4)]
    build(tmp_path / "in", results, handed)
    listed = tmp_path / "withdrawn.txt"
    listed.write_text(f"0.PNG\nMarkett.png\npictures/{'0a' * 16}.jpg\n")
    withdraw_report(results, tmp_path / "report.tsv", ("wales",), (listed,))
    (said,) = [line for line in caplog.messages if "names no picture" in line]
    assert said.startswith(f"{listed}: Markett.png names no picture of any data set here; check its spelling")
    # Under another entry, which the configuration does not name, it names one.
    listed.write_text("1.png\n")
    caplog.clear()
    withdraw_report(results, tmp_path / "report.tsv", ("cymru",), (listed,), ("cymru",))
    assert "names no picture" not in caplog.text
    withdraw_report(results, tmp_path / "report.tsv", ("cymru",), (listed,), ("cymru", "wales"))
    assert "1.png names no picture" in caplog.text


def test_every_culture_needs_its_list(tmp_path):
    with pytest.raises(UserError, match="2 cultures but 1 withdrawn lists"):
        withdraw_report(tmp_path, tmp_path / "r.tsv", ["a", "b"], [tmp_path / "x"])
