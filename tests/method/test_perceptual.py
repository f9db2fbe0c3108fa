"""The feature extractors behind S: real classes at tiny width, against what their publishers compute."""

import errno
import json
import math
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pipeline_steps.artifacts import IMAGES, NEGATIVES_KEPT, TARGETS, Origin, decode_picture, encode_picture
from pipeline_steps.config import ModelRef, PerceptualConfig, TargetsConfig
from pipeline_steps.errors import UserError
from pipeline_steps.method.perceptual import conv_features, lpips_features, view_distance, view_features
from pipeline_steps.method.pictures import CLIP_MEAN, CLIP_STD, draw_views, to_unit
from pipeline_steps.models import extractors, loading
from pipeline_steps.training.targets import targets
from tests.method.extractors import EXTRACTORS, build_extractor, tiny_blip2, tiny_lpips, tiny_resnet

ORIGIN = Origin("wales", "f" * 64)


@pytest.fixture(params=EXTRACTORS)
def extract(request, tmp_path):
    return build_extractor(request.param, tmp_path)


def pictures(n: int, side: int = 16) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_features_of_a_batch_are_those_of_each_view_alone(extract):
    unit = pictures(2)
    boxes = torch.stack([draw_views(2, torch.Generator().manual_seed(n)) for n in range(2)])
    whole = view_features(extract, unit, boxes)
    for row in range(2):
        for view in range(2):
            alone = view_features(extract, unit[row : row + 1], boxes[row : row + 1, view : view + 1])
            for layer, one in zip(whole, alone, strict=True):
                torch.testing.assert_close(layer[row, view], one[0, 0], rtol=1e-4, atol=1e-5)


def test_the_gradient_reaches_the_picture_and_points_to_the_target(extract):
    target = pictures(2, 32)
    unit = (0.7 * target + 0.3 * target.flip(0)).requires_grad_()
    boxes = torch.tensor([0.0, 0, 1, 1]).expand(2, 1, 4)
    goal = view_features(extract, target, boxes)
    distance = view_distance(view_features(extract, unit, boxes), goal)
    (gradient,) = torch.autograd.grad(distance.sum(), unit)
    stepped = unit.detach() - 1e-3 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    nearer = view_distance(view_features(extract, stepped, boxes), goal)
    assert (nearer < distance).all()
    assert (view_distance(goal, goal) == 0).all()


def test_lpips_is_the_packages():
    network, (a, b) = tiny_lpips(), pictures(2, 64)
    features = lpips_features(network)
    ours = view_distance(features(a[None]), features(b[None]))
    theirs = network(a[None] * 2 - 1, b[None] * 2 - 1)
    torch.testing.assert_close(ours, theirs.flatten(), rtol=1e-4, atol=1e-7)


def test_lpips_has_a_gradient_where_nothing_is_active():
    first = tiny_lpips().lins[0]
    network = SimpleNamespace(net=lambda x: [x], scaling_layer=lambda x: x, lins=[first], L=1)
    unit = torch.rand(1, 64, 4, 4, generator=torch.Generator().manual_seed(0))
    unit[..., 0, 0] = 0.5  # scaled to [-1, 1] it is zero in all channels
    unit.requires_grad_()
    (layer,) = lpips_features(network)(unit)
    active = (layer != 0).any(-1)[0]
    assert active.tolist() == [False] + [True] * 15
    (gradient,) = torch.autograd.grad(layer.square()[..., :9].sum(), unit)
    assert gradient.isfinite().all()
    gradient = gradient.flatten(2)[0].T
    # A vector's length does not change its direction: there is no gradient along it.
    assert ((gradient * (2 * unit.detach() - 1).flatten(2)[0].T).sum(-1).abs() < 1e-5).all()
    assert (gradient[active].norm(dim=-1) > 1e-3).all()


def test_dreamsim_is_one_minus_cosine_of_the_packages_embeddings():
    ref = ModelRef(path="resources/mini/dreamsim")
    extract = extractors.feature_extractor(ref, PerceptualConfig(extractor="dreamsim"))
    embed, side = extractors.dreamsim(ref)
    a, b = pictures(2, side).split(1)
    theirs = 1 - F.cosine_similarity(embed(a), embed(b))
    torch.testing.assert_close(view_distance(extract(a), extract(b)), theirs, rtol=1e-4, atol=1e-6)


def test_clip_is_token_wise_and_counts_blocks_from_one():
    from transformers import CLIPImageProcessor, CLIPVisionModel

    ref = ModelRef(path="resources/mini/clip")
    vision = CLIPVisionModel.from_pretrained(ref.path, dtype=torch.float32).eval()
    processor = CLIPImageProcessor.from_pretrained(ref.path)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (processor.image_mean, processor.image_std))
    a, b = pictures(2, 64).split(1)
    states = [
        vision((x - mean) / std, output_hidden_states=True).hidden_states[2] for x in (a, b)
    ]  # 0 is the embedding, so this is block 2
    extract = extractors.feature_extractor(ref, PerceptualConfig(extractor="clip", layers=(2,)))
    theirs = (1 - F.cosine_similarity(*states, dim=-1)).mean(-1)
    torch.testing.assert_close(view_distance(extract(a), extract(b)), theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("layer", "stage"), [(1, 1), (3, 3), (-1, 4), (-4, 1)])
