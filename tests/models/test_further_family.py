"""A further family, Stable Diffusion 3 on a rectified flow, through the same trainer and the same steps."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Img2ImgPipeline
from PIL import Image

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS, IMAGES, KOHYA, LORA, NEGATIVES_KEPT, SAMPLES, Origin
from pipeline_steps.config import (
    BaseRef,
    CacheConfig,
    ExportConfig,
    ModelRef,
    NegativesConfig,
    SampleConfig,
    TargetsConfig,
    TrainConfig,
    WatchConfig,
)
from pipeline_steps.config.checks import load_config
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.reconstruct import reconstruct
from pipeline_steps.evaluation.sample import sample
from pipeline_steps.method.denoising import denoise
from pipeline_steps.method.pictures import to_unit
from pipeline_steps.method.scoft import Batch
from pipeline_steps.models import extractors
from pipeline_steps.models.families import FAMILIES, family_of
from pipeline_steps.planning.plan import plan
from pipeline_steps.training.cache import cache
from pipeline_steps.training.dataset import TrainingSet
from pipeline_steps.training.export import export
from pipeline_steps.training.targets import targets
from pipeline_steps.training.train import build_objective, train
from pipeline_steps.training.trainer import Processes, Trainer
from tests.models.sd3_family import StableDiffusion3, build
from tests.reference import flow
from tests.reference import scoft as naive

CLIP = ModelRef(path="resources/mini/clip")
ORIGIN = Origin("wales", "f" * 64)
NEGATIVES = (2, 1, 0)  # one picture has kept none


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return BaseRef(path=str(build(tmp_path_factory.mktemp("sd3"))))


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(FAMILIES, StableDiffusion3.pipeline, StableDiffusion3)


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def write_pictures(folder: Path, size: tuple[int, int] = (64, 64)) -> None:
    """Three training pictures with two captions each, and negatives."""
    about = {"source_width": 64, "source_height": 64, "crop": [0, 0, 64, 64], "split": "train"}
    ids = [f"picture-{number}" for number in range(len(NEGATIVES))]
    IMAGES.write(
        folder / "images.parquet",
        [
            dict.fromkeys(IMAGES.schema.names)
            | about
            | {"image_id": name, "caption": f"a red house, {name}", "source_sha256": name}
            | {"image": artifacts.encode_picture(picture(number, size), f"{name}.png")}
            for number, name in enumerate(ids)
        ],
        ORIGIN,
        {"resolution": size[0]},
    )
    captions = [{"image_id": n, "index": k, "caption": f"house {n} {k}"} for n in ids for k in range(2)]
    CAPTIONS.write(folder / "captions.parquet", captions, ORIGIN)
    kept = [
        {"image_id": name, "index": k, "prompt": "a house", "seed": 1, "distance": 0.5}
        | {"image": artifacts.encode_picture(picture(10 + 3 * number + k), "negative.png")}
        for number, name in enumerate(ids)
        for k in range(NEGATIVES[number])
    ]
    NEGATIVES_KEPT.write(folder / "kept.parquet", kept, ORIGIN)


def settings(**changes) -> TrainConfig:
    own = {
        "updates": 2, "batch_size": 3, "perceptual_every": 1, "lora_rank": 2, "memorisation_captions": "all",
        "perceptual_share": None, "contrast_margin": 0.1, "max_gradient_norm": 1e9, "learning_rate": 0.01,
        "perceptual": {"layers": [1, 2], "views": 2}, "denoising": {"steps": 3, "guidance_scale": 3.0},
    }  # fmt: skip
    return TrainConfig.model_validate(own | changes)


@pytest.fixture(scope="module")
def world(base, tmp_path_factory):
    """The training's inputs, made by their steps."""
    folder = tmp_path_factory.mktemp("world")
    write_pictures(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, StableDiffusion3.pipeline, StableDiffusion3)
        cache(
            folder / "images.parquet", folder / "captions.parquet", folder / "cache.safetensors", "wales",
            base, CacheConfig(),
        )  # fmt: skip
    targets(
        folder / "images.parquet", folder / "kept.parquet", folder / "targets.safetensors", "wales", 3, CLIP,
        settings().perceptual, TargetsConfig(),
    )  # fmt: skip
    return folder


def data_set(world: Path, config: TrainConfig, trainer: Trainer) -> TrainingSet:
    paths = world / "cache.safetensors", world / "targets.safetensors"
    return TrainingSet(*paths, "wales", 3, config, trainer.noise_process)


