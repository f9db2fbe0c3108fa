"""The plan: operations and living memory found by shapes, against sums done by hand."""

import json

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pipeline_steps.config import TrainConfig
from pipeline_steps.config.checks import load_config, over_presets
from pipeline_steps.planning.cards import CONTEXT, FRAGMENTS
from pipeline_steps.planning.footprint import footprint
from pipeline_steps.planning.plan import plan
from pipeline_steps.planning.stages import (
    Stage,
    _cache,
    _caption,
    _depth,
    _inner_calls,
    _sample,
    _synthesize,
    _targets,
    _train,
)

MIB = 2**20


def test_operations_and_peak_of_a_chain_of_products():
    """Three products of 1 MiB matrices: without gradients two results live at once, with them all do."""
    with torch.device("meta"):
        x = torch.empty(512, 512)
        layers = nn.Sequential(*[nn.Linear(512, 512, bias=False) for _ in range(3)]).requires_grad_(False)
        with torch.no_grad():
            found = footprint(lambda: layers(x))
        assert found.flops == 3 * 2 * 512**3
        assert found.peak == 2 * MIB
        layers.requires_grad_(True)
        kept = footprint(lambda: torch.autograd.grad(layers(x).sum(), list(layers.parameters())))
    assert kept.flops == (3 + 3 + 2) * 2 * 512**3  # back: three weights, two inputs
    assert kept.peak >= 5 * MIB


def test_attention_is_counted_without_its_matrix():
    with torch.device("meta"), torch.no_grad():
        q, k, v = (torch.empty(1, 2, length, 64) for length in (1024, 2048, 2048))
        found = footprint(lambda: nn.functional.scaled_dot_product_attention(q, k, v))
    assert found.flops == 4 * 2 * 1024 * 2048 * 64
    assert found.peak == q.nbytes


def test_what_is_computed_anew_lives_one_layer_at_a_time():
    """Eight layers more keep their inputs, 1 MiB each, and nothing else of what they made."""
    found = []
    for count in (4, 12):
        with torch.device("meta"):
            x, small = torch.empty(512, 512), {"bias": False}
            layers = nn.ModuleList(
                nn.Sequential(nn.Linear(512, 512, **small), nn.SiLU(), nn.Linear(512, 512, **small))
                for _ in range(count)
            ).requires_grad_(False)
            trained = [layer[2].weight.requires_grad_() for layer in layers]

            def forward(x=x, layers=layers):
                for layer in layers:
                    x = checkpoint(layer, x, use_reentrant=False)
                return x

            def back(end, trained=trained):
                return torch.autograd.grad(end.sum(), trained)

            found.append(footprint(forward, back))
    fewer, more = found
    assert [cost.kept for cost in found] == [4 * MIB, 12 * MIB]
    # On the way back each layer leaves its weight's gradient, of 1 MiB as well, in the place of its input.
    assert more.peak - fewer.peak == 8 * MIB
    # Forth, anew and back, two products each; the first layer has no way back to go.
    products = {count: 6 * count - 2 for count in (4, 12)}
    assert [cost.flops for cost in found] == [products[count] * 2 * 512**3 for count in (4, 12)]


def test_a_flow_of_six_billion_parameters_is_trained_on_a_card_of_24_gb():
    """As the preset has it: no lever more is needed, and a smaller card has none that is enough."""
    raw = {"cultures": {"wales": {"suffix": ", in Wales", "images": "resources"}}}
    settings = load_config(
        {k: v for k, v in over_presets({"presets": ["authors", "zimage"], **raw}).items() if k != "presets"}
    )
    with torch.device("meta"):
        stage = _train(settings)
    assert stage.weights > 2 * 6.15e9  # in 16 bits, and no text encoder
    assert (stage.fit(24e9), stage.fit(12e9)) == ("yes", "no")


