"""The page for trying LoRAs out: what it draws, what it says, and all of it in a real browser."""

import json
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_steps.artifacts import LORA, SCORES, Origin
from pipeline_steps.config import BaseRef, TrainConfig
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.try_page import drawn
from pipeline_steps.evaluation.trying import Artist, bleed, loras
from pipeline_steps.models.families import family_of
from pipeline_steps.training.header import header
from pipeline_steps.training.parallel import Processes
from pipeline_steps.training.train import build_objective
from pipeline_steps.training.trainer import Trainer
from tests import ROOT
from tests.browser import CHROMIUM, browser, check_axe, opened
from tests.ports import free_port

BASE = BaseRef(path="resources/mini/base")
COMPLETE = "() => !document.querySelector('.loading')"
"""Gradio says that parts of its page are still coming."""
STILL = "*, ::before, ::after { transition: none !important; }"
"""A colour on its way from light to dark has no contrast of its own."""
GRADIOS_OWN = (
    "aria-prohibited-attr",  # an empty gallery's aria-label on a div without a role
    "image-redundant-alt",  # a picture's caption is its text and beside it as well
    "scrollable-region-focusable",  # the box around a text scrolls by a pixel or two
)
"""What axe finds in Gradio's own parts, which have no setting for it."""
SETTINGS = {"prompt": "a red house, in Wales", "seed": 5, "steps": 2, "guidance_scale": 4.5}


def put_lora(file, culture, variant, strength, suffix):
    """A LoRA as `train` leaves it, with factors drawn at random."""
    family, config = family_of(BASE), TrainConfig(lora_rank=2)
    trainer = Trainer(
        family.denoiser(),
        family,
        family.noise_process(),
        build_objective("ldm", config),
        config,
        3,
        Processes(1),
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in trainer.denoiser.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=strength)
    training = {
        "settings": {"lora_rank": 2},
        "variant": variant,
        "seed": 3,
        "fingerprint": "f" * 64,
        "versions": {},
        "pictures": 3,
        "base": BASE.model_dump() | {"commit": None},
    }
    weights = trainer.lora_weights()
    about = header(weights, training, family, culture, suffix, "diffusers") | trainer.lora_metadata()
    file.parent.mkdir(parents=True, exist_ok=True)
    LORA.write(file, weights, Origin(culture, "f" * 64), about)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    put_lora(folder / "wales/lora.safetensors", "wales", "scoft_mpc", 0.2, ", in Wales")
    put_lora(folder / "wales/ablations/ldm/lora.safetensors", "wales", "ldm", 0.1, ", in Wales")
    return folder


def pixels(file):
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def test_the_same_seed_goes_through_the_untuned_model_and_each_lora(results, tmp_path):
    """Against the pipeline as `sample` loads it, the un-tuned picture again after LoRAs were on."""
    (culture, found), *others = loras(results).items()
    assert (culture, [lora.label for lora in found], others) == ("wales", ["SCoFT+MPC", "Fine-tuning"], [])
    shown, files, note = drawn(results, tmp_path, "wales", found[0], found, 1.0, 2, SETTINGS)
    assert [caption for _, caption in shown] == [
        f"{label}, seed {seed}"
        for seed in (5, 6)
        for label in ("Stable Diffusion", "SCoFT+MPC", "Fine-tuning")
    ]
    assert note == "" and files == [file for file, _ in shown]
    expected = []
    for lora in (None, found[0].file):
        pipeline = family_of(BASE).text_to_image(lora)
        for seed in (5, 6):
            picture = pipeline(
                SETTINGS["prompt"],
                generator=torch.Generator().manual_seed(seed),
                num_inference_steps=2,
                guidance_scale=4.5,
            ).images[0]
            expected.append(np.asarray(picture).astype(int))
    ours = [pixels(files[n]) for n in (0, 3, 1, 4)]
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(ours, expected, strict=True))
    assert np.abs(ours[0] - ours[2]).mean() > 1
    told = json.loads(Image.open(files[4]).text["scoft"])
    assert told == SETTINGS | {
        "seed": 6,
        "model": "SCoFT+MPC",
        "lora": str(found[0].file),
        "strength": 1.0,
        "culture": "wales",
        "base": BASE.path,
    }


