"""The held-out loss: of test pictures alone, the same each time, and by the plain equation."""

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS, IMAGES, LORA, TRAIN_CACHE, TRAIN_LOG, Origin
from pipeline_steps.config import BaseRef, CacheConfig, TrainConfig, WatchConfig
from pipeline_steps.errors import UserError
from pipeline_steps.merge_shards import merge_shards
from pipeline_steps.models.families import family_of
from pipeline_steps.seeds import generator
from pipeline_steps.training.cache import cache
from pipeline_steps.training.train import train

BASE = BaseRef(path="resources/mini/base")
ORIGIN = Origin("wales", "f" * 64)
QUIET = {"tensorboard": False}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two training and three test pictures."""
    folder = tmp_path_factory.mktemp("world")
    rows = []
    for number, split in enumerate(("train", "test", "train", "test", "test")):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        about = {"source_width": 64, "source_height": 64, "crop": [0, 0, 64, 64], "split": split}
        cell = artifacts.encode_picture(Image.fromarray(noise), f"{number}.png")
        name = f"picture-{number}"
        about |= {"image_id": name, "caption": f"a red house {number}", "source_sha256": name, "image": cell}
        rows.append(dict.fromkeys(IMAGES.schema.names) | about)
    IMAGES.write(folder / "images.parquet", rows, ORIGIN, {"resolution": 72})
    captions = [{"image_id": f"picture-{n}", "index": 0, "caption": "a house"} for n in (0, 2)]
    CAPTIONS.write(folder / "captions.parquet", captions, ORIGIN)
    (folder / "generic.txt").write_text("a jar\na red house by day\na robe at night\n")
    shards = {"whole": (1, 1), "first": (1, 2), "second": (2, 2)}
    for name, shard in shards.items():
        cache(
            folder / "images.parquet", folder / "captions.parquet", folder / f"{name}.safetensors", "wales",
            BASE, CacheConfig(held_out=2, batch_size=1), shard, folder / "generic.txt",
        )  # fmt: skip
    return folder


def test_the_log_holds_the_loss_of_the_test_pictures_by_the_plain_equation(world, tmp_path):
    config = TrainConfig(updates=5, batch_size=2, learning_rate=1e-12, lora_rank=2)
    train(
        world / "whole.safetensors", tmp_path / "lora.safetensors", tmp_path / "log.parquet", "wales", "ldm",
        3, BASE, config, watch=WatchConfig(validate_every=2, **QUIET),
    )  # fmt: skip
    found = [row["loss_held_out"] for row in TRAIN_LOG.read(tmp_path / "log.parquet")]
    assert [value is not None for value in found] == [False, True, False, True, True]
    assert found[1] == pytest.approx(plain_loss(world, family_of(BASE).denoiser()), rel=1e-4)
    assert found[4] == pytest.approx(found[1], rel=1e-4)  # nothing is learnt at this rate
    assert LORA.metadata(tmp_path / "lora.safetensors")["modelspec.resolution"] == "72x72"


def test_the_loss_is_that_of_the_lora_that_is_saved(world, tmp_path):
    """With a moving average the weights in training are others; looking at them changes nothing."""
    config = TrainConfig(
        updates=4, batch_size=2, learning_rate=0.05, schedule="constant", lora_rank=2, ema_decay=0.9
    )
    for name, every in (("looked", 4), ("not", 0)):
        lora, log = tmp_path / f"{name}.safetensors", tmp_path / f"{name}.parquet"
        watch = WatchConfig(validate_every=every, **QUIET)
        train(world / "whole.safetensors", lora, log, "wales", "ldm", 3, BASE, config, watch=watch)
    assert LORA.read(tmp_path / "looked.safetensors").keys() == LORA.read(tmp_path / "not.safetensors").keys()
    assert (tmp_path / "looked.safetensors").read_bytes() == (tmp_path / "not.safetensors").read_bytes()
    unet = family_of(BASE).denoiser()
    before = plain_loss(world, unet)
    saved = LORA.read(tmp_path / "looked.safetensors")
    unet.load_lora_adapter(saved, prefix="unet")
    found = TRAIN_LOG.read(tmp_path / "looked.parquet")[-1]["loss_held_out"]
    assert found == pytest.approx(plain_loss(world, unet), rel=1e-4)
    assert abs(found - before) > 1e-3 * before


def plain_loss(world, unet):
    """The mean squared error of two test pictures at four times, by the equation."""
    family = family_of(BASE)
    vae, encode = family.vae(), family.prompt_encoder()
    alpha_bars, losses = family.noise_process().alpha_bars, []
    rows = [row for row in IMAGES.rows(world / "images.parquet") if row["split"] == "test"][:2]
    with torch.inference_mode():
        for row in rows:
            pixels = np.array(artifacts.decode_picture(row["image"]))
            unit = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
            z0 = vae.encode(unit * 2 - 1).latent_dist.mean * vae.config.scaling_factor
            text = encode([row["caption"]])["encoder_hidden_states"]
            for index, t in enumerate((124, 374, 624, 874)):
                noise = torch.randn(
                    z0.shape[1:], generator=generator(3, "held_out", "wales", row["image_id"], index)
                )
                z_t = alpha_bars[t].sqrt() * z0 + (1 - alpha_bars[t]).sqrt() * noise
                losses.append(((unet(z_t, t, text).sample - noise) ** 2).mean().item())
    return np.mean(losses)


def test_shards_merge_to_the_same_bytes(world, tmp_path):
    merged = tmp_path / "merged.safetensors"
    merge_shards("train_cache", [world / "first.safetensors", world / "second.safetensors"], merged, "wales")
    assert merged.read_bytes() == (world / "whole.safetensors").read_bytes()
    assert len(TRAIN_CACHE.read(merged)["latents_held_out"]) == 2
    assert len(TRAIN_CACHE.metadata(merged)["generic_captions"]) == 64


def test_generic_captions_are_kept_once_as_the_model_reads_them(world):
    kept = TRAIN_CACHE.read(world / "whole.safetensors")["text_generic.encoder_hidden_states"]
    encode = family_of(BASE).prompt_encoder()
    read = encode(["a jar", "a red house by day", "a robe at night"])["encoder_hidden_states"]
    torch.testing.assert_close(kept, read)


def test_captions_that_are_read_in_part_are_named(world, tmp_path, caplog):
    rows = [
        row | {"caption": "a house " * 60 + "in Wales"} if row["image_id"] == "picture-2" else row
        for row in IMAGES.rows(world / "images.parquet")
    ]
    IMAGES.write(tmp_path / "images.parquet", rows, ORIGIN)
    (tmp_path / "generic.txt").write_text("a jar\n" + "a robe " * 60 + "\n")
    cache(
        tmp_path / "images.parquet", world / "captions.parquet", tmp_path / "c.safetensors", "wales", BASE,
        CacheConfig(), generic_captions=tmp_path / "generic.txt",
    )  # fmt: skip
    said = [line for line in caplog.messages if "only the first 77 are read" in line]
    assert [line[:8] for line in said] == ["'a house", "'a robe "]


def test_without_test_pictures_it_is_refused(world, tmp_path):
    cache(
        world / "images.parquet", world / "captions.parquet", tmp_path / "none.safetensors", "wales", BASE,
        CacheConfig(),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"watch.validate_every: .*none.safetensors keeps no test picture"):
        train(
            tmp_path / "none.safetensors", tmp_path / "lora.safetensors", tmp_path / "log.parquet", "wales",
            "ldm", 3, BASE, TrainConfig(updates=1), watch=WatchConfig(validate_every=1, **QUIET),
        )  # fmt: skip
