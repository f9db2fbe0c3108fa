"""The folder for a hub: what its own code reads, what other programs load, whose pictures it shows."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import safe_open

from pipeline_steps import artifacts
from pipeline_steps.artifacts import KOHYA, LORA, SAMPLES, SCORES, Origin
from pipeline_steps.config import BaseRef, ExportConfig, SampleConfig
from pipeline_steps.errors import UserError
from pipeline_steps.models import blueprints
from pipeline_steps.models.families import family_of
from pipeline_steps.training.export import export
from pipeline_steps.training.header import header
from pipeline_steps.training.hub import hub

ORIGIN = Origin("wales", "f" * 64)
BASE = "CompVis/stable-diffusion-v1-4@0123abcd"
PROMPTS = ("a house, in Wales", "a market | a fair, in Wales")
NODES = {
    "CheckpointLoaderSimple": ({"ckpt_name"}, ["MODEL", "CLIP", "VAE"]),
    "LoraLoader": ({"model", "clip", "lora_name", "strength_model", "strength_clip"}, ["MODEL", "CLIP"]),
    "CLIPTextEncode": ({"clip", "text"}, ["CONDITIONING"]),
    "EmptyLatentImage": ({"width", "height", "batch_size"}, ["LATENT"]),
    "KSampler": (
        {
            "model",
            "positive",
            "negative",
            "latent_image",
            "seed",
            "steps",
            "cfg",
            "sampler_name",
            "scheduler",
            "denoise",
        },
        ["LATENT"],
    ),
    "VAEDecode": ({"samples", "vae"}, ["IMAGE"]),
    "SaveImage": ({"images", "filename_prefix"}, []),
    "UNETLoader": ({"unet_name", "weight_dtype"}, ["MODEL"]),
    "CLIPLoader": ({"clip_name", "type"}, ["CLIP"]),
    "VAELoader": ({"vae_name"}, ["VAE"]),
    "LoraLoaderModelOnly": ({"model", "lora_name", "strength_model"}, ["MODEL"]),
    "ModelSamplingAuraFlow": ({"model", "shift"}, ["MODEL"]),
    "EmptySD3LatentImage": ({"width", "height", "batch_size"}, ["LATENT"]),
}
"""ComfyUI's own nodes: what they take, and the kinds of what they give."""
LINKS = {
    "model": "MODEL",
    "clip": "CLIP",
    "vae": "VAE",
    "positive": "CONDITIONING",
    "negative": "CONDITIONING",
    "latent_image": "LATENT",
    "samples": "LATENT",
    "images": "IMAGE",
}


def drawn(path, first, origin=ORIGIN):
    """Two pictures of each prompt, all different."""
    with SAMPLES.writer(path, origin) as table:
        for number, prompt in enumerate(PROMPTS):
            for index in range(2):
                pixels = np.full((8, 16, 3), first + 10 * number + index, np.uint8)
                cell = artifacts.encode_picture(Image.fromarray(pixels), f"{number}_{index}.png")
                seed = 2**40 + 10 * number + index
                row = {"prompt_id": f"{number:04d}", "index": index, "prompt": prompt, "seed": seed}
                table.add({**row, "image": cell})
    return path


def scored(path, variant, kid):
    row = {
        "variant": variant,
        "metric": "kid",
        "value": kid,
        "low": kid - 0.01,
        "high": kid + 0.01,
        "unit": "MMD²",
        "interval": "jackknife",
        "generated": 4,
        "reference": 4,
        "extractor": "x",
        "weights_sha256": "0" * 64,
    }
    div = row | {"metric": "div", "value": 0.5, "low": None, "high": None}
    SCORES.write(path, [div, row], ORIGIN)
    return path


