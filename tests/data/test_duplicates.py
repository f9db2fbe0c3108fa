"""Pictures that are the same, or look the same."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipeline_steps.data.duplicates import NOISE, UNLIKE, same_looking
from pipeline_steps.data.picture_files import buckets, cut
from tests.data.corpus import Corpus, copies, drawn, encoded, run


@pytest.mark.parametrize("name", copies())
def test_near_duplicate_is_named(tmp_path, name):
    folder = tmp_path / "culture"
    folder.mkdir()
    corpus = Corpus(folder)
    corpus.add("good_train.png", encoded(drawn(101, (192, 160))), row=False)
    corpus.add("x_" + name, copies()[name], split="train")
    corpus.write()
    lines = run(folder, tmp_path)[1]
    assert lines == [f"x_{name}: looks the same as good_train.png; keep one of them"]
    assert run(folder, tmp_path, duplicate_difference=0)[1] == []


def test_exact_duplicate_is_named(corpus, tmp_path):
    corpus.add("again.png", encoded(drawn(101)), split="train")
    corpus.write()
    assert run(corpus.folder, tmp_path)[1] == [
        "good_train.png: is the same picture as again.png; keep one of them"
    ]


# --- recall and false alarms ------------------------------------------------------------------

SIZE = (240, 200)


def flat(seed: int) -> Image.Image:
    """Two things on one bright ground."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", SIZE, tuple(int(v) for v in rng.integers(200, 256, 3)))
    for draw in (ImageDraw.Draw(picture).ellipse, ImageDraw.Draw(picture).rectangle):
        w, h = (int(v) for v in rng.integers(15, 80, 2))
        x, y = int(rng.integers(30, SIZE[0] - 30 - w)), int(rng.integers(10, SIZE[1] - 10 - h))
        draw((x, y, x + w, y + h), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return picture


def studio(seed: int) -> Image.Image:
    """One thing in the middle of the same shaded ground."""
    rng = np.random.default_rng(seed)
    shade = np.linspace(120, 230, SIZE[1])[:, None, None] * np.ones((1, SIZE[0], 3))
    picture = Image.fromarray(shade.astype(np.uint8))
    w, h = (int(v) for v in rng.integers(15, 45, 2))
    box = (SIZE[0] // 2 - w, SIZE[1] // 2 - h, SIZE[0] // 2 + w, SIZE[1] // 2 + h)
    ImageDraw.Draw(picture).ellipse(box, fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return picture


def noisy(seed: int) -> Image.Image:
    """A photograph by night."""
    rng = np.random.default_rng(seed)
    broad = np.asarray(drawn(seed, SIZE)).astype(np.float64) / 2 + 64
    return Image.fromarray(np.clip(broad + rng.normal(0, 40, broad.shape), 0, 255).astype(np.uint8))


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8))


def smooth(seed: int) -> Image.Image:
    return drawn(seed, SIZE)


def turned(picture: Image.Image) -> bytes:
    """The same picture stored lying, with a note in EXIF that it has to be turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=92, exif=exif)


COPIES = {
    "JPEG": lambda p: encoded(p, "JPEG", quality=60),
    "poor JPEG": lambda p: encoded(p, "JPEG", quality=30),
    "WebP": lambda p: encoded(p, "WEBP", quality=60),
    "turned by EXIF": turned,
    "half": lambda p: encoded(p.resize((120, 100), Image.Resampling.LANCZOS)),
    "third": lambda p: encoded(p.resize((80, 67), Image.Resampling.BICUBIC), "JPEG", quality=80),
    "brighter": lambda p: encoded(p.point(lambda v: min(255, v + 3))),
    "cropped around": lambda p: encoded(p.crop((2, 2, SIZE[0] - 2, SIZE[1] - 2))),
    "cropped aside": lambda p: encoded(p.crop((3, 0, SIZE[0], SIZE[1] - 1))),
}
EACH = 12


def small(data: bytes, aspect: str) -> np.ndarray:
    return np.asarray(cut(data, buckets(64) if aspect == "buckets" else [(64, 64)], 1).small)


def directly(smalls: list[np.ndarray], difference: float) -> dict[int, int]:
    """Every picture against every earlier leader, one by one."""
    first: dict[int, int] = {}
    for i, one in enumerate(smalls):
        for j in range(i):
            a, b = one.astype(float), smalls[j].astype(float)
            if j in first or np.abs(a - b).mean() > difference:
                continue
            a, b = a - a.mean((0, 1)), b - b.mean((0, 1))
            contrast = max(np.sqrt((a**2).mean()), np.sqrt((b**2).mean()))
            if np.sqrt(((a - b) ** 2).mean()) <= UNLIKE * contrast + NOISE:
                first[i] = j
                break
    return first


@pytest.mark.parametrize("aspect", ["square", "buckets"])
@pytest.mark.parametrize(
    "kind, lost, alarms", [(flat, 0, 0), (studio, 0, 1), (noisy, 0, 0), (smooth, 0, 0), (noise, 36, 0)]
)
def test_copies_are_seen_and_hardly_any_other_picture(kind, lost, alarms, aspect):
    """Of 108 copies none is missed, but of pure noise a third; of 66 pairs of others at most one is taken."""
    pictures = [kind(seed) for seed in range(EACH)]
    originals = [small(encoded(picture), aspect) for picture in pictures]
    missed = [
        (name, seed)
        for name, copy in COPIES.items()
        for seed, picture in enumerate(pictures)
        if same_looking("ab", [originals[seed], small(copy(picture), aspect)], 4.0) != {1: 0}
    ]
    assert len(missed) <= lost, missed
    pairs = [(i, j) for i in range(EACH) for j in range(i)]
    false = [pair for pair in pairs if same_looking("ab", [originals[n] for n in pair], 4.0)]
    assert len(false) <= alarms


def test_looking_only_at_pictures_of_like_quarters_misses_nothing():
    """The way for thousands finds just what comparing all with all does."""
    smalls = [
        small(data, "square")
        for kind in (flat, studio, noisy, noise, smooth)
        for seed in range(6)
        for data in (encoded(kind(seed)), *(copy(kind(seed)) for copy in COPIES.values()))
    ]
    order = np.random.default_rng(0).permutation(len(smalls))
    smalls = [smalls[n] for n in order]
    keys = [str(n) for n in order]
    for difference in (0.5, 4.0, 20.0):
        assert same_looking(keys, smalls, difference) == directly(smalls, difference)
    many = smalls + [np.random.default_rng(n).integers(0, 256, (16, 16, 3), np.uint8) for n in range(3000)]
    assert same_looking(list(map(str, range(len(many)))), many, 4.0) == directly(smalls, 4.0)
