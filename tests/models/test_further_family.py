"""A further family, Stable Diffusion 3 on a rectified flow, through the same trainer and the same steps."""

from functools import partial

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Img2ImgPipeline

from pipeline_steps import artifacts
from pipeline_steps.artifacts import IMAGES, KOHYA, LORA, SAMPLES
from pipeline_steps.config import (
    BaseRef,
    CacheConfig,
    ExportConfig,
    ModelRef,
    NegativesConfig,
    SampleConfig,
    WatchConfig,
)
from pipeline_steps.config.checks import load_config
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.reconstruct import reconstruct
from pipeline_steps.evaluation.sample import sample
from pipeline_steps.method.denoising import denoise
from pipeline_steps.method.pictures import to_unit
from pipeline_steps.models.families import FAMILIES, family_of
from pipeline_steps.planning.plan import plan
from pipeline_steps.training.cache import cache
from pipeline_steps.training.dataset import TrainingSet
from pipeline_steps.training.export import export
from pipeline_steps.training.train import train
from pipeline_steps.training.trainer import Trainer
from tests.models.flow_family import (
    CLIP,
    ORIGIN,
    Raw,
    check_losses_and_one_update,
    new_trainer,
    picture,
    settings,
    write_inputs,
    write_pictures,
)
from tests.models.sd3_family import StableDiffusion3, build


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return BaseRef(path=str(build(tmp_path_factory.mktemp("sd3"))))


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(FAMILIES, StableDiffusion3.pipeline, StableDiffusion3)


@pytest.fixture(scope="module")
def world(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, StableDiffusion3.pipeline, StableDiffusion3)
        write_inputs(folder, base)
    return folder


def raw(trainer: Trainer) -> Raw:
    """Its networks, called plainly."""
    transformer, vae = trainer.denoiser, trainer.family.vae()
    encode = trainer.family.prompt_encoder()

    def say(prompt):
        return [encode([prompt])[key][0] for key in ("encoder_hidden_states", "pooled_projections")]

    def network(z, sigma, caption):
        hidden, pooled = caption
        return transformer(z, hidden[None], pooled[None], 1000 * sigma.reshape(1)).sample

    def decode(z):
        return (vae.decode(z / 1.5 + 0.06).sample / 2 + 0.5).clamp(0, 1)

    return Raw(say, network, decode, 3.0)


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        ("first", {}),
        ("last", {}),
        ("random", {}),
        ("first", {"snr_gamma": 0.5}),
    ],
    ids=["first", "last", "random", "weights by time"],
)
def test_losses_and_one_update_agree_with_the_equations(base, world, record, changes):
    denoising = {"steps": 3, "guidance_scale": 3.0, "record": record, "by_time": record == "random"}
    config = settings(denoising=denoising, **changes)
    trainer = new_trainer(base, config)
    check_losses_and_one_update(trainer, raw(trainer), world)


def test_prediction_condition_and_steps_are_the_pipelines(base):
    """Drawn from the same noise by diffusers' pipeline and by x̂'s own way down."""
    family = family_of(base)
    pipeline, encode, process = family.text_to_image(), family.prompt_encoder(), family.noise_process()
    prompts, noise = (
        ["a red house", "a jar"],
        torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)),
    )
    theirs = pipeline(
        prompts, sigmas=[1.0, 0.75, 0.5, 0.25], guidance_scale=3.0, latents=noise, output_type="latent"
    ).images
    with torch.inference_mode():
        ours = denoise(
            partial(family.predict, pipeline.transformer), noise, torch.ones(2), encode(prompts),
            encode(["", ""]), process=process, steps=4, scale=3.0, record=torch.tensor([-1, -1]),
        )  # fmt: skip
        pictures = family.decode_latents(family.vae(), ours)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    drawn = pipeline(
        prompts, sigmas=[1.0, 0.75, 0.5, 0.25], guidance_scale=3.0, latents=noise, output_type="pt"
    ).images
    torch.testing.assert_close(pictures, drawn, rtol=1e-3, atol=1e-3)
    assert drawn.std() > 0.01


def test_latents_and_back_are_the_pipelines(base):
    family = family_of(base)
    vae, unit = family.vae(), to_unit([picture(1), picture(2)])
    pipeline = StableDiffusion3Img2ImgPipeline.from_pipe(family.text_to_image())
    pipeline.scheduler.scale_noise = lambda latents, t, noise: latents
    with torch.inference_mode():
        theirs = pipeline.prepare_latents(
            pipeline.image_processor.preprocess(unit), None, 2, 1, torch.float32, vae.device,
            torch.Generator().manual_seed(0),
        )  # fmt: skip
        mean, std = family.encode_pictures(vae, unit)
        ours = mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        plain = vae.decode(vae.encode(unit * 2 - 1).latent_dist.mode()).sample / 2 + 0.5
        back = family.decode_latents(vae, mean)
    torch.testing.assert_close(back, plain.clamp(0, 1), rtol=1e-4, atol=1e-4)