def test_clip_conv_is_the_mean_squared_error_of_a_stage(layer, stage):
    trunk, (a, b) = tiny_resnet(), pictures(2, 32).split(1)
    extract = conv_features(trunk, (layer,), 32)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))

    def activation(x):
        x = trunk.stem((x - mean) / std)
        for number in range(1, stage + 1):
            x = getattr(trunk, f"layer{number}")(x)
        return x

    theirs = F.mse_loss(activation(a), activation(b))
    torch.testing.assert_close(view_distance(extract(a), extract(b))[0], theirs, rtol=1e-4, atol=0)


def test_clip_conv_is_read_from_open_clips_folder(tmp_path, monkeypatch):
    import open_clip
    from safetensors.torch import save_file

    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None, "head_width": 16}
    text = {"context_length": 77, "vocab_size": 16, "width": 8, "heads": 2, "layers": 1}
    config = {"embed_dim": 8, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "tiny-RN.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-RN.json")
    monkeypatch.setattr(extractors, "CLIP_CONV", "tiny-RN")
    own = open_clip.create_model("tiny-RN").eval()
    save_file(own.state_dict(), tmp_path / "open_clip_model.safetensors")
    settings = PerceptualConfig(extractor="clip_conv", layers=(2,))
    found = extractors.feature_extractor(ModelRef(path=str(tmp_path)), settings)
    unit = pictures(2, 32)
    with torch.no_grad():
        for one, other in zip(found(unit), conv_features(own.visual, (2,), 32)(unit), strict=True):
            torch.testing.assert_close(one, other)


def test_blip_is_the_captioners_own_vision_tower(tmp_path):
    """Its weights are named otherwise than the tower's alone, and what is not found is drawn at random."""
    from transformers import AutoModelForImageTextToText

    for name, path in (("blip", "resources/mini/captioner"), ("blip2", tiny_blip2(tmp_path).path)):
        whole = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval()
        tower, *_ = extractors._vision_tower(ModelRef(path=path), name)
        pixels = torch.rand(1, 3, *[tower.config.image_size] * 2)
        own = getattr(whole, "vision_model", None) or whole.model.vision_model
        assert torch.equal(tower(pixels).last_hidden_state, own(pixels).last_hidden_state)


def test_a_model_of_another_kind_is_refused(tmp_path):
    from transformers import CLIPVisionModel

    with pytest.raises(UserError, match=r"models.clip: 'resources/mini/dino' lacks .* another kind of model"):
        loading.load_network(CLIPVisionModel, ModelRef(path="resources/mini/dino"), "clip")


@pytest.mark.parametrize("layer", [0, 9, -9])
@pytest.mark.parametrize(("extractor", "kind"), [("clip", "blocks"), ("clip_conv", "stages")])
def test_a_layer_the_network_does_not_have_is_named(extractor, kind, layer):
    with pytest.raises(UserError, match=rf"train.perceptual.layers: \[{layer}\].* has 4 {kind}"):
        extractors.feature_extractor(
            ModelRef(path="resources/mini/clip"), PerceptualConfig(extractor=extractor, layers=(layer,))
        )


def make_targets(folder, ref, perceptual):
    """Targets of two training pictures, two negatives of the second; return the rows of both tables."""
    random = np.random.default_rng(0)

    def cell():
        return encode_picture(Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)), "x.png")

    empty = dict.fromkeys(IMAGES.schema.names)
    size = {"source_width": 32, "source_height": 32, "crop": [0, 0, 32, 32], "source_sha256": "0"}
    rows = [
        empty | size | {"image_id": f"p{n}", "image": cell(), "caption": "a house", "split": split}
        for n, split in enumerate(["train", "test", "train"])
    ]
    IMAGES.write(folder / "images.parquet", rows, ORIGIN)
    kept = [
        {"image_id": "p2", "index": k, "image": cell(), "prompt": "", "seed": 0, "distance": 1.0}
        for k in (0, 3)
    ]
    NEGATIVES_KEPT.write(folder / "kept.parquet", kept, ORIGIN)
    targets(
        folder / "images.parquet", folder / "kept.parquet", folder / "targets.safetensors", "wales", 7,
        ref, perceptual, TargetsConfig(batch_size=1),
    )  # fmt: skip
    return rows, kept


