"""Scores of hand-made features against plain numpy; and the feature step with the embedded networks."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_steps.artifacts import FEATURES, IMAGES, SAMPLES, SCORES, Origin, encode_picture, seen_size
from pipeline_steps.config import DataConfig, FeaturesConfig, ModelRef, ScoreConfig
from pipeline_steps.data.coco import coco
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.features import _same_size, features
from pipeline_steps.evaluation.measures import alone, pictures, same_networks
from pipeline_steps.evaluation.merge_scores import merge_scores
from pipeline_steps.evaluation.score import score
from pipeline_steps.evaluation.train_prompts import train_prompts
from pipeline_steps.inputs.text import read_prompts
from pipeline_steps.mini.world import ATTRIBUTES, CULTURAL, RIGHT, STEREOTYPE
from pipeline_steps.report.contact_sheet import contact_sheet
from pipeline_steps.report.kid_power import kid_power

MINI = Path("resources/mini")
KOREA = Origin("korea", "f" * 64)
NETWORKS = {
    name: {"path": name, "sha256": "ab" * 32}
    for name in ("inception", "clip", "dino", "dreamsim", "attributes")
}


def picture(seed, side=64):
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    return encode_picture(Image.fromarray(pixels), f"{seed}.png")


def images(path, captions, tests=4):
    """Write as many training pictures as captions, and some test pictures."""
    about = dict.fromkeys(IMAGES.schema.names) | {"crop": [0, 0, 9, 9], "source_width": 9, "source_height": 9}
    texts = [*captions, *(f"test {number}" for number in range(tests))]
    rows = [
        about
        | {
            "image_id": f"{number:03d}",
            "image": picture(number),
            "caption": text,
            "split": "train" if number < len(captions) else "test",
            "source_sha256": "0",
        }
        for number, text in enumerate(texts)
    ]
    IMAGES.write(path, rows, KOREA)
    return len(rows)


def samples(path, prompts, per_prompt, cell=picture, origin=KOREA):
    rows = [
        {"prompt_id": f"{p:04d}", "index": i, "prompt": text, "seed": i, "image": cell(100 * p + i)}
        for p, text in enumerate(prompts)
        for i in range(per_prompt)
    ]
    SAMPLES.write(path, rows, origin)
    return len(rows)


def seen(count, seed, attributes=None, blank=()):
    """Draw features as the networks might give them."""
    random = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(count, 6, generator=random) + 0.5
        for name in ("inception", "clip", "dino", "dreamsim", "text")
    }
    tensors["blank"] = torch.tensor([number in blank for number in range(count)])
    if attributes is not None:
        numbers = [[ATTRIBUTES[name].index(row[name]) for name in ATTRIBUTES] for row in attributes]
        tensors["attributes"] = torch.tensor(numbers)
    return tensors


def scored(folder, prompts, per_prompt, captions, networks=NETWORKS, tests=4, **changes):
    """Write everything, score it, and return rows by metric with the features."""
    n = samples(folder / "samples.parquet", prompts, per_prompt)
    m = images(folder / "images.parquet", captions, tests)
    x, y = seen(n, 0, **changes), seen(m, 1)
    FEATURES.write(folder / "x.safetensors", x, KOREA, {"networks": json.dumps(NETWORKS)})
    FEATURES.write(folder / "y.safetensors", y, KOREA, {"networks": json.dumps(networks)})
    files = [
        folder / name for name in ("samples.parquet", "x.safetensors", "images.parquet", "y.safetensors")
    ]
    score(*files, folder / "scores.parquet", "sd", ScoreConfig(neighbours=2))
    rows = {row["metric"]: row for row in SCORES.rows(folder / "scores.parquet")}
    return rows, {k: v.double().numpy() for k, v in x.items()}, {k: v.double().numpy() for k, v in y.items()}


def mmd(x, y, kernel):
    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    n, m = len(x), len(y)
    return (xx.sum() - np.trace(xx)) / (n * n - n) + (yy.sum() - np.trace(yy)) / (m * m - m) - 2 * xy.mean()


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_every_score_by_plain_numpy(tmp_path):
    prompts, captions = ["a jar", "a robe, in korea", "a  house"], ["a jar", "a house", "a jar", "other"]
    rows, x, y = scored(tmp_path, prompts, 4, captions)
    test = slice(4, None)

    def cubic(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    assert rows["kid"]["value"] == pytest.approx(mmd(x["inception"], y["inception"][test], cubic), abs=1e-6)
    k, n = cubic(x["inception"], x["inception"]), 12
    other = np.repeat(range(3), 4)[:, None] != np.repeat(range(3), 4)
    within = (k.sum() - np.trace(k)) / (n * n - n)
    assert rows["kid_between"]["value"] == pytest.approx(rows["kid"]["value"] - within + k[other].mean())
    gauss = mmd(unit(x["clip"]), unit(y["clip"][test]), lambda a, b: np.exp((a @ b.T - 1) / 100))
    assert rows["cmmd"]["value"] == pytest.approx(gauss, abs=1e-9)
    cosines = (unit(x["clip"]) * unit(x["text"])).sum(1)
    assert rows["clip_score"]["value"] == pytest.approx(2.5 * np.maximum(cosines, 0).mean())

    dream = unit(x["dreamsim"]) @ unit(x["dreamsim"]).T
    div = [1 - np.mean([dream[4 * p + i, 4 * p + j] for i in range(4) for j in range(i)]) for p in range(3)]
    assert rows["div"]["value"] == pytest.approx(np.mean(div))
    values = np.linalg.eigvalsh(dream / 12)
    values = values[values > 1e-12]
    assert rows["vendi"]["value"] == pytest.approx(np.exp(-(values * np.log(values)).sum()))

    to_train = unit(x["dreamsim"]) @ unit(y["dreamsim"][:4]).T
    assert rows["nearest_train"]["value"] == pytest.approx(to_train.max(1).mean())
    # Pictures of "a jar" against both training pictures of that caption, of "a house" against its one.
    for metric, network in (("clip_i", "clip"), ("dino", "dino"), ("dreamsim", "dreamsim")):
        table = unit(x[network]) @ unit(y[network][:4]).T
        own = [*table[:4][:, [0, 2]].mean(1), *table[8:, 1]]
        assert rows[metric]["value"] == pytest.approx(np.mean(own))
        assert (rows[metric]["generated"], rows[metric]["reference"]) == (8, 3)

    real = y["inception"][test]
    among = np.sort(np.linalg.norm(real[:, None] - real[None], axis=2), axis=1)[:, 2]
    inside = np.linalg.norm(x["inception"][:, None] - real[None], axis=2) < among
    assert rows["density"]["value"] == pytest.approx(inside.sum(1).mean() / 2)
    assert rows["coverage"]["value"] == pytest.approx(inside.any(0).mean())


def test_every_row_says_what_it_was_measured_with(tmp_path):
    rows, _, _ = scored(tmp_path, ["p", "q", "r"], 2, ["c"])
    for metric, row in rows.items():
        assert row["generated"] == 6 and row["unit"] and row["interval"]
        assert row["weights_sha256"] == "ab" * 32 and row["extractor"] in NETWORKS
        assert np.isfinite(row["value"])
        if not row["interval"].startswith("none"):
            assert row["low"] <= row["value"] <= row["high"], metric
    for metric, words in (
        ("kid", "raised by pairs of one prompt"),
        ("cmmd", "raised by pairs of one prompt"),
        ("kid_between", "pairs of different prompts only"),
        ("kid_subsets", "no 95% interval"),
        ("clip_score", "nearer 90% where they are skewed"),
    ):
        assert words in rows[metric]["interval"], metric
    assert 0 <= rows["coverage"]["low"] < rows["coverage"]["high"] <= 1
    assert rows["kid"]["reference"] == 4 and rows["nearest_train"]["reference"] == 1


def test_attributes_of_the_drawn_world(tmp_path):
    plain = {name: values[0] for name, values in ATTRIBUTES.items()}
    right, wrong = plain | RIGHT["korea"], plain | STEREOTYPE
    mixed = wrong | {CULTURAL[0]: RIGHT["korea"][CULTURAL[0]]}
    rows, _, _ = scored(
        tmp_path, ["a red house, in korea", "a thing"], 2, ["c"], attributes=[right, wrong, mixed, right]
    )
    value = {metric: row["value"] for metric, row in rows.items()}
    assert value["attribute_accuracy"] == pytest.approx((1 + 0 + 1 / 3 + 1) / 4)
    assert value["attribute_accuracy_all"] == 0.5
    assert value[f"attribute_accuracy_{CULTURAL[0]}"] == 0.75
    assert value["stereotype"] == pytest.approx((0 + 1 + 2 / 3 + 0) / 4)
    # Only the first prompt names something: colour red and scene house, the first value of each.
    assert value["generic_accuracy"] == 1.0 and rows["generic_accuracy"]["generated"] == 2


def test_blank_pictures_are_left_out_and_counted(tmp_path):
    rows, x, _ = scored(tmp_path, ["p", "q"], 3, ["c"], blank=(1, 4))
    assert rows["kid"]["generated"] == 4
    assert SCORES.note(tmp_path / "scores.parquet")["blank"] == 2
    keep = [0, 2, 3, 5]
    cosines = (unit(x["clip"][keep]) * unit(x["text"][keep])).sum(1)
    assert rows["clip_score"]["value"] == pytest.approx(2.5 * np.maximum(cosines, 0).mean())


def test_too_few_pictures_are_refused_or_named(tmp_path, caplog):
    with pytest.raises(UserError, match=r"samples.parquet: 1 pictures to score"):
        scored(tmp_path / "a", ["p"], 2, ["c"], blank=(0,))
    with pytest.raises(UserError, match=r"images.parquet: 1 pictures to score"):
        scored(tmp_path / "b", ["p"], 2, ["c"], tests=1)
    rows, _, _ = scored(tmp_path / "c", ["p"], 2, [], tests=2)
    assert "kid_subsets" not in rows and "density" not in rows and "kid" in rows
    assert "kid_between left out: a single prompt" in caplog.text
    assert "kid_subsets left out" in caplog.text and "density and coverage left out" in caplog.text


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    other = NETWORKS | {"clip": {"path": "clip", "sha256": "cd" * 32}}
    with pytest.raises(UserError, match="different networks"):
        scored(tmp_path, ["p"], 3, ["c"], networks=other)
    samples(tmp_path / "samples.parquet", ["p"], 9)
    files = [
        tmp_path / name for name in ("samples.parquet", "x.safetensors", "images.parquet", "x.safetensors")
    ]
    with pytest.raises(UserError, match="3 rows for 9 pictures"):
        score(*files, tmp_path / "scores.parquet", "sd", ScoreConfig())


def test_pictures_of_unlike_sizes_are_not_compared(tmp_path):
    scored(tmp_path, ["p"], 3, ["c"])
    names = ("samples.parquet", "x.safetensors", "images.parquet", "y.safetensors")
    files = [tmp_path / name for name in names]
    samples(files[0], ["p"], 3, lambda seed: picture(seed, 48))
    with pytest.raises(UserError, match=r"samples\.parquet: 48×48 pixels, but .* are 64×64; delete "):
        score(*files, tmp_path / "scores.parquet", "sd", ScoreConfig(neighbours=2))


@pytest.mark.parametrize(
    ("size", "note", "seen"), [((64, 48), 56, 56), ((64, 64), 64, 64), ((48, 48), None, 48)]
)
def test_of_pictures_of_several_shapes_the_central_square_is_seen(tmp_path, size, note, seen):
    images(tmp_path / "i.parquet", ["c"], tests=0)
    (row,) = IMAGES.read(tmp_path / "i.parquet")
    row["image"] = encode_picture(Image.effect_noise(size, 50).convert("RGB"), "0.png")
    IMAGES.write(tmp_path / "i.parquet", [row], KOREA, {"resolution": note} if note else {})
    assert seen_size(IMAGES, tmp_path / "i.parquet") == (seen, seen)
    (row,) = _same_size(IMAGES.rows(tmp_path / "i.parquet"), IMAGES, tmp_path / "i.parquet")
    assert row["rgb"].shape == (seen, seen, 3)


def test_prompts_are_training_captions_each_once(tmp_path):
    images(tmp_path / "images.parquet", ["a jar", "a\njar", "a robe", "# not a prompt", "a house"])
    train_prompts(tmp_path / "images.parquet", tmp_path / "p.txt", "korea", 10, seed=1)
    assert read_prompts(tmp_path / "p.txt") == ["a house", "a jar", "a robe"]
    train_prompts(tmp_path / "images.parquet", tmp_path / "two.txt", "korea", 2, seed=1)
    assert len(read_prompts(tmp_path / "two.txt")) == 2


@pytest.mark.parametrize("layout", ["ms-coco", "metadata"])
def test_coco_in_both_layouts(tmp_path, layout):
    folder = tmp_path / "coco"
    for number in range(4):
        (folder / "val2017").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (40 + number, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"val2017/{number}.jpg")
    if layout == "ms-coco":
        (folder / "annotations").mkdir()
        notes = [
            {"id": 10 * n + k, "image_id": n, "caption": f" cap\n{n} {k}"} for n in range(4) for k in (1, 0)
        ]
        listing = {"images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(4)], "annotations": notes}
        (folder / "annotations/captions_val2017.json").write_text(json.dumps(listing))
    else:
        captions = [(n, k) for n in range(4) for k in (0, 1)]
        lines = [json.dumps({"file_name": f"val2017/{n}.jpg", "text": f"cap {n} {k}"}) for n, k in captions]
        (folder / "metadata.jsonl").write_text("\n".join(lines))
    coco(folder, tmp_path / "images.parquet", tmp_path / "p.txt", 3, 1, DataConfig(resolution=32))
    rows = IMAGES.read(tmp_path / "images.parquet")
    assert len(rows) == 3 and {row["split"] for row in rows} == {"test"}
    for row in rows:
        assert row["caption"] == f"cap {Path(row['image_id']).stem} 0"
    assert read_prompts(tmp_path / "p.txt") == [row["caption"] for row in rows]
    (folder / rows[0]["image_id"]).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"\.jpg: "):
        coco(folder, tmp_path / "images.parquet", tmp_path / "p.txt", 3, 1, DataConfig(resolution=32))


def test_power_is_one_where_models_lie_far_apart(tmp_path):
    count = images(tmp_path / "images.parquet", ["c"], tests=30)
    samples(tmp_path / "samples.parquet", list("abcdefgh"), 5)
    near, far = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.full((40, 1), 3.0)
    blank = torch.zeros(40, dtype=torch.bool)
    paths = [tmp_path / "sd.safetensors", tmp_path / "ldm.safetensors"]
    for path, tensor in zip(paths, (near + far, near), strict=True):
        FEATURES.write(path, {"inception": tensor, "blank": blank}, KOREA)
    real = torch.randn(count, 4, generator=torch.Generator().manual_seed(2))
    FEATURES.write(tmp_path / "real.safetensors", {"inception": real}, KOREA)

    def powered():
        files = (tmp_path / "images.parquet", tmp_path / "real.safetensors")
        made = tmp_path / "p.svg", tmp_path / "p.csv"
        kid_power(tmp_path / "samples.parquet", paths, *files, *made, "korea", 1)
        return list(csv.DictReader((tmp_path / "p.csv").open()))

    *shares, whole = powered()
    assert [(row["pictures"], row["share"]) for row in shares] == [(n, "1.0000") for n in ("5", "10", "20")]
    assert (whole["first"], whole["second"], whole["pictures"]) == ("sd", "ldm", "40")
    assert 0 < float(whole["low"]) < float(whole["difference_x1000"]) < float(whole["high"])
    assert "Stable Diffusion − Fine-tuning" in (tmp_path / "p.svg").read_text()

    blank[::3] = True  # a picture that is blank in one variant is left out of both
    FEATURES.write(paths[0], {"inception": near + far, "blank": blank}, KOREA)
    *shares, whole = powered()
    assert [row["pictures"] for row in shares] == ["5", "10"] and whole["pictures"] == "26"
    FEATURES.write(paths[0], {"inception": near[:9], "blank": blank[:9]}, KOREA)
    with pytest.raises(UserError, match="unlike numbers"):
        powered()


def test_contact_sheet_shows_the_training_picture_first_and_scores_above(tmp_path):
    images(tmp_path / "images.parquet", ["a jar", "a robe"])
    row = dict.fromkeys(SCORES.schema.names, "") | {"metric": "div", "value": 0.5, "generated": 9}
    for variant in ("ldm", "scoft_m"):
        samples(tmp_path / f"{variant}.parquet", ["a jar", "a robe", "a house"], 3)
        scores = tmp_path / f"scores/{variant}.parquet"
        SCORES.write(scores, [row | {"variant": variant, "low": 0.4, "high": 0.6, "reference": None}], KOREA)
    names = ("scoft_m.parquet", "ldm.parquet")
    paths, scores = [tmp_path / name for name in names], [tmp_path / "scores" / name for name in names]
    sheet = tmp_path / "sheet.png"
    contact_sheet(
        paths, scores, "div", sheet, prompts=2, per_prompt=2, side=64, images=tmp_path / "images.parquet"
    )
    drawn = Image.open(sheet)
    assert drawn.size == (64 + 2 * 128 + 4 * 8, 36 + 2 * (64 + 18 + 8))
    training = Image.open(io.BytesIO(picture(0)["bytes"]))
    assert np.array_equal(np.asarray(drawn.crop((8, 54, 72, 118))), np.asarray(training))
    assert np.asarray(drawn.crop((80, 18, 208, 34))).min() < 128  # the score's line is not empty


def test_merged_scores_keep_the_count_of_blank_pictures(tmp_path):
    row = dict.fromkeys(SCORES.schema.names, "") | {"metric": "kid", "value": 0.5, "generated": 9}
    row |= {"low": None, "high": None, "reference": None}
    parts = [tmp_path / "scoft_m.parquet", tmp_path / "ldm.parquet"]
    for number, path in enumerate(parts):
        SCORES.write(path, [row | {"variant": path.stem}], KOREA, {"blank": number})
    merge_scores(parts, tmp_path / "scores.parquet")
    assert [row["variant"] for row in SCORES.rows(tmp_path / "scores.parquet")] == ["ldm", "scoft_m"]
    assert SCORES.note(tmp_path / "scores.parquet")["blank"] == {"scoft_m": 0, "ldm": 1}


@pytest.fixture(scope="module")
def networks():
    names = ("clip", "inception", "dino", "dreamsim", "oracle")
    return {name: ModelRef(path=str(MINI / name)) for name in names}


def test_features_do_not_depend_on_the_batch_and_agree_with_torch_fidelity(tmp_path, networks):
    from torch_fidelity import calculate_metrics, register_feature_extractor

    from pipeline_steps.method.kid import kid
    from pipeline_steps.models.kid_network import EmbeddedExtractor

    n = samples(tmp_path / "s.parquet", ["a jar", "a red house"], 4)
    images(tmp_path / "i.parquet", [], tests=n)
    for size in (3, 8):
        features(
            tmp_path / "s.parquet",
            tmp_path / f"{size}.st",
            "samples",
            **networks,
            config=FeaturesConfig(batch_size=size),
        )
    features(
        tmp_path / "i.parquet", tmp_path / "i.st", "images", **networks, config=FeaturesConfig(batch_size=8)
    )
    features(
        tmp_path / "s.parquet",
        tmp_path / "prefixed.st",
        "samples",
        **networks,
        config=FeaturesConfig(prompt_prefix="A photo depicts "),
    )
    names = ("8", "3", "i", "prefixed")
    ours, again, real, prefixed = (FEATURES.read(tmp_path / f"{name}.st") for name in names)
    from pipeline_steps.models.encoders import clip_encoders

    expected = clip_encoders(networks["clip"])[1](["A photo depicts a red house"])
    torch.testing.assert_close(prefixed["text"][-1], expected[0], rtol=1e-4, atol=1e-4)
    assert torch.equal(prefixed["clip"], ours["clip"]) and not torch.equal(prefixed["text"], ours["text"])
    for name, tensor in ours.items():
        assert len(tensor) == n
        torch.testing.assert_close(tensor, again[name], rtol=1e-4, atol=1e-4)
    assert ours["attributes"].shape == (n, len(ATTRIBUTES)) and not ours["blank"].any()
    notes = json.loads(FEATURES.metadata(tmp_path / "8.st")["networks"])
    assert all(len(note["sha256"]) == 64 for note in notes.values())
    told = same_networks(tmp_path / "prefixed.st")
    generated = pictures(tmp_path / "prefixed.st", ["a red house"] * n, [str(i % 2) for i in range(n)])
    (fit,) = (score for score in alone(generated, told) if score.metric == "clip_score")
    assert fit.unit == "2.5·max(cos, 0), prompts behind 'A photo depicts'"
    with pytest.raises(UserError, match="seen by different networks"):
        same_networks(tmp_path / "prefixed.st", tmp_path / "8.st")

    class Pictures(torch.utils.data.Dataset):
        def __init__(self, table, path):
            self.cells = [row["image"]["bytes"] for row in table.rows(path)]

        def __len__(self):
            return len(self.cells)

        def __getitem__(self, number):
            picture = Image.open(io.BytesIO(self.cells[number])).convert("RGB")
            return torch.from_numpy(np.array(picture)).permute(2, 0, 1)

    register_feature_extractor("embedded", EmbeddedExtractor)
    theirs = calculate_metrics(
        input1=Pictures(SAMPLES, tmp_path / "s.parquet"), input2=Pictures(IMAGES, tmp_path / "i.parquet"),
        kid=True, feature_extractor="embedded", feature_extractor_weights_path=str(MINI / "inception"),
        cuda=False, verbose=False, save_cpu_ram=True, kid_subsets=1, kid_subset_size=n, cache=False,
    )  # fmt: skip
    found = kid(ours["inception"], real["inception"]).value
    # torch-fidelity reckons in float32 here; on the same float64 features see test_kid.
    assert found == pytest.approx(theirs["kernel_inception_distance_mean"], rel=2e-5, abs=1e-6)


def test_blank_mixed_and_unreadable_pictures(tmp_path, networks):
    def cell(seed):
        if seed == 1:
            return encode_picture(Image.new("RGB", (64, 64)), "black.png")
        return picture(seed)

    samples(tmp_path / "s.parquet", ["p"], 3, cell)
    features(
        tmp_path / "s.parquet", tmp_path / "s.st", "samples", **networks, config=FeaturesConfig(batch_size=8)
    )
    assert FEATURES.read(tmp_path / "s.st")["blank"].tolist() == [False, True, False]
    samples(tmp_path / "m.parquet", ["p"], 3, lambda seed: picture(seed, 64 + 8 * (seed == 2)))
    with pytest.raises(
        UserError, match="prompt_id=0000, index=2: 72×72 pixels, but the first picture has 64×64"
    ):
        features(
            tmp_path / "m.parquet",
            tmp_path / "m.st",
            "samples",
            **networks,
            config=FeaturesConfig(batch_size=8),
        )
    samples(tmp_path / "u.parquet", ["p"], 2, lambda seed: {"bytes": b"no picture", "path": "x.png"})
    with pytest.raises(UserError, match="not a readable picture"):
        features(
            tmp_path / "u.parquet",
            tmp_path / "u.st",
            "samples",
            **networks,
            config=FeaturesConfig(batch_size=8),
        )


def test_long_prompts_are_cut_with_the_end_token_kept_and_named(tmp_path, networks, caplog):
    from pipeline_steps.models import encoders

    _, texts = encoders.clip_encoders(networks["clip"])
    long = "a red house " * 60
    one, other = texts([long]), texts([long + "and a jar"])
    assert "only the first 77 are read" in caplog.text
    torch.testing.assert_close(one, other)
    assert not torch.allclose(one, texts(["a red house"]))