def test_a_stage_names_the_weakest_lever_that_fits():
    stage = Stage("train", 1.0, 2e9, 8e9, {"batch_size 1": 4e9, "gradient_checkpointing": 1e9})
    assert stage.memory(8e9) == pytest.approx(CONTEXT + FRAGMENTS * 10e9)
    assert [stage.fit(size * 1e9) for size in (80, 10, 8, 4.2, 2)] == [
        "yes", "batch_size 1", "batch_size 1", "gradient_checkpointing", "no",
    ]  # fmt: skip


def test_the_embedded_family_has_a_plan(tmp_path, capsys):
    raw = {"cultures": {"korea": {"suffix": ", in korea", "images": "resources/mini/ccub/korea"}}}
    plan(load_config(raw), tmp_path / "plan.md")
    text = (tmp_path / "plan.md").read_text()
    assert text in capsys.readouterr().out
    names = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][1:]
    assert names == [
        "caption", "depth", "synthesize", "cache", "targets", "train (scoft_mpc)", "sample (a variant)",
    ]  # fmt: skip
    assert "Unknown" not in text and "GPU hours" in text and " for 1 culture." in text


def test_training_is_planned_by_what_was_measured_on_such_a_card(tmp_path, monkeypatch):
    """Nearest batch of such networks; a card that was not measured, and a share that is set, keep theirs."""
    row = {"model": "sd15", "variant": "scoft_mpc", "arrangement": "trainer"}
    rows = [
        row | {"batch": 1, "tflops": 98.95},
        row | {"batch": 4, "tflops": 9.895},
        row | {"batch": 4, "tflops": 500.0, "arrangement": "authors"},
        row | {"batch": 4, "tflops": 500.0, "gradient_checkpointing": True},
        row | {"batch": 4, "error": "out of memory"},
    ]
    there = tmp_path / "resources/measured/gpu.json"
    there.parent.mkdir(parents=True)
    there.write_text(json.dumps({"machine": {"gpu": "NVIDIA H100 PCIe"}, "updates": rows}))
    monkeypatch.chdir(tmp_path)

    def hours(**plan_settings) -> tuple[float, float, str]:
        raw = {
            "cultures": {"korea": {"suffix": ", in korea", "images": "resources/mini/ccub/korea"}},
            "plan": plan_settings,
        }
        plan(load_config(raw), tmp_path / "plan.md")
        text = (tmp_path / "plan.md").read_text()
        cells = {line.split(" |")[0][2:]: line.split(" | ") for line in text.splitlines() if "| " in line}
        return float(cells["train (scoft_mpc)"][4]), float(cells["cache"][4]), text

    train, cache, text = hours(gpu="h100")
    plainly, as_cache, said = hours(gpu="h100", utilisation=0.35)
    assert train == pytest.approx(plainly * 35, rel=0.01) and cache == as_cache
    assert "Measured: 1.0% is what training reached on NVIDIA H100 PCIe, 4 pictures at a time" in text
    assert "Measured" not in said and "Measured" not in hours(gpu="a100")[2]


def test_what_is_neither_fetched_nor_published_is_named(tmp_path):
    raw = {
        "cultures": {"korea": {"suffix": ", in korea", "images": "resources/mini/ccub/korea"}},
        "models": {"captioner": {"path": "someone/blip"}, "base": {"path": "someone/sd"}},
    }
    plan(load_config(raw), tmp_path / "plan.md")
    text = (tmp_path / "plan.md").read_text()
    assert "- Unknown: caption: 'someone/blip' is not on this machine" in text
    assert "- Unknown: train: models.base: 'someone/sd' is not on this machine" in text
    assert "| depth |" in text


def test_a_captioner_of_another_kind_is_named(tmp_path):
    """As BLIP-2, once it is fetched."""
    (tmp_path / "config.json").write_text('{"model_type": "blip-2"}')
    raw = {
        "cultures": {"korea": {"suffix": ", in korea", "images": "resources/mini/ccub/korea"}},
        "models": {"captioner": {"path": str(tmp_path)}},
    }
    plan(load_config(raw), tmp_path / "plan.md")
    text = (tmp_path / "plan.md").read_text()
    assert f"- Unknown: caption: '{tmp_path}' is a model of type blip-2" in text and "| depth |" in text


