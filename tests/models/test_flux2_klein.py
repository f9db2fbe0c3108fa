"""FLUX.2 klein at tiny size: against its own pipeline, the equations, and the programs that load its LoRA."""

import math
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
import yaml
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from pipeline_steps import artifacts
from pipeline_steps.artifacts import KOHYA, NEGATIVES
from pipeline_steps.config import BaseRef, ExportConfig, ModelRef, NegativesConfig, WatchConfig
from pipeline_steps.errors import UserError
from pipeline_steps.method.denoising import denoise
from pipeline_steps.method.pictures import to_unit
from pipeline_steps.method.processes import RectifiedFlow
from pipeline_steps.models.bases import DEPTHLESS, refuse_depth
from pipeline_steps.models.families import FAMILIES, family_of
from pipeline_steps.negatives.synthesize import synthesize
from pipeline_steps.training.export import export
from pipeline_steps.training.train import train
from pipeline_steps.training.trainer import Trainer
from tests import ROOT
from tests.models.flow_family import (
    CLIP,
    Raw,
    check_losses_and_one_update,
    new_trainer,
    picture,
    settings,
    write_inputs,
)
from tests.models.flux2_klein_model import build, comfy_layers

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "to_qkv_mlp_proj")
POSITIONS = 16
"""Of a picture of 64 pixels: 4 × 4."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return BaseRef(path=str(build(tmp_path_factory.mktemp("klein"))))


@pytest.fixture(scope="module")
def world(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_inputs(folder, base)
    return folder


def raw(trainer: Trainer) -> Raw:
    """Its networks, called as ``Flux2KleinPipeline`` calls them, one picture at a time."""
    transformer, vae, pipeline = trainer.denoiser, trainer.family.vae(), trainer.family.text_to_image()
    mean, std = (
        vae.bn.running_mean[None, :, None, None],
        (vae.bn.running_var + 1e-4).sqrt()[None, :, None, None],
    )

    def say(prompt):
        return pipeline.encode_prompt([prompt])

    def network(z, sigma, caption):
        latents = pipeline._pack_latents(z)
        ids = pipeline._prepare_latent_ids(z)
        found = transformer(latents, caption[0], sigma.reshape(1), ids, caption[1]).sample
        return pipeline._unpack_latents_with_ids(found, ids)

    def decode(z):
        return (vae.decode(pipeline._unpatchify_latents(z * std + mean)).sample / 2 + 0.5).clamp(0, 1)

    return Raw(say, network, decode, math.exp(compute_empirical_mu(POSITIONS, 50)))


def test_losses_and_one_update_agree_with_the_equations(base, world):
    config = settings(
        lora_targets=TARGETS, contrast_margin=1.0,
        denoising={"steps": 3, "guidance_scale": 3.0, "record": "random"},
    )  # fmt: skip
    trainer = new_trainer(base, config, POSITIONS)
    check_losses_and_one_update(trainer, raw(trainer), world)


def test_prediction_condition_and_steps_are_the_pipelines(base):
    """Drawn from the same noise by diffusers' pipeline, whose shift depends on its steps, and by ours."""
    family = family_of(base)
    pipeline, encode = family.text_to_image(), family.prompt_encoder()
    process = RectifiedFlow(math.exp(compute_empirical_mu(POSITIONS, 4)))
    assert family.noise_process(POSITIONS).shift == math.exp(compute_empirical_mu(POSITIONS, 50))
    prompts, noise = ["a red house, there", "a jar"], torch.randn(2, 16, 4, 4)
    calls = {"num_inference_steps": 4, "guidance_scale": family.guidance(3.0), "height": 64, "width": 64}
    drawn = pipeline(prompt=prompts, latents=noise, output_type="pt", **calls).images
    with torch.inference_mode():
        ours = denoise(
            partial(family.predict, pipeline.transformer), noise, torch.ones(2), encode(prompts),
            encode(["", ""]), process=process, steps=4, scale=3.0, record=torch.tensor([-1, -1]),
        )  # fmt: skip
        pictures = family.decode_latents(family.vae(), ours)
    torch.testing.assert_close(pictures, drawn, rtol=1e-3, atol=1e-3)
    assert drawn.std() > 0.01