def test_stored_targets_are_the_features_of_the_flipped_crops(tmp_path):
    """A negative is seen under its positive's views and flips, which is what keeps the pair's pose."""
    perceptual, ref = PerceptualConfig(layers=(1, 4), views=3), ModelRef(path="resources/mini/clip")
    rows, kept = make_targets(tmp_path, ref, perceptual)
    found = TARGETS.read(tmp_path / "targets.safetensors")
    ids = json.loads(TARGETS.metadata(tmp_path / "targets.safetensors")["image_ids"])
    assert ids == ["p0", "p2"]
    assert found["negatives_of"].tolist() == [[-1, -1], [0, 1]]
    assert found["views"][0, 0].tolist() == [0, 0, 1, 1]
    assert not torch.equal(found["views"][0], found["views"][1])
    extract = extractors.feature_extractor(ref, perceptual)
    decoded = {
        name: to_unit([decode_picture(row["image"]) for row in table])
        for name, table in (("positive", [rows[0], rows[2]]), ("negative", kept))
    }
    box = found["views"][1]
    for name, row in (("positive", 1), ("negative", 0), ("negative", 1)):
        for side in (0, 1):
            unit = decoded[name][row : row + 1]
            seen = unit.flip(-1) if side else unit
            for view in range(3):
                left, top, right, bottom = box[view]
                grid = torch.stack(
                    torch.meshgrid(
                        (torch.arange(32) + 0.5) / 16 * (bottom - top) + 2 * top - 1,
                        (torch.arange(32) + 0.5) / 16 * (right - left) + 2 * left - 1,
                        indexing="ij",
                    )[::-1],
                    -1,
                )
                cut = F.grid_sample(seen, grid[None], padding_mode="border", align_corners=False)
                for layer, feature in enumerate(extract(cut)):
                    stored = found[f"{name}.{layer}"][row, side, view]
                    torch.testing.assert_close(stored, feature[0], rtol=1e-3, atol=1e-4)
    assert math.isclose(float(found["positive.0"].square().sum(-1).mean()), 0.5, rel_tol=1e-4)


def test_anothers_negatives_are_seen_as_the_picture_is_that_they_are_compared_with(tmp_path):
    perceptual = PerceptualConfig(layers=(2,), views=3, negatives="another")
    ref = ModelRef(path="resources/mini/clip")
    _, kept = make_targets(tmp_path, ref, perceptual)
    found = TARGETS.read(tmp_path / "targets.safetensors")
    assert found["negatives_of"].tolist() == [[0, 1], [-1, -1]]
    extract = extractors.feature_extractor(ref, perceptual)
    unit = to_unit([decode_picture(kept[0]["image"])])
    (seen,) = view_features(extract, unit, found["views"][:1])  # those of p0; the negatives are p2's
    torch.testing.assert_close(found["negative.0"][0, 0], seen[0])


def test_dino_looks_as_its_scores_do(tmp_path):
    """DINOv2's configuration names 518 pixels, its processor 224."""
    folder = shutil.copytree("resources/mini/dino", tmp_path / "dino")
    config = json.loads((folder / "config.json").read_text())
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    processor |= {"crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 36}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    perceptual = PerceptualConfig(extractor="dino", layers=(1,))
    (seen,) = extractors.feature_extractor(ModelRef(path=str(folder)), perceptual)(pictures(1, 64))
    assert config["image_size"] == 64 and seen.shape[1] == 1 + (32 // config["patch_size"]) ** 2


def test_targets_are_stored_as_the_extractor_computes_and_compared_in_float32(tmp_path):
    found = {}
    for dtype in ("float32", "float16"):
        folder = tmp_path / dtype
        make_targets(folder, ModelRef(path="resources/mini/clip", dtype=dtype), PerceptualConfig(layers=(2,)))
        tensors = TARGETS.read(folder / "targets.safetensors")
        found[dtype] = tensors["positive.0"], tensors["negative.0"]
        assert {x.dtype for x in found[dtype]} == {getattr(torch, dtype)}
    for half, whole in zip(found["float16"], found["float32"], strict=True):
        torch.testing.assert_close(half.float(), whole, rtol=0, atol=5e-3)
        distance = view_distance([whole], [half])
        assert distance.dtype == torch.float32
        assert torch.equal(distance, (whole - half.float()).square().sum(-1).mean(-1))


def test_features_beyond_the_disk_are_refused_before_they_are_computed(tmp_path, monkeypatch):
    def full(descriptor, offset, size):
        assert size == 2 * 2 * 65 * 96 * 2  # pictures, flips, tokens, channels, bytes
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    ref, perceptual = ModelRef(path="resources/mini/clip", dtype="bfloat16"), PerceptualConfig(layers=(1, 2))
    with pytest.raises(UserError, match=r"targets.safetensors: .* twice 5e-05 GB of disk \(No space left"):
        make_targets(tmp_path, ref, perceptual)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".parquet"]
