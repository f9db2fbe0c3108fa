"""Generation with the embedded model: seeds are bound to culture, prompt and index, and to nothing else."""

import numpy as np
import pytest
from PIL import Image

from pipeline_steps.artifacts import IMAGES, SAMPLES, Origin, decode_picture, encode_picture
from pipeline_steps.config import BaseRef, ModelRef, SampleConfig
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.sample import _wanted, sample
from pipeline_steps.inputs.text import read_prompts
from pipeline_steps.models.families import family, family_of

BASE = BaseRef(path="resources/mini/base")
CONTROL = ModelRef(path="resources/mini/controlnet")
PROMPTS = ["a red jar", "a robe", "a house"]


@pytest.fixture(scope="module")
def draw(tmp_path_factory):
    """Return a function that samples with a few steps and returns rows by (prompt, index)."""
    folder = tmp_path_factory.mktemp("sample")
    about = dict.fromkeys(IMAGES.schema.names) | {"crop": [0, 0, 9, 9], "source_width": 9, "source_height": 9}
    about |= {"image_id": "0", "caption": "c", "split": "train", "source_sha256": "0"}
    cell = encode_picture(Image.new("RGB", (64, 64)), "0.png")
    for culture in ("korea", "india"):
        IMAGES.write(folder / f"{culture}.parquet", [about | {"image": cell}], Origin(culture, "f" * 64))

    def run(prompts, batch_size=2, culture="korea", seed=7, lora=None, each=2, steps=3, **more):
        (folder / "prompts.txt").write_text("# a comment\n" + "\n".join(prompts))
        sample(
            folder / f"{culture}.parquet", folder / "prompts.txt", folder / "s.parquet", culture, seed, BASE,
            SampleConfig(images_per_prompt=each, steps=steps, batch_size=batch_size), ", in korea", lora,
            **more,
        )  # fmt: skip
        return {(row["prompt"], row["index"]): row for row in SAMPLES.rows(folder / "s.parquet")}

    return run


def test_the_steps_of_a_batch_that_takes_long_are_counted(draw, monkeypatch, capsys):
    monkeypatch.setattr(family, "STEPS_BAR", family.STEPS_BAR | {"mininterval": 0, "delay": 0})
    draw(["a house"], each=1, steps=3)
    shown = capsys.readouterr().err
    assert all(f"{step}/3" in shown for step in (1, 2, 3)) and "steps: " in shown
    monkeypatch.undo()
    draw(["a house"], each=1, steps=3)
    assert "steps: " not in capsys.readouterr().err


def pixels(row):
    return np.asarray(decode_picture(row["image"]), int)


def alike(one, other):
    """Whether two pictures are the same but for rounding."""
    return np.abs(pixels(one) - pixels(other)).max() <= 2


@pytest.fixture(scope="module")
def first(draw):
    return draw(PROMPTS)


def test_one_picture_for_every_prompt_and_index(first):
    assert sorted(first) == sorted((f"{p}, in korea", i) for p in PROMPTS for i in range(2))
    assert len({row["seed"] for row in first.values()}) == 6
    assert all(pixels(row).shape == (64, 64, 3) for row in first.values())
    rows = list(first.values())
    assert not any(alike(a, b) for a in rows for b in rows if a is not b)


@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_the_batch_changes_nothing(draw, first, batch_size):
    again = draw(PROMPTS, batch_size)
    assert again.keys() == first.keys()
    assert all(alike(again[key], first[key]) for key in first)


def test_networks_that_leave_the_device_when_not_at_work_draw_the_same(draw, first, tmp_path):
    assert draw(PROMPTS, offload=True) == first
    lora = strong_lora(tmp_path / "lora.safetensors")
    assert draw(PROMPTS, lora=lora, offload=True) == draw(PROMPTS, lora=lora)
    for pipeline, parts in (
        (family_of(BASE).text_to_image(offload=True), {"text_encoder", "unet", "vae"}),
        (
            family_of(BASE).depth_to_image(CONTROL, offload=True),
            {"text_encoder", "unet", "vae", "controlnet"},
        ),
    ):
        assert {name for name in parts if hasattr(getattr(pipeline, name), "_hf_hook")} == parts


