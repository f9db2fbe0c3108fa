"""Models in the hub's layout and file names as tests/real_size writes them, here at tiny width: they load."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.shapes import shrunk
from pipeline_steps.config import BaseRef, ModelRef
from pipeline_steps.models import encoders, readers
from pipeline_steps.models.families import family_of
from tests.real_size import build

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}


def narrow(part, config):
    if part == "dino":
        return config | SMALL
    if part == "captioner":
        text = config["text_config"] | SMALL | {"encoder_hidden_size": 32}
        return config | {"text_config": text, "vision_config": config["vision_config"] | SMALL}
    return shrunk(part, config)


@pytest.fixture(scope="module")
def named():
    return build.named_by("sd15")


def test_a_preset_names_what_is_built(named):
    assert named.keys() == build.WRITERS.keys() - {"vae"}
    assert build.named_by("sdxl").keys() == build.WRITERS.keys()


@pytest.mark.parametrize("preset", ["sd15", "sdxl"])
def test_a_base_model_of_a_variant_draws_with_its_depth_control(preset, tmp_path):
    """Of half precision in its files, with CLIP's whole vocabulary in the two old files of its tokenizer."""
    named = build.named_by(preset)
    build.base(tmp_path / "base", named["base"], narrow)
    build.controlnet(tmp_path / "controlnet", named["controlnet"], narrow)
    assert (tmp_path / "base/unet/diffusion_pytorch_model.fp16.safetensors").exists()
    assert (tmp_path / "base/text_encoder/model.fp16.safetensors").exists()
    family = family_of(BaseRef(path=str(tmp_path / "base"), variant="fp16"))
    tokenizer = family.tokenizer()
    assert len(tokenizer) == 49_408
    # As open_clip's own tokenizer has them.
    found = tokenizer("a house, in Wales").input_ids
    assert found == [49406, *build.open_clip.get_tokenizer("ViT-B-32").encode("a house, in wales"), 49407]
    pipeline = family.depth_to_image(ModelRef(path=str(tmp_path / "controlnet"), variant="fp16"))
    depth = family.depth_arguments([Image.new("RGB", (64, 64))])
    (picture,) = pipeline(prompt="a house", num_inference_steps=1, **depth).images
    assert picture.size == (64, 64)


def test_captioner_clip_and_dino_load_from_their_own_files(named, tmp_path):
    for role in ("captioner", "clip", "dino"):
        build.WRITERS[role](tmp_path / role, named[role], narrow)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8))
    model, processor = readers.captioner(ModelRef(path=str(tmp_path / "captioner")))
    words = model.generate(**processor(images=picture, return_tensors="pt"), max_new_tokens=5)
    assert processor.batch_decode(words, skip_special_tokens=True)[0].strip()
    assert (tmp_path / "clip/pytorch_model.bin").exists() and not list(tmp_path.glob("clip/*.safetensors"))
    rgb = torch.from_numpy(np.asarray(picture)).permute(2, 0, 1)[None]
    pictures, texts = encoders.clip_encoders(ModelRef(path=str(tmp_path / "clip")))
    assert pictures(rgb).shape == texts(["a house"]).shape
    assert encoders.dino_encoder(ModelRef(path=str(tmp_path / "dino")))(rgb).shape == (1, 32)


def test_a_stray_configuration_beside_a_pipeline_is_not_taken_for_its_index(tmp_path):
    shutil.copytree("resources/mini/base", tmp_path / "base")
    (tmp_path / "base/config.json").write_text("{}")
    index = json.loads((tmp_path / "base/model_index.json").read_text())
    assert family_of(BaseRef(path=str(tmp_path / "base"))).pipeline == index["_class_name"]