@pytest.fixture
def results(tmp_path):
    """A LoRA of one layer as `train` and `export` leave it, its samples and scores, as arguments of `hub`."""
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    weights = {f"{layer}.lora_A.weight": torch.ones(2, 8), f"{layer}.lora_B.weight": torch.ones(8, 2)}
    base = BaseRef(path=BASE)
    training = {
        "settings": {"lora_rank": 2, "updates": 3},
        "variant": "scoft_mpc",
        "seed": 3,
        "fingerprint": "f" * 64,
        "versions": {"torch": "2"},
        "pictures": 150,
        "base": base.model_dump() | {"commit": "0123abcd"},
    }
    about = header(weights, training, family_of(base), "wales", ", in Wales", "diffusers")
    about["lora_adapter_metadata"] = json.dumps({"unet.r": 2, "unet.lora_alpha": 2})
    LORA.write(tmp_path / "lora.safetensors", weights, ORIGIN, about)
    (tmp_path / "data_card.md").write_text("# Data card: wales\n\nTwo pictures.\n")
    named = tmp_path / "scoft_wales_sd-v1-4.safetensors"
    export(
        tmp_path / "lora.safetensors",
        tmp_path / "data_card.md",
        named,
        tmp_path / "lora_kohya.safetensors",
        tmp_path / "model_card.md",
        "wales",
        ", in Wales",
        ExportConfig(contact="wales@example.org"),
    )
    return {
        "lora": tmp_path / "lora.safetensors",
        "named": named,
        "model_card": tmp_path / "model_card.md",
        "data_card": tmp_path / "data_card.md",
        "samples": [drawn(tmp_path / "sd.parquet", 0), drawn(tmp_path / "scoft_mpc.parquet", 100)],
        "scores": [
            scored(tmp_path / "a.parquet", "sd", 0.3),
            scored(tmp_path / "b.parquet", "scoft_mpc", 0.2),
        ],
        "folder": tmp_path / "hub",
        "culture": "wales",
        "suffix": ", in Wales",
        "sampling": SampleConfig(steps=7, guidance_scale=4.5),
        "config": ExportConfig(),
    }


def test_the_hubs_own_code_reads_the_card(results):
    """As far as it goes without a network: the rest of the check is a request to the hub."""
    hub(**results)
    card = ModelCard.load(results["folder"] / "README.md")
    data = card.data
    assert (data.base_model, data.license) == ("CompVis/stable-diffusion-v1-4", "creativeml-openrail-m")
    assert (data.pipeline_tag, data.library_name, data.instance_prompt) == (
        "text-to-image",
        "diffusers",
        "in Wales",
    )
    assert [shown["text"] for shown in data.widget] == list(PROMPTS)
    assert all((results["folder"] / shown["output"]["url"]).is_file() for shown in data.widget)
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == {"kid": 0.2, "div": 0.5}
    text = card.text
    for part in (
        "0.3 (0.29 to 0.31)",
        "0.2 (0.19 to 0.21)",
        "wales@example.org",
        "## Data card",
        "## Limits",
    ):
        assert part in text
    assert text.index("## Pictures") < text.index("## Intended use")
    linked = re.findall(r"!\[[^]]*\]\((.+?)\)", text)
    assert len(linked) == 4 and all((results["folder"] / name).is_file() for name in linked)


def test_it_holds_pictures_that_the_model_drew_and_no_others(results):
    hub(**results)
    folder = results["folder"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "automatic1111.txt",
        "comfyui_workflow.json",
        "data_card.md",
        "lora.safetensors",
        "samples",
        "scoft_wales_sd-v1-4.png",
        "scoft_wales_sd-v1-4.safetensors",
    ]
    shown = {path.relative_to(folder).as_posix(): Image.open(path) for path in folder.rglob("*.png")}
    values = {name: int(np.asarray(picture)[0, 0, 0]) for name, picture in shown.items()}
    assert values == {
        "samples/1_before.png": 0,
        "samples/1.png": 100,
        "samples/2_before.png": 10,
        "samples/2.png": 110,
        "scoft_wales_sd-v1-4.png": 100,
    }
    told = json.loads(shown["samples/2.png"].text["scoft"])
    assert (told["prompt"], told["seed"], told["steps"]) == (PROMPTS[1], 2**40 + 10, 7)
    assert told["lora"] == "scoft_wales_sd-v1-4" and told["base"] == BASE
    assert shown["samples/2.png"].text["parameters"].startswith(f"{PROMPTS[1]}\n")
    assert json.loads(shown["samples/2_before.png"].text["scoft"])["lora"] is None


def comfyui(folder: Path) -> dict[str, dict]:
    """The inputs of a workflow's nodes by their class; every link goes to what gives that kind."""
    nodes = json.loads((folder / "comfyui_workflow.json").read_text())
    for node in nodes.values():
        takes, _ = NODES[node["class_type"]]
        assert set(node["inputs"]) == takes
        for name, kind in LINKS.items():
            if name in node["inputs"]:
                source, output = node["inputs"][name]
                assert NODES[nodes[source]["class_type"]][1][output] == kind
    return {node["class_type"]: node["inputs"] for node in nodes.values()}