def test_latents_and_back_are_the_pipelines(base):
    family = family_of(base)
    vae, unit, pipeline = family.vae(), to_unit([picture(1), picture(2)]), family.text_to_image()
    with torch.inference_mode():
        theirs = pipeline._encode_vae_image(unit * 2 - 1, torch.Generator())
        ours, _ = family.encode_pictures(vae, unit)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        plain = vae.decode(vae.encode(unit * 2 - 1).latent_dist.mode()).sample / 2 + 0.5
        torch.testing.assert_close(family.decode_latents(vae, ours), plain.clamp(0, 1), rtol=1e-4, atol=1e-4)
    assert family.multiple() == 16


def test_its_lora_changes_the_pipelines_pictures_and_has_comfys_names(base, world, tmp_path):
    train(
        world / "cache.safetensors", tmp_path / "lora.safetensors", tmp_path / "log.parquet", "wales",
        "scoft_mpc", 3, base, settings(learning_rate=0.05, lora_targets=TARGETS, gradient_checkpointing=True),
        world / "targets.safetensors", CLIP, WatchConfig(sample_every=1, sample_pictures=2),
    )  # fmt: skip
    (tmp_path / "card.md").write_text("# Data card\n")
    export(
        tmp_path / "lora.safetensors", tmp_path / "card.md", tmp_path / "named.safetensors",
        tmp_path / "kohya.safetensors", tmp_path / "m.md", "wales", ", there", ExportConfig(),
    )  # fmt: skip
    named = KOHYA.read(tmp_path / "kohya.safetensors")
    assert {name.split(".lora_")[0] for name in named if ".lora_" in name} == comfy_layers()
    family, noise = family_of(base), torch.randn(1, 16, 4, 4)
    drawn = [
        family.text_to_image(lora)(
            prompt="a jar", latents=noise, num_inference_steps=2, height=64, width=64, output_type="pt"
        ).images
        for lora in (None, tmp_path / "lora.safetensors")
    ]
    assert (drawn[0] - drawn[1]).abs().max() > 1e-3


def test_negatives_by_noise_alone(base, world, tmp_path):
    """At a hundredth of the schedule hardly anything of the picture is lost; by depth it is refused."""
    out = tmp_path / "negatives.parquet"
    control = ModelRef(path="resources/mini/controlnet")
    inputs = (world / "captions.parquet", world / "images.parquet", out, "wales", ", there", 3, base, control)
    found = {}
    for strength in (0.01, 1.0):
        synthesize(*inputs, NegativesConfig(structure="noise", strength=strength, per_positive=1, steps=2))
        rows = NEGATIVES.rows(out)
        found[strength] = [np.asarray(artifacts.decode_picture(row["image"]), float) for row in rows]
    family = family_of(base)
    with torch.inference_mode():
        mean, _ = family.encode_pictures(family.vae(), to_unit([picture(0)]))
        seen = family.decode_latents(family.vae(), mean)[0].permute(1, 2, 0).numpy() * 255
    near, far = (np.abs(found[strength][0] - seen).mean() for strength in found)
    assert near < far / 3


def test_negatives_by_depth_are_refused_before_the_first_job(base, tmp_path):
    """By the index where the model is there, by its id where it is not; the families say which it is."""
    assert {kind.pipeline for kind in FAMILIES.values() if kind.controlled is None} == set(DEPTHLESS)
    refuse_depth(BaseRef(path="resources/mini/base"))
    refuse_depth(BaseRef(path="Tongyi-MAI/Z-Image"))
    for ref in (base, BaseRef(path="black-forest-labs/FLUX.2-klein-base-4B@a3b4f48")):
        with pytest.raises(UserError, match=r"there is none for .*; set negatives.structure: noise"):
            refuse_depth(ref)
    command = [
        sys.executable, "-m", "snakemake", "-n", "--snakefile", str(ROOT / "Snakefile"), "--directory",
        str(tmp_path), "--configfile", str(tmp_path / "klein.yaml"), "--", "plan",
    ]  # fmt: skip
    settings = {"presets": ["drawn"], "models": {"base": {"path": base.path}}}
    for structure, message in (("depth", "set negatives.structure: noise"), ("noise", "rule plan:")):
        settings["negatives"] = {"structure": structure}
        (tmp_path / "klein.yaml").write_text(yaml.safe_dump(settings))
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        assert message in done.stderr + done.stdout
        assert (done.returncode == 0) == (structure == "noise")


def test_a_distilled_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"is distilled .* train on black-forest-labs/FLUX.2-klein-base-4B"):
        family_of(BaseRef(path=str(build(tmp_path, distilled=True))))
    with pytest.raises(UserError, match=r"klein-4B' is distilled"):
        family_of(BaseRef(path="black-forest-labs/FLUX.2-klein-4B"))