def new_trainer(base: BaseRef, config: TrainConfig) -> Trainer:
    """A trainer whose LoRA is no longer zero: where B is zero, A has no gradient yet."""
    family = family_of(base)
    parts = family.denoiser(), family, family.noise_process()
    trainer = Trainer(*parts, build_objective("scoft_mpc", config), config, 5, Processes(1))
    g = torch.Generator().manual_seed(0)
    for parameter in trainer.parameters:
        parameter.data.normal_(std=0.1, generator=g)
    trainer.look(family.vae(), extractors.feature_extractor(CLIP, config.perceptual))
    return trainer


def plain_losses(
    world: Path, trainer: Trainer, batch: Batch, pictures: list[int], draws: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Means of the four losses, one picture and one equation at a time, from pictures and raw networks."""
    o, transformer = trainer.objective, trainer.denoiser
    vae, encode = trainer.family.vae(), trainer.family.prompt_encoder()
    rows, captions = list(IMAGES.rows(world / "images.parquet")), CAPTIONS.read(world / "captions.parquet")
    kept = NEGATIVES_KEPT.read(world / "kept.parquet")

    def see(row):
        return to_unit([artifacts.decode_picture(row["image"])])

    def say(prompt):
        return [encode([prompt])[key][0] for key in ("encoder_hidden_states", "pooled_projections")]

    def network(z, sigma, caption):
        hidden, pooled = caption
        return transformer(z, hidden[None], pooled[None], 1000 * sigma.reshape(1)).sample

    def decode(z):
        return (vae.decode(z / 1.5 + 0.06).sample / 2 + 0.5).clamp(0, 1)

    total = dict.fromkeys(("ldm", "m", "p", "c"), 0.0)
    for i, number in enumerate(pictures):
        z0, noise, sigma = batch.z0[i : i + 1], batch.noise[i : i + 1], batch.t[i]
        name, text, null = rows[number]["image_id"], say(rows[number]["caption"]), say("")
        blips = [say(row["caption"]) for row in captions if row["image_id"] == name]
        x_hat = flow.picture(
            network, decode, z0, noise, sigma, text, null, 3.0, o.steps, o.scale, o.record, draws[i]
        )
        boxes, positive = batch.boxes[i], see(rows[number])
        negatives = [see(row) for row in kept if row["image_id"] == name]
        weight = 1.0
        if o.t_weight:
            weight = (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)
        part = {
            "ldm": flow.ldm(network, z0, noise, sigma, text, o.snr_gamma),
            "m": flow.memorisation(network, z0, noise, sigma, text, blips),
            "p": weight * naive.perceptual(trainer.extract, x_hat, positive, boxes),
            "c": weight
            * naive.contrastive(
                trainer.extract, x_hat, positive, negatives, boxes, o.lam, o.margin, hinge=o.hinge
            ),
        }
        total = {name: total[name] + part[name] / len(pictures) for name in total}
    return total


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        ("first", {}),
        ("last", {}),
        ("random", {}),
        ("first", {"snr_gamma": 0.5, "perceptual_t_weight": "alpha_bar"}),
    ],
    ids=["first", "last", "random", "weights by time"],
)
def test_losses_and_one_update_agree_with_the_equations(base, world, record, changes):
    denoising = {"steps": 3, "guidance_scale": 3.0, "record": record}
    config = settings(denoising=denoising, **changes)
    trainer = new_trainer(base, config)
    data, o = data_set(world, config, trainer), trainer.objective
    batch, pictures = data.batch(range(3), True, trainer.device), data.order(0)
    losses = plain_losses(world, trainer, batch, pictures, batch.record_draw)
    weights = {"ldm": o.a, "m": o.b, "p": o.p, "c": o.c}
    loss = sum(weights[name] * value for name, value in losses.items())
    gradient = torch.autograd.grad(loss, trainer.parameters)

    before = [parameter.detach().clone() for parameter in trainer.parameters]
    row = trainer.update(0, data)
    for name, value in losses.items():
        assert value > 0
        assert row[f"loss_{name}"] == pytest.approx(value.item(), rel=1e-5), name
    assert difference([p.grad for p in trainer.parameters], gradient) <= 1e-4

    theirs = [torch.nn.Parameter(value.clone()) for value in before]
    for parameter, value in zip(theirs, gradient, strict=True):
        parameter.grad = value
    torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.01).step()
    moves = [
        [parameter.detach() - value for parameter, value in zip(found, before, strict=True)]
        for found in (trainer.parameters, theirs)
    ]
    assert difference(*moves) <= 1e-2


def difference(ours, theirs) -> float:
    """Relative, over all tensors together."""
    apart = torch.stack([(x - y).norm() for x, y in zip(ours, theirs, strict=True)]).norm()
    size = torch.stack([y.norm() for y in theirs]).norm()
    assert size > 0
    return float(apart / size)


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