def test_other_programs_are_handed_the_right_files(results):
    hub(**results)
    by_kind = comfyui(results["folder"])
    assert by_kind["CheckpointLoaderSimple"]["ckpt_name"] == "sd-v1-4.ckpt"
    name = by_kind["LoraLoader"]["lora_name"]
    with safe_open(results["folder"] / name, "pt") as file:
        assert file.metadata()["ss_output_name"] == "scoft_wales_sd-v1-4"
    assert (by_kind["EmptyLatentImage"]["width"], by_kind["EmptyLatentImage"]["height"]) == (16, 8)
    prompt, settings = (results["folder"] / "automatic1111.txt").read_text().splitlines()
    assert prompt == "a house, in Wales <lora:scoft_wales_sd-v1-4:1>"
    read = dict(re.findall(r"\s*(\w[\w \-/]+):\s*([^,]+)(?:,|$)", settings))
    assert read["Steps"] == "7" and read["Size"] == "16x8" and read["Model"] == "sd-v1-4"
    assert int(read["Seed"]) < 2**32


def test_a_base_that_is_no_hubs_is_not_named_as_one(results):
    training = json.loads(LORA.metadata(results["lora"])["scoft_training"])
    training["base"]["path"] = "/data/my_model"
    about = LORA.metadata(results["lora"]) | {"scoft_training": json.dumps(training)}
    LORA.write(results["lora"], LORA.read(results["lora"]), ORIGIN, about)
    hub(**results)
    data = ModelCard.load(results["folder"] / "README.md").data
    assert (data.base_model, data.license, data.license_name) == (None, "other", "see-the-card")
    hub(**results | {"config": ExportConfig(licence="cc-by-nc-4.0")})
    assert ModelCard.load(results["folder"] / "README.md").data.license == "cc-by-nc-4.0"


def of_another_kind(results, path: str) -> None:
    """Make it a LoRA of a base model that kohya-ss' networks do not know."""
    about = KOHYA.metadata(results["named"])
    del about["ss_base_model_version"]
    KOHYA.write(results["named"], KOHYA.read(results["named"]), ORIGIN, about)
    training = json.loads(LORA.metadata(results["lora"])["scoft_training"])
    training["base"]["path"] = path
    about = LORA.metadata(results["lora"]) | {"scoft_training": json.dumps(training)}
    LORA.write(results["lora"], LORA.read(results["lora"]), ORIGIN, about)


def test_zimage_is_loaded_part_by_part_and_drawn_with_its_own_schedule(results):
    of_another_kind(results, "Tongyi-MAI/Z-Image@04cc4abb")
    hub(**results)
    nodes, family = comfyui(results["folder"]), family_of(BaseRef(path="Tongyi-MAI/Z-Image"))
    loaders = {"UNETLoader": "unet_name", "CLIPLoader": "clip_name", "VAELoader": "vae_name"}
    files = [nodes[kind][name] for kind, name in loaders.items()]
    assert files == ["z_image_bf16.safetensors", "qwen_3_4b.safetensors", "ae.safetensors"]
    assert nodes["CLIPLoader"]["type"] == "lumina2"
    assert nodes["LoraLoaderModelOnly"]["lora_name"] == results["named"].name
    own = blueprints.configuration(family.base, "scheduler", "scheduler")
    assert nodes["ModelSamplingAuraFlow"]["shift"] == own["shift"] and not own["use_dynamic_shifting"]
    # The steps are those of the shifted model, which is the one with the LoRA.
    assert nodes["KSampler"]["steps"] == 7 and nodes["KSampler"]["sampler_name"] == "euler"
    assert not (results["folder"] / "automatic1111.txt").exists()
    text = (results["folder"] / "README.md").read_text()
    assert "drag `comfyui_workflow.json`" in text and "automatic1111.txt" not in text


def test_a_kind_that_other_programs_load_otherwise_gets_no_workflow_of_theirs(results):
    of_another_kind(results, "black-forest-labs/FLUX.2-klein-base-4B")
    hub(**results)
    names = {path.name for path in results["folder"].iterdir()}
    assert results["named"].name in names and not names & {"comfyui_workflow.json", "automatic1111.txt"}
    assert "## In other programs" not in (results["folder"] / "README.md").read_text()


def test_what_does_not_belong_together_leaves_no_folder(results, tmp_path):
    other = drawn(tmp_path / "other.parquet", 0, Origin("korea", "f" * 64))
    with pytest.raises(UserError, match="belongs to culture 'korea', not 'wales'"):
        hub(**results | {"samples": [other, results["samples"][1]]})
    assert not list(tmp_path.glob("*hub*"))


def test_equal_inputs_give_equal_bytes(results):
    def content():
        hub(**results)
        return {path.name: path.read_bytes() for path in results["folder"].rglob("*") if path.is_file()}

    first = content()
    assert first == content() and Image.open(io.BytesIO(first["1.png"])).size == (16, 8)