def test_neither_do_other_prompts_their_order_or_more_pictures(draw, first):
    part = draw(["a house", "a red jar"], batch_size=3, each=3)
    for (prompt, index), row in part.items():
        if index < 2:
            assert row["seed"] == first[prompt, index]["seed"] and alike(row, first[prompt, index])


def test_variants_have_common_seeds_but_cultures_and_runs_do_not(draw, first, tmp_path):
    lora = strong_lora(tmp_path / "lora.safetensors")
    tuned = draw(PROMPTS, lora=lora)
    assert all(tuned[key]["seed"] == first[key]["seed"] for key in first)
    assert not any(alike(tuned[key], first[key]) for key in first)
    for other in (draw(PROMPTS[:1], culture="india"), draw(PROMPTS[:1], seed=8)):
        assert not any(
            row["seed"] == first[key]["seed"] or alike(row, first[key]) for key, row in other.items()
        )


def strong_lora(path):
    """Write a LoRA that changes every picture."""
    import torch
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    from pipeline_steps.artifacts import LORA

    unet = family_of(BASE).denoiser()
    torch.manual_seed(0)
    unet.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v"]))
    layers = {f"unet.{name}": tensor for name, tensor in get_peft_model_state_dict(unet).items()}
    LORA.write(path, layers, Origin("korea", "f" * 64))
    return path


def test_pictures_have_the_resolution_of_the_cultures(first, tmp_path):
    about = dict.fromkeys(IMAGES.schema.names) | {"crop": [0, 0, 9, 9], "source_width": 9, "source_height": 9}
    about |= {"image_id": "0", "caption": "c", "split": "train", "source_sha256": "0"}
    (tmp_path / "p.txt").write_text("a red jar")
    row = about | {"image": encode_picture(Image.new("RGB", (80, 48)), "0.png")}
    for side in (64, 48):  # 64 is the model's own size; of pictures of several shapes it is the square's
        IMAGES.write(tmp_path / "i.parquet", [row], Origin("korea", "f" * 64), {"resolution": side})
        sample(
            tmp_path / "i.parquet", tmp_path / "p.txt", tmp_path / f"{side}.parquet", "korea", 7, BASE,
            SampleConfig(images_per_prompt=2, steps=3, batch_size=2), ", in korea",
        )  # fmt: skip
    for drawn in SAMPLES.rows(tmp_path / "64.parquet"):
        assert alike(drawn, first[drawn["prompt"], drawn["index"]])
    assert {pixels(drawn).shape for drawn in SAMPLES.rows(tmp_path / "48.parquet")} == {(48, 48, 3)}


def test_files_of_another_culture_are_refused(draw, tmp_path):
    lora = strong_lora(tmp_path / "lora.safetensors")
    with pytest.raises(UserError, match=r"belongs to culture 'korea', not 'india'"):
        draw(PROMPTS, culture="india", lora=lora)


def test_long_prompts_are_cut_and_named(draw, caplog):
    long = "a red house " * 60
    found = draw([long + "one", long + "other"], each=1, steps=2)
    assert caplog.text.count("only the first 77 are read") == 2
    assert len(found) == 2


@pytest.mark.parametrize("count, last", [(3, "0002"), (10_000, "9999"), (10_001, "10000")])
def test_prompts_beyond_ten_thousand_are_in_order_as_text(count, last):
    lines = [f"a house {number}" for number in range(count)]
    names = [row["prompt_id"] for row in _wanted(lines, "korea", "", 7, 1)]
    assert names == sorted(set(names)) and names[-1] == last


def test_prompt_files(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("# note\n\n  a jar \na robe\n")
    assert read_prompts(path) == ["a jar", "a robe"]
    for text, words in (
        ("# only notes\n", "no prompts"),
        ("a jar\na robe\na jar\n", "'a jar' stands there twice"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            read_prompts(path)
