"""Pictures of several shapes: cut once, and carried through depth, negatives, cache and training."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_steps import artifacts
from pipeline_steps.artifacts import DEPTH, IMAGES, LORA, NEGATIVES, TARGETS, TRAIN_CACHE
from pipeline_steps.config import (
    CacheConfig,
    CaptionConfig,
    DataConfig,
    DepthConfig,
    FilterConfig,
    Models,
    NegativesConfig,
    TargetsConfig,
    TrainConfig,
    WatchConfig,
)
from pipeline_steps.config.checks import load_config
from pipeline_steps.data.ingest import ingest
from pipeline_steps.data.picture_files import buckets, cut
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.features import _same_size
from pipeline_steps.evaluation.reconstruct import reconstruct
from pipeline_steps.models.families import family_of
from pipeline_steps.negatives.caption import caption
from pipeline_steps.negatives.depth import depth
from pipeline_steps.negatives.filter import filter_negatives
from pipeline_steps.negatives.synthesize import synthesize
from pipeline_steps.training.cache import cache
from pipeline_steps.training.dataset import TrainingSet
from pipeline_steps.training.targets import targets
from pipeline_steps.training.train import train

MINI = dict(Models())
SHAPES = [(100, 100), (160, 96), (96, 160), (100, 100), (160, 96), (100, 120)]


def drawn(seed, size):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def test_sizes_have_about_as_many_pixels_and_no_extreme_shape():
    assert buckets(512) == [(384, 640), (448, 576), (512, 512), (576, 448), (640, 384)]
    for side in (64, 256, 512, 768, 1024):
        sizes = buckets(side)
        assert (side, side) in sizes and sizes == sorted((h, w) for w, h in sizes)
        assert all(0.8 * side**2 < w * h <= side**2 and max(w, h) <= 2 * min(w, h) for w, h in sizes)
        assert all(w % 8 == h % 8 == 0 for w, h in sizes)


@pytest.mark.parametrize(
    "width, height, size", [(96, 160, (48, 80)), (160, 96, (80, 48)), (70, 64, (64, 64))]
)
def test_the_nearest_shape_is_cut_from_the_middle(width, height, size):
    picture = drawn(1, (width, height))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    found = cut(buffer.getvalue(), buckets(64), 1)
    left, top, right, bottom = found.crop
    assert found.picture.size == size
    assert (left + right, top + bottom) == (width, height)
    assert abs((right - left) / (bottom - top) - size[0] / size[1]) < 0.03
    assert width in (right - left,) or height in (bottom - top,)
    expected = picture.resize(size, Image.Resampling.LANCZOS, found.crop)
    assert np.array_equal(np.asarray(found.picture), np.asarray(expected))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Six pictures of four shapes through every step up to the training's inputs."""
    root = tmp_path_factory.mktemp("aspect")
    folder = root / "pictures"
    folder.mkdir()
    rows = []
    for number, size in enumerate([*SHAPES, (96, 160)]):
        name, split = f"{number}.png", "train" if number < len(SHAPES) else "test"
        drawn(number, size).save(folder / name)
        rows.append(json.dumps({"file_name": name, "text": f"gate {number}, in wales", "split": split}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    names = ("images", "captions", "depth", "negatives", "negatives_kept", "distances")
    path = {name: root / f"{name}.parquet" for name in names}
    path |= {name: root / f"{name}.safetensors" for name in ("train_cache", "targets")}
    data = DataConfig(resolution=64, aspect="buckets")
    ingest(folder, path["images"], "wales", ", in wales", 1, data)
    about = CaptionConfig(captions_per_image=1, max_new_tokens=4, batch_size=4)
    caption(path["images"], path["captions"], "wales", 1, MINI["captioner"], about)
    depth(path["images"], path["depth"], "wales", MINI["depth"], DepthConfig(batch_size=4))
    drawing = NegativesConfig(per_positive=1, steps=1, batch_size=4)
    synthesize(
        path["captions"], path["depth"], path["negatives"], "wales", ", in wales", 1,
        MINI["base"], MINI["controlnet"], drawing,
    )  # fmt: skip
    filter_negatives(
        path["images"], path["negatives"], path["negatives_kept"], path["distances"], "wales",
        MINI["dreamsim"], FilterConfig(min_distance=0),
    )  # fmt: skip
    cache(
        path["images"],
        path["captions"],
        path["train_cache"],
        "wales",
        MINI["base"],
        CacheConfig(batch_size=4),
    )
    look = TrainConfig().perceptual
    targets(
        path["images"],
        path["negatives_kept"],
        path["targets"],
        "wales",
        1,
        MINI["clip"],
        look,
        TargetsConfig(),
    )
    return path


def test_one_crop_is_shared_by_picture_depth_and_negative(world):
    size = {row["image_id"]: artifacts.picture_size(row["image"]) for row in IMAGES.rows(world["images"])}
    assert [size[str(number)] for number in range(6)] == [
        *((64, 64), (80, 48), (48, 80)),
        *((64, 64), (80, 48), (56, 72)),
    ]
    for table, name in ((DEPTH, "depth"), (NEGATIVES, "negatives")):
        found = {row["image_id"]: artifacts.picture_size(row["image"]) for row in table.rows(world[name])}
        assert found == {key: size[key] for key in found} and len(found) == 6


def test_cached_latents_are_those_of_the_picture_alone(world):
    from pipeline_steps.method.pictures import to_unit

    stored = TRAIN_CACHE.read(world["train_cache"])
    vae = family_of(MINI["base"]).vae()
    for number, row in enumerate(IMAGES.rows(world["images"])):
        if row["split"] == "train":
            with torch.inference_mode():
                unit = to_unit([artifacts.decode_picture(row["image"])])
                alone = vae.encode(unit * 2 - 1).latent_dist.mean[0] * vae.config.scaling_factor
            h, w = stored["latents_size"][number].tolist()
            assert (h, w) == alone.shape[1:]
            assert torch.allclose(stored["latents_mean"][number, 0, :, :h, :w], alone, atol=1e-4)
            assert not stored["latents_mean"][number, 0, :, h:].any()
    assert TARGETS.read(world["targets"])["positive.0"].shape[0] == 6


def test_training_takes_one_picture_at_a_time(world, tmp_path):
    config = TrainConfig(batch_size=1, accumulation=3, updates=2, perceptual_every=1)
    lora = tmp_path / "lora.safetensors"
    train(
        world["train_cache"], lora, tmp_path / "log.parquet", "wales", "scoft_mpc", 1, MINI["base"], config,
        targets=world["targets"], extractor=MINI["clip"],
        watch=WatchConfig(sample_every=1, sample_pictures=2),
    )  # fmt: skip
    assert all(torch.isfinite(tensor).all() for tensor in LORA.read(lora).values())
    noise_process = family_of(MINI["base"]).noise_process()
    pictures = TrainingSet(world["train_cache"], None, "wales", 1, TrainConfig(batch_size=2), noise_process)
    shapes = {tuple(pictures.batch([n], torch.device("cpu")).z0.shape[2:]) for n in range(6)}
    assert len(shapes) == 4
    with pytest.raises(UserError, match=r"one at a time; set train\.batch_size to 1"):
        pictures.batch(range(6), torch.device("cpu"))
    assert 1 <= len(pictures.alike(6)) <= 2


def test_scores_see_the_central_square(world):
    rows = list(_same_size(IMAGES.rows(world["images"]), IMAGES, world["images"]))
    assert {row["rgb"].shape for row in rows} == {(64, 64, 3)}


def test_pictures_of_every_shape_are_reconstructed(world, tmp_path):
    reconstruct(world["images"], tmp_path / "r.parquet", "wales", MINI["base"], CacheConfig(batch_size=4))
    sizes = [
        [artifacts.picture_size(row["image"]) for row in IMAGES.rows(path)]
        for path in (world["images"], tmp_path / "r.parquet")
    ]
    assert sizes[0] == sizes[1] and len(set(sizes[0])) == 4
    seen = _same_size(IMAGES.rows(tmp_path / "r.parquet"), IMAGES, tmp_path / "r.parquet")
    assert {row["rgb"].shape for row in seen} == {(64, 64, 3)}


def test_settings_that_do_not_go_together_are_named():
    raw = {
        "cultures": {"wales": {"suffix": ", in Wales", "images": "resources/mini/ccub/korea"}},
        "data": {"aspect": "buckets"},
        "train": {"batch_size": 4, "perceptual": {"extractor": "lpips", "model": {"path": "resources"}}},
    }
    with pytest.raises(UserError, match=r"train\.batch_size: .* train\.perceptual\.extractor: lpips needs"):
        load_config(raw)
