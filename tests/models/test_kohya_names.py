"""The LoRA for other programs, for every family: names of layers, numbers, what the header says.

The tables were written down from what kohya-ss' networks and SDXL's own code call their layers. diffusers'
reader of such files, which is none of ours, must find the layer again that each name came from.
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)
from diffusers.utils import convert_unet_state_dict_to_peft
from safetensors import safe_open
from torch import nn

from pipeline_steps.artifacts import KOHYA, LORA, Origin
from pipeline_steps.config import BaseRef, ExportConfig, TrainConfig
from pipeline_steps.config.checks import load_config
from pipeline_steps.config.training import OUTSIDE
from pipeline_steps.errors import UserError
from pipeline_steps.models import blueprints
from pipeline_steps.models.families import family_of
from pipeline_steps.training.export import export
from pipeline_steps.training.header import header
from pipeline_steps.training.parallel import Processes
from pipeline_steps.training.train import build_objective
from pipeline_steps.training.trainer import Trainer
from tests.models.test_contracts import BASES
from tests.models.tiny_models import KINDS, build

ORIGIN = Origin("wales", "f" * 64)
PLAIN = {
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q":
        "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0":
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0",
    "up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj":
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj",
    "up_blocks.1.attentions.0.proj_in": "lora_unet_up_blocks_1_attentions_0_proj_in",
    "down_blocks.2.resnets.0.time_emb_proj": "lora_unet_down_blocks_2_resnets_0_time_emb_proj",
    "down_blocks.1.downsamplers.0.conv": "lora_unet_down_blocks_1_downsamplers_0_conv",
}  # fmt: skip
"""Stable Diffusion 1.x and 2.x: kohya-ss trains on diffusers' UNet."""
OWN = {
    "down_blocks.0.resnets.0.conv1": "lora_unet_input_blocks_1_0_in_layers_2",
    "down_blocks.0.resnets.1.time_emb_proj": "lora_unet_input_blocks_2_0_emb_layers_1",
    "down_blocks.0.downsamplers.0.conv": "lora_unet_input_blocks_3_0_op",
    "down_blocks.1.resnets.0.conv_shortcut": "lora_unet_input_blocks_4_0_skip_connection",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q":
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
    "down_blocks.1.downsamplers.0.conv": "lora_unet_input_blocks_6_0_op",
    "down_blocks.2.attentions.1.proj_out": "lora_unet_input_blocks_8_1_proj_out",
    "mid_block.resnets.0.conv1": "lora_unet_middle_block_0_in_layers_2",
    "mid_block.attentions.0.transformer_blocks.9.attn2.to_out.0":
        "lora_unet_middle_block_1_transformer_blocks_9_attn2_to_out_0",
    "mid_block.resnets.1.conv2": "lora_unet_middle_block_2_out_layers_3",
    "up_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj":
        "lora_unet_output_blocks_0_1_transformer_blocks_0_ff_net_0_proj",
    "up_blocks.0.upsamplers.0.conv": "lora_unet_output_blocks_2_2_conv",
    "up_blocks.1.attentions.2.transformer_blocks.1.attn1.to_v":
        "lora_unet_output_blocks_5_1_transformer_blocks_1_attn1_to_v",
    "up_blocks.1.upsamplers.0.conv": "lora_unet_output_blocks_5_2_conv",
    "up_blocks.2.resnets.2.conv_shortcut": "lora_unet_output_blocks_8_0_skip_connection",
}  # fmt: skip
"""Stable Diffusion XL: kohya-ss trains on a UNet with SDXL's own names."""
NAMES = {"sd1": PLAIN, "sd21": PLAIN, "sdxl": OWN}
LAYERS = {"sd1": 278, "sd21": 278, "sdxl": 788}
"""Linear layers and convolutions in the blocks: 16 transformers of 12, 22 residual blocks of 3, 14 with a
shortcut, 6 steps down and up; of SDXL's 794, six lie outside."""
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
TARGETS += ("conv1", "conv2", "time_emb_proj", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv")
SAID = {
    "sd1": ("sd_v1", "False", "stable-diffusion-v1/lora", "epsilon", "512x512", "diffusers"),
    "sd21": ("sd_v2_v", "True", "stable-diffusion-v2-768-v/lora", "v", "768x768", "diffusers"),
    "sdxl": (
        "sdxl_base_v1-0", "False", "stable-diffusion-xl-v1-base/lora", None, "1024x1024",
        "https://github.com/Stability-AI/generative-models",
    ),
}  # fmt: skip
TRAINING = {
    "settings": {"lora_rank": 4, "updates": 3}, "variant": "scoft_mpc", "seed": 3, "fingerprint": "f" * 64,
    "versions": {"torch": "2"}, "pictures": 150,
}  # fmt: skip


def layers_of(kind):
    """Every layer of the published denoiser that a LoRA can be put on, by its path."""
    unet = blueprints.diffusion(BASES[kind], "unet", "unet")
    return [
        name
        for name, layer in unet.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and not OUTSIDE.search(name)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_layers_have_the_names_that_were_written_down(kind):
    family, layers = family_of(BASES[kind]), layers_of(kind)
    assert set(NAMES[kind]) <= set(layers)
    assert {layer: family.kohya_module(layer) for layer in NAMES[kind]} == NAMES[kind]
    names = [family.kohya_module(layer) for layer in layers]
    assert len(names) == len(set(names)) == LAYERS[kind]


def test_sdxl_has_the_names_of_its_own_code():
    """Numbered as its builder does: two residual blocks a level, transformers of depth 0, 2, 10."""
    counted, down, up = set(), [], []
    residual = ["in_layers.2", "emb_layers.1", "out_layers.3"]
    attention = [f"attn{n}.{part}" for n in (1, 2) for part in ("to_q", "to_k", "to_v", "to_out.0")]
    transformer = [*attention, "ff.net.0.proj", "ff.net.2"]

    def add(place, residuals, depth=0, skip=False):
        counted.update(f"{place}.{residuals}.{part}" for part in residual + ["skip_connection"] * skip)
        if depth:
            counted.update(f"{place}.1.{part}" for part in ("proj_in", "proj_out"))
            counted.update(
                f"{place}.1.transformer_blocks.{n}.{part}" for n in range(depth) for part in transformer
            )

    for level, depth in enumerate((0, 2, 10)):
        for number in range(2):
            down.append((depth, level > 0 and number == 0))
        if level < 2:
            down.append(None)
    for place, block in enumerate(down, 1):
        if block is None:
            counted.add(f"input_blocks.{place}.0.op")
        else:
            add(f"input_blocks.{place}", 0, *block)
    add("middle_block", 0, 10)
    add("middle_block", 2)
    for level, depth in enumerate((10, 2, 0)):
        for number in range(3):
            add(f"output_blocks.{len(up)}", 0, depth, skip=True)
            if number == 2 and level < 2:
                counted.add(f"output_blocks.{len(up)}.2.conv")
            up.append(depth)
    family = family_of(BASES["sdxl"])
    ours = {family.kohya_module(layer) for layer in layers_of("sdxl")}
    assert ours == {f"lora_unet_{name}".replace(".", "_") for name in counted}


@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_finds_every_layer_of_the_published_shapes_again(kind):
    family, layers = family_of(BASES[kind]), layers_of(kind)
    state = {}
    for layer in layers:
        module = family.kohya_module(layer)
        state |= {f"{module}.lora_{way}.weight": torch.empty(1, device="meta") for way in ("down", "up")}
        state[f"{module}.alpha"] = torch.tensor(4.0)
    if kind == "sdxl":
        unet = blueprints.configuration(BASES[kind], "unet", "unet")
        state = _maybe_map_sgm_blocks_to_diffusers(state, type("Config", (), unet))
    found, alphas = _convert_non_diffusers_lora_to_diffusers(state)
    assert len(alphas) == len(layers)
    assert set(convert_unet_state_dict_to_peft(found)) == {
        f"unet.{layer}.lora_{factor}.weight" for layer in layers for factor in "AB"
    }


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    """A LoRA on all kinds of layers of a tiny model, alpha half its rank, and what it then predicts."""
    folder = tmp_path_factory.mktemp(request.param)
    base = BaseRef(path=str(build(request.param, folder) / "base"))
    family = family_of(base)
    config = TrainConfig(lora_rank=4, lora_alpha=2.0, lora_targets=TARGETS)
    objective = build_objective("ldm", config)
    trainer = Trainer(family.denoiser(), family, family.noise_process(), objective, config, 3, Processes(1))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in trainer.denoiser.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    weights = trainer.lora_weights()
    training = TRAINING | {"base": base.model_dump() | {"commit": None}}
    about = header(weights, training, family, "wales", ", in Wales", "diffusers")
    LORA.write(folder / "lora.safetensors", weights, ORIGIN, trainer.lora_metadata() | about)
    (folder / "card.md").write_text("# Data card\n")
    handed_on(folder)
    return folder, family, predicted(family, trainer.denoiser)


def handed_on(folder: Path, name: str = "scoft_wales_tiny", **said: str) -> Path:
    export(
        folder / "lora.safetensors", folder / "card.md", folder / f"{name}.safetensors",
        folder / "lora_kohya.safetensors", folder / "model_card.md", "wales", ", in Wales",
        ExportConfig(**said),
    )  # fmt: skip
    return folder / f"{name}.safetensors"


@torch.no_grad()
def predicted(family, denoiser):
    """What a denoiser says of one and the same noise."""
    random = torch.Generator().manual_seed(1)
    condition = {
        name: torch.randn(1, *shape, generator=random) for name, shape in family.condition_shapes().items()
    }
    condition |= family.picture_condition(1, 64, 64)
    z = torch.randn(1, 4, 8, 8, generator=random)
    return family.predict(denoiser.eval(), z, torch.tensor([500]), condition)


def test_both_files_do_in_diffusers_what_was_trained(trained):
    folder, family, ours = trained
    plain = predicted(family, family.denoiser())
    assert (ours - plain).abs().mean() > 0.05
    for name in ("lora.safetensors", "scoft_wales_tiny.safetensors", "lora_kohya.safetensors"):
        found = predicted(family, family.text_to_image(folder / name).unet)
        torch.testing.assert_close(found, ours, rtol=1e-4, atol=1e-4)


def test_a_reader_that_knows_no_alpha_adds_the_same(trained):
    """W + B·A, layer by layer, from either file and without a look at alpha."""
    folder, family, ours = trained
    diffusers = LORA.read(folder / "lora.safetensors")
    kohya = KOHYA.read(folder / "scoft_wales_tiny.safetensors")
    for down, up, names in (
        ("lora_A", "lora_B", lambda layer: f"unet.{layer}"),
        ("lora_down", "lora_up", family.kohya_module),
    ):
        weights, unet, taken = diffusers if down == "lora_A" else kohya, family.denoiser(), 0
        for layer, module in unet.named_modules():
            if f"{names(layer)}.{down}.weight" in weights:
                a, b = (weights[f"{names(layer)}.{way}.weight"].flatten(1) for way in (down, up))
                module.weight.data += (b @ a).view_as(module.weight)
                taken += 1
        assert taken == len(diffusers) // 2 > 50
        torch.testing.assert_close(predicted(family, unet), ours, rtol=1e-4, atol=1e-4)
    assert all(value == 4 for name, value in kohya.items() if name.endswith(".alpha"))


def test_a_lora_of_an_earlier_version_keeps_its_strength(trained, tmp_path):
    """It has alpha beside its factors, in the header that diffusers reads."""
    folder, family, ours = trained
    metadata = LORA.metadata(folder / "lora.safetensors")
    weights = LORA.read(folder / "lora.safetensors")
    adapter = json.loads(metadata["lora_adapter_metadata"]) | {"unet.lora_alpha": 2.0}
    metadata["lora_adapter_metadata"] = json.dumps(adapter)
    older = {name: weight * 2 if ".lora_B." in name else weight for name, weight in weights.items()}
    LORA.write(tmp_path / "lora.safetensors", older, ORIGIN, metadata)
    (tmp_path / "card.md").write_text("# Data card\n")
    found = predicted(family, family.text_to_image(handed_on(tmp_path)).unet)
    torch.testing.assert_close(found, ours, rtol=1e-4, atol=1e-4)


def test_the_header_tells_managers_what_the_file_is(trained, tmp_path):
    folder, _, _ = trained
    file = folder / "scoft_wales_tiny.safetensors"
    with safe_open(file, "pt") as opened:
        told = opened.metadata()
    content = file.read_bytes()
    data = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
    assert (told["sshs_model_hash"], told["modelspec.hash_sha256"]) == (data, f"0x{data}")
    assert (told["ss_network_dim"], told["ss_network_alpha"]) == ("4", "4.0")
    assert json.loads(told["ss_tag_frequency"]) == {"wales": {"in Wales": 150}}
    assert json.loads(told["scoft_training"])["base"]["path"] == told["ss_sd_model_name"]
    assert not {"modelspec.author", "modelspec.date"} & set(told)
    with safe_open(folder / "lora.safetensors", "pt") as opened:
        trained_file = opened.metadata()
    assert trained_file["modelspec.implementation"] == "diffusers"
    assert trained_file["sshs_model_hash"] != data
    own = {"modelspec.implementation", "modelspec.hash_sha256", "sshs_model_hash", "scoft", "scoft_seal"}
    shared = set(told) - own
    assert {key: told[key] for key in shared} == {key: trained_file[key] for key in shared}
    again = handed_on(folder, "again")
    assert again.read_bytes() == content == (folder / "lora_kohya.safetensors").read_bytes()
    said = handed_on(folder, "said", author="Cardiff", date="2026-11-26", licence="cc-by-4.0")
    with safe_open(said, "pt") as opened:
        told = opened.metadata()
    found = [told[f"modelspec.{key}"] for key in ("author", "date", "license")]
    assert found == ["Cardiff", "2026-11-26", "cc-by-4.0"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_published_models_are_called_what_managers_call_them(kind):
    family, weights = family_of(BASES[kind]), {"a": torch.zeros(4, 4)}
    training = TRAINING | {"base": {"path": BASES[kind].path, "commit": None}}
    told = header(weights, training, family, "wales", ", in Wales", family.kind().layers)
    keys = ["ss_base_model_version", "ss_v2", "modelspec.architecture", "modelspec.prediction_type"]
    keys += ["modelspec.resolution", "modelspec.implementation"]
    assert tuple(told.get(key) for key in keys) == SAID[kind]
    assert told["modelspec.license"] == ("creativeml-openrail-m" if kind == "sd1" else "openrail++")
    assert "ss_network_args" not in told


@pytest.mark.parametrize(
    ("path", "architecture"),
    [
        ("Tongyi-MAI/Z-Image", "z-image/lora"),
        ("black-forest-labs/FLUX.2-klein-base-4B", "flux.2-klein/lora"),
    ],
)
def test_a_transformer_has_a_header_that_claims_to_be_no_stable_diffusion(path, architecture):
    family, weights = family_of(BaseRef(path=path)), {"a": torch.zeros(4, 4)}
    training = TRAINING | {"base": {"path": path, "commit": None}}
    told = header(weights, training, family, "wales", ", in Wales", family.kind().layers)
    assert (told["modelspec.architecture"], told["modelspec.resolution"]) == (architecture, "1024x1024")
    assert not {"ss_base_model_version", "ss_v2", "ss_network_module"} & set(told)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("CompVis/stable-diffusion-v1-4", "sd-v1-4"),
        ("stabilityai/stable-diffusion-xl-base-1.0@462165984030", "sd-xl-base-1.0"),
        ("resources/mini/base", "base"),
        ("/data/My model {2}", "My-model-2"),
        ("..", "model"),
    ],
)
def test_files_carry_the_base_models_name(path, name):
    assert BaseRef(path=path).short_name == name


@pytest.mark.parametrize(
    "layer", ["conv_in", "conv_out", "time_embedding.linear_1", "linear_2", "add_embedding.linear_1"]
)
def test_a_layer_that_other_programs_cannot_adapt_is_refused_with_the_settings(layer):
    raw = {"cultures": {"wales": {"suffix": ", in Wales", "images": "resources"}}}
    with pytest.raises(UserError, match=rf"train\.lora_targets: '{layer}' lies outside the denoiser's"):
        load_config(raw | {"train": {"lora_targets": ["to_q", layer]}})
    load_config(raw | {"train": {"lora_targets": list(TARGETS)}})