def test_batches_are_counted_as_a_collection_fills_them():
    """Four pictures in batches of sixteen, and MiDaS' own file, which is run picture by picture."""
    raw = {
        "cultures": {"korea": {"suffix": ", in korea", "images": "resources/mini/ccub/korea"}},
        "negatives": {"per_positive": 1},
        "sample": {"images_per_prompt": 2},
    }
    few, many = ({"pictures": 4, "prompts": 2}, {"pictures": 8, "prompts": 4})
    with torch.device("meta"):
        for stage in (_caption, _depth, _synthesize, _cache, _targets, _sample):
            small, large = (stage(load_config(raw | {"plan": size})) for size in (few, many))
            assert 2 * small.activations == large.activations, stage
        raw["models"] = {"depth": {"path": "https://host/dpt_hybrid-midas-501f0c75.pt"}}
        assert not _depth(load_config(raw | {"plan": many})).levers


def test_offloaded_networks_are_counted_one_at_a_time_and_the_plan_says_when():
    raw = {"cultures": {"wales": {"suffix": ", in Wales", "images": "resources"}}}
    off = {"sample": {"offload": True}, "negatives": {"offload": True}}
    whole, apart = (load_config(over_presets({"presets": ["sd15"], **raw, **more})) for more in ({}, off))
    with torch.device("meta"):
        sample, spared = _sample(whole), _sample(apart)
        negatives = _synthesize(whole).weights - _synthesize(apart).weights
    # In 16 bits the text encoder and the autoencoder, 123 + 84 million weights, beside the UNet.
    drawn = sample.weights - spared.weights
    assert drawn == pytest.approx(2 * 207e6, rel=0.01) and negatives == drawn
    least = sample.memory(min(sample.levers.values()))
    assert sample.fit(least).endswith("sample.offload") and sample.fit(least - 1) == "no"
    assert not any("offload" in lever for lever in spared.levers)


@pytest.mark.parametrize(
    ("perceptual", "layers"),
    [
        ({"extractor": "clip_conv", "layers": [1, 2, 3, 4]}, ((56, 256), (28, 512), (14, 1024), (7, 2048))),
        ({"extractor": "lpips"}, ((224, 64), (112, 128), (56, 256), (28, 512), (14, 512))),
    ],
)
def test_what_a_convolutional_network_leaves_of_a_picture_is_counted(perceptual, layers):
    """Its stages' positions a side, and channels, twice for mirrored pictures: of RN101, and of VGG-16."""
    raw = {
        "cultures": {"korea": {"suffix": ", in korea", "images": "resources/mini/ccub/korea"}},
        "models": {"base": {"path": "resources/mini/base"}},
        "train": {"perceptual": perceptual | {"model": {"path": "a/b"}}},
        "plan": {"pictures": 10},
        "negatives": {"per_positive": 1},
    }
    with torch.device("meta"):
        stage = _targets(load_config(raw))
    numbers = sum(side**2 * channels for side, channels in layers)
    assert stage.disk == 2 * 20 * 4 * numbers


@pytest.mark.parametrize(
    "inner, calls",
    [
        # ⌈t / 100⌉ of 10 is 5.5 on average (t = 0 takes one, as 1 … 100 do), two calls each, one recorded
        ({"steps": 10, "by_time": True}, 2 * 5.5 - 1),
        ({"steps": 10, "by_time": True, "guidance_scale": 1.0}, 5.5 - 1),
        # all ten from t = 10 on; below, one for each time
        ({"steps": 10, "by_time": False}, 2 * (990 * 10 + sum(range(1, 10)) + 1) / 1000 - 1),
    ],
)
def test_inner_steps_are_planned_as_they_are_made(inner, calls):
    assert _inner_calls(TrainConfig(denoising=inner)) == pytest.approx(calls, abs=0.02)