def test_strength_is_the_share_of_the_lora(results):
    """The second LoRA's B is half of the first one's."""
    artist, (whole, half) = Artist(BASE), loras(results)["wales"]

    def picture(lora, strength):
        return np.asarray(artist.draw(lora and lora.file, strength, "a house", 1, 2, 4.5)).astype(int)

    plain = picture(None, 1.0)
    assert np.abs(picture(whole, 0.0) - plain).max() <= 1
    assert np.abs(picture(whole, 0.5) - picture(half, 1.0)).max() <= 1
    assert np.abs(picture(half, 1.0) - plain).mean() > 1 < np.abs(picture(whole, 1.0) - plain).mean()
    assert np.abs(picture(None, 1.0) - plain).max() == 0


def test_a_prompt_that_names_no_culture_is_told_what_bleed_was_measured(tmp_path):
    for prompt in ("a house, in Wales", "A HOUSE IN WALES", "a wales house"):
        assert bleed(tmp_path, "wales", prompt, "in Wales") == ""
    told = bleed(tmp_path, "wales", "a house", "in Wales")
    assert "does not name the culture" in told and "not been measured yet" in told
    for variant, value in (("sd", 0.25), ("scoft_mpc", 0.5)):
        row = {
            "variant": variant,
            "metric": "div",
            "value": value,
            "low": None,
            "high": None,
            "unit": "1",
            "interval": "none",
            "generated": 4,
            "reference": None,
            "extractor": "x",
            "weights_sha256": "0" * 64,
        }
        file = tmp_path / f"wales/runs/generic_prompts/scores/{variant}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        SCORES.write(file, [row], Origin("wales", "f" * 64))
    told = bleed(tmp_path, "wales", "a house", "in Wales")
    assert "| DIV, diversity within a prompt (higher is better) | 0.25 | 0.5 |" in told


def test_a_lora_of_another_base_is_named_and_left_out(results, tmp_path):
    main, other = loras(results)["wales"]
    other = other._replace(base=BaseRef(path="some/other"))
    _, files, note = drawn(results, tmp_path, "wales", main, [main, other], 1.0, 1, SETTINGS)
    assert len(files) == 2 and "**Fine-tuning** was left out: it fits `some/other`" in note


def test_a_folder_without_loras_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no culture there has a lora\.safetensors"):
        loras(tmp_path)


@pytest.fixture
def address(results):
    """The page, served by its own command."""
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pipeline_steps.evaluation.try_page",
            "--results",
            str(results),
            "--port",
            str(port),
            "--steps",
            "2",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    while True:
        try:
            urllib.request.urlopen(url, timeout=10).close()
            break
        except OSError:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.2)
    yield url
    process.terminate()
    process.communicate()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_in_a_browser_a_prompt_becomes_pictures_to_be_saved(address):
    with browser() as chromium:
        page = opened(chromium, address, viewport={"width": 1280, "height": 900}, accept_downloads=True)
        prompt = page.get_by_label("Prompt")
        assert prompt.input_value() == "a house, in Wales"
        page.add_style_tag(content=STILL)
        page.wait_for_function(COMPLETE)
        check_axe(page, GRADIOS_OWN)
        prompt.fill("a red house")
        page.get_by_label("Fine-tuning").check()
        page.get_by_role("button", name="Draw").click()
        page.get_by_text("This prompt does not name the culture").wait_for()
        for model in ("Stable Diffusion", "SCoFT+MPC", "Fine-tuning"):
            page.get_by_text(f"{model}, seed 1").first.wait_for()
        check_axe(page, GRADIOS_OWN)
        with page.expect_download() as download:
            page.locator('a[download*="SCoFT"]').first.click()
        told = json.loads(Image.open(download.value.path()).text["scoft"])
        assert (told["prompt"], told["model"], told["strength"]) == ("a red house", "SCoFT+MPC", 1.0)
        prompt.fill(" ")
        page.get_by_role("button", name="Draw").click()
        page.get_by_text("Write a prompt first.").first.wait_for()
