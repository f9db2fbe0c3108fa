"""The published models: their configurations and layouts against our loading code.

``resources/published`` holds the configurations with their sources. They are built on the meta device,
which costs no memory, and at tiny width with random weights, which run every stage.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline_steps import artifacts
from pipeline_steps.artifacts import FEATURES, IMAGES, NEGATIVES, SAMPLES, Origin
from pipeline_steps.cache import cache
from pipeline_steps.caption import caption
from pipeline_steps.config import (
    BaseRef,
    CacheConfig,
    CaptionConfig,
    DepthConfig,
    FilterConfig,
    ModelRef,
    NegativesConfig,
    PerceptualConfig,
    SampleConfig,
    TrainConfig,
)
from pipeline_steps.depth import depth
from pipeline_steps.features import features
from pipeline_steps.filter import filter_negatives
from pipeline_steps.sample import sample
from pipeline_steps.synthesize import synthesize
from pipeline_steps.targets import targets
from pipeline_steps.train import train
from tests.tiny_models import FAMILY, KINDS, build

ORIGIN = Origin("wales", "f" * 64)
MINI = {
    name: ModelRef(path=str(FAMILY / name)) for name in ("captioner", "depth", "clip", "dino", "dreamsim")
}
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
    targets(
        culture / "images.parquet", out["kept"], target, "wales", 3, MINI["clip"], PERCEPTUAL, CacheConfig()
    )
    config = TrainConfig(
        updates=2, batch_size=2, perceptual_every=1, lora_rank=2, learning_rate=0.05, tensorboard=False,
        perceptual=PERCEPTUAL, gradient_checkpointing=True, denoising={"steps": 2},
    )  # fmt: skip
    lora = tmp_path / "lora.safetensors"
    train(cached, lora, out["log"], "wales", "scoft_mpc", 3, base, config, target, MINI["clip"])
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
        ModelRef(path=str(FAMILY / "inception")), MINI["dino"], MINI["dreamsim"], 2,
    )  # fmt: skip
    assert len(FEATURES.read(tmp_path / "features.safetensors")["dreamsim"]) == 2
