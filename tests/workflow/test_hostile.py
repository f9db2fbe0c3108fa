"""Texts and names that want out of where they stand: markup, shell, formulas, hidden characters, size."""

import csv
import json
import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline_steps import artifacts
from pipeline_steps.artifacts import IMAGES, LORA, SAMPLES, Origin, encode_picture
from pipeline_steps.config import DataConfig, ModelRef, Models, SurveyConfig
from pipeline_steps.data.data_card import data_card
from pipeline_steps.data.data_report import data_report
from pipeline_steps.data.download import FetchError, Link, _failure_table
from pipeline_steps.data.ingest import ingest
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.train_prompts import train_prompts
from pipeline_steps.models import encoders, extractors, loading
from pipeline_steps.survey.survey_html import survey_html
from pipeline_steps.survey.survey_pages import survey_pages
from tests import ROOT

TEXTS = {
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)> \"' --> ]]> &lt;",
    "shell": "$(touch owned) `touch owned`; touch owned | tee owned && '\"; touch owned #",
    "formula": '=HYPERLINK("http://evil.example";"x")',
    "plus": "+1+1", "at": "@SUM(1)", "minus": "-2+3",
    "lines": "one\ntwo\r\nthree\u2028four\x0bfive",
    "control": "a\x00b\x1b[31mc\x07d\x9be",
    "bidi": "abc\u202edcba\u2066x",
    "template": "{{ 7*7 }} {% raw %} {culture} %s ${HOME}",
    "markdown": "| a | b |\n# title [x](javascript:alert(1)) ``` ",
    "surrogate": "\ud800 half",
    "emoji": "👩‍🌾 क्‍ष 한국",
}  # fmt: skip