def test_its_lora_is_trained_handed_on_and_drawn_with(base, world, tmp_path):
    lora = tmp_path / "lora.safetensors"
    train(
        world / "cache.safetensors", lora, tmp_path / "log.parquet", "wales", "scoft_mpc", 3, base,
        settings(learning_rate=0.05, gradient_checkpointing=True), world / "targets.safetensors", CLIP,
        WatchConfig(sample_every=1, sample_pictures=2),
    )  # fmt: skip
    (tmp_path / "card.md").write_text("# Data card\n")
    export(
        lora, tmp_path / "card.md", tmp_path / "named.safetensors", tmp_path / "kohya.safetensors",
        tmp_path / "m.md", "wales", ", there", ExportConfig(),
    )  # fmt: skip
    layer = "transformer_blocks.0.attn.to_q"
    weights, named = LORA.read(lora), KOHYA.read(tmp_path / "kohya.safetensors")
    assert all(name.startswith("transformer.") for name in weights)
    ours = weights[f"transformer.{layer}.lora_A.weight"]
    theirs = named[f"lora_transformer_{layer.replace('.', '_')}.lora_down.weight"]
    assert torch.equal(ours, theirs)

    (tmp_path / "prompts.txt").write_text("a house\n")
    found = []
    for weights in (None, lora):
        settled = SampleConfig(images_per_prompt=2, steps=2, batch_size=2)
        sample(
            world / "images.parquet", tmp_path / "prompts.txt", tmp_path / "s.parquet", "wales", 3, base,
            settled, lora=weights,
        )  # fmt: skip
        rows = SAMPLES.rows(tmp_path / "s.parquet")
        found.append(np.stack([np.asarray(artifacts.decode_picture(row["image"])) for row in rows]))
    assert found[0].shape == (2, 64, 64, 3) and not np.array_equal(*found)
    reconstruct(world / "images.parquet", tmp_path / "r.parquet", "wales", base, CacheConfig())
    assert IMAGES.count(tmp_path / "r.parquet") == 3


def test_what_it_has_not_is_refused_in_one_line(base, world, tmp_path):
    from pipeline_steps.negatives.synthesize import synthesize

    depth = [{"image_id": r["image_id"], "image": r["image"]} for r in IMAGES.rows(world / "images.parquet")]
    artifacts.DEPTH.write(tmp_path / "depth.parquet", depth, ORIGIN)
    with pytest.raises(UserError, match="there is no depth ControlNet for Stable Diffusion 3"):
        synthesize(
            world / "captions.parquet", tmp_path / "depth.parquet", tmp_path / "n.parquet", "wales",
            ", there", 3, base, ModelRef(path="resources/mini/controlnet"), NegativesConfig(),
        )  # fmt: skip
    config = settings(denoising={"scheduler": "ddpm"})
    with pytest.raises(UserError, match=r"train.denoising.scheduler: 'ddpm' .* rectified flow"):
        TrainingSet(
            world / "cache.safetensors", world / "targets.safetensors", "wales", 3, config,
            family_of(base).noise_process(),
        )  # fmt: skip
    write_pictures(tmp_path, (72, 72))  # right for Stable Diffusion, whose UNet takes latents one by one
    with pytest.raises(UserError, match=r"72 × 72 pixels, and Stable Diffusion 3 takes multiples of 16"):
        cache(
            tmp_path / "images.parquet", tmp_path / "captions.parquet", tmp_path / "c.safetensors", "wales",
            base, CacheConfig(),
        )  # fmt: skip


def test_its_tokens_and_its_costs_are_counted(base, tmp_path):
    tokenizer = family_of(base).tokenizer()
    assert tokenizer.model_max_length == 256 and len(tokenizer("a red house").input_ids) == 13
    raw = {
        "cultures": {"wales": {"suffix": ", in Wales", "images": "resources"}},
        "models": {"base": {"path": base.path}},
    }
    plan(load_config(raw), tmp_path / "plan.md")
    text = (tmp_path / "plan.md").read_text()
    names = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][1:]
    assert names == ["caption", "depth", "cache", "targets", "train (scoft_mpc)", "sample (a variant)"]
    assert "- Unknown: synthesize: models.base: " in text and "no depth ControlNet" in text