def picture(place):
    image = Image.linear_gradient("L").resize((48, 48)).convert("RGB")
    image.paste((place * 11 % 256, place * 47 % 256, 90), (place % 5 * 8, place % 3 * 12, 30 + place, 40))
    return image


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A culture whose captions, names and columns are hostile, ingested."""
    folder = tmp_path_factory.mktemp("hostile")
    names = ["$(touch owned).png", "a b;c.png", "=cmd.png", "'\".png", "<b>.png", "\u202egnp.png", "-rf.png"]
    rows = []
    for place, (name, text) in enumerate(TEXTS.items()):
        file = names[place] if place < len(names) else f"{name}.png"
        picture(place).save(folder / file)
        rows.append({"file_name": file, "text": text, "contributor": text, "licence": text, text: text})
    picture(90).save(folder / "large.png")
    rows.append({"file_name": "large.png", "text": "word " * 600_000})
    rows.append({"file_name": "../../outside.png", "text": "x"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = folder / "out"
    ingest(folder, out / "images.parquet", "wales", ", in wales", 1, DataConfig(), out / "findings.parquet")
    return out


def test_all_that_can_be_kept_is_kept_on_one_line_each(table):
    rows = IMAGES.read(table / "images.parquet", ["caption", "split"])
    assert len(rows) >= len(TEXTS)
    for row in rows:
        assert not any(ord(c) < 32 or c in "\x7f\u2028" or "\ud800" <= c <= "\udfff" for c in row["caption"])
        assert not set(row["image_id"]) & set("/\\ \u202e<>\"'")
    assert any(row["caption"].startswith("<script>") for row in rows)
    assert not any("outside" in row["image_id"] for row in rows)


def test_pages_and_cards_show_texts_as_texts(table):
    base = Models().base
    data_report(table / "images.parquet", table / "findings.parquet", table / "page.html", "wales", base)
    data_card(table / "images.parquet", table / "card.md", "wales", ", in wales")
    page, card = (table / "page.html").read_text(), (table / "card.md").read_text()
    for text in (page, card):
        assert "<script>alert" not in text and "<img src=x" not in text
    assert "&lt;script&gt;" in page
    assert "](javascript" not in card and "\n# title" not in card


def test_captions_as_prompts_stay_one_a_line(table):
    train_prompts(table / "images.parquet", table / "prompts.txt", "wales", 50, 1)
    captions = {
        " ".join(row["caption"].split())
        for row in IMAGES.rows(table / "images.parquet", ["caption", "split"])
        if row["split"] == "train"
    }
    assert set((table / "prompts.txt").read_text(encoding="utf-8").splitlines()) <= captions


def test_the_survey_page_holds_prompts_as_data(tmp_path):
    for number, variant in enumerate(("sd", "scoft_mpc")):
        rows = [
            {"prompt_id": f"{n:04d}", "index": 0, "prompt": text.encode(errors="replace").decode(), "seed": n,
             "image": encode_picture(picture(n + 20 * number), "x.png")}
            for n, text in enumerate(TEXTS.values())
        ]  # fmt: skip
        SAMPLES.write(tmp_path / f"{variant}.parquet", rows, Origin("wales", "f"))
    config = SurveyConfig(variants=("sd", "scoft_mpc"), pages=8, pages_per_participant=4)
    paths = [tmp_path / f"{variant}.parquet" for variant in config.variants]
    pages, forms, page = (tmp_path / name for name in ("pages.parquet", "forms.parquet", "survey.html"))
    survey_pages(paths, pages, forms, "wales", 1, config)
    survey_html(
        pages=pages, forms=forms, wordings=[ROOT / "resources/survey/wording.en.yaml"], survey=page,
        template=ROOT / "resources/survey/page.html", culture="wales", config=config,
    )  # fmt: skip
    text = page.read_text(encoding="utf-8")
    assert "<script>alert" not in text and "<img src=x" not in text


def test_cells_that_a_spreadsheet_would_compute():
    links = [Link(n, text, {}) for n, text in enumerate(TEXTS.values(), 2)]
    text = _failure_table([(link, FetchError("gone")) for link in links])
    cells = [row["url"] for row in csv.DictReader(text.splitlines(keepends=True))]
    assert len(cells) == len(TEXTS)
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert artifacts.spreadsheet_text("plain = 1") == "plain = 1"


# --- files that would run something -----------------------------------------------------------


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_is_never_loaded_as_a_lora_or_weights(tmp_path):
    mark, lora = tmp_path / "owned", tmp_path / "lora.safetensors"
    for save in (lambda: lora.write_bytes(pickle.dumps(Bomb(mark))), lambda: torch.save(Bomb(mark), lora)):
        save()
        with pytest.raises(UserError, match=r"lora.safetensors: damaged, cannot be read as 'lora'"):
            LORA.read(lora)
    clip = copy_of("clip", tmp_path)
    (clip / "model.safetensors").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(UserError, match=r"models.clip: cannot load"):
        encoders.clip_encoders(ModelRef(path=str(clip)))
    dreamsim = copy_of("dreamsim", tmp_path)
    torch.save({"a": Bomb(mark)}, dreamsim / "clipl14_as_dino_vitl.pth.tar")
    with pytest.raises(UserError, match=r"models.dreamsim: .* holds more than tensors"):
        extractors.dreamsim(ModelRef(path=str(dreamsim)))
    assert not mark.exists()


def test_tensors_in_the_format_of_old_torch_are_read_and_its_pickles_refused(tmp_path):
    """Inception's published file is from before torch 1.6."""
    file, mark = tmp_path / "weights.pth", tmp_path / "owned"
    torch.save({"a": torch.ones(2)}, file, _use_new_zipfile_serialization=False)
    loading.tensors_only(file, "inception")
    torch.save(Bomb(mark), file, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"models.inception: .* holds more than tensors"):
        loading.tensors_only(file, "inception")
    assert not mark.exists()


def copy_of(role, folder):
    """A copy of an embedded model that may be spoilt."""
    target = folder / role
    for source in sorted((ROOT / "resources/mini" / role).rglob("*")):
        if source.is_file():
            path = target / source.relative_to(ROOT / "resources/mini" / role)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read_bytes())
    return target


# --- the command line -------------------------------------------------------------------------


def test_a_suffix_reaches_the_step_as_it_is(table, tmp_path):
    suffix = ", in $(touch owned) '\"; touch owned #"
    (tmp_path / "a.sh").write_text(
        f"python -m pipeline_steps.data.data_card --images {shlex.quote(str(table / 'images.parquet'))} "
        f"--card card.md --culture wales --suffix {shlex.quote(suffix)}"
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "a.sh"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "owned").exists()
    assert suffix.strip(" ,") in (tmp_path / "card.md").read_text()


def test_every_value_in_a_shell_line_is_quoted():
    """What comes from users (names, paths, settings) stands in the rules with ``:q``."""
    numbers = ["batch_size", "number", "per_prompt", "prompts", "seed", "shard", "side", "total", "updates"]
    words_of_ours = ["kind", "launch", "metric", "variant"]
    plain = {"threads", "resources.gpu", *(f"params.{name}" for name in numbers + words_of_ours)}
    for file in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for block in re.findall(r'shell:\s+"""(.*?)"""', file.read_text(), re.DOTALL):
            for name in re.findall(r"(?<!\{)\{([^{}]+)\}(?!\})", block):
                assert name.endswith(":q") or name in plain, f"{file.name}: {{{name}}}"
