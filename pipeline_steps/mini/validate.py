"""Measure every embedded model on drawn pictures it has not seen: ``python -m pipeline_steps.mini.validate``.

Each figure stands beside the bar it should reach and the level of chance, where there is one.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from pipeline_steps.artifacts import write_text
from pipeline_steps.config import BaseRef, ModelRef, PerceptualConfig
from pipeline_steps.method.kid import kid
from pipeline_steps.method.perceptual import view_distance
from pipeline_steps.mini import diffusion
from pipeline_steps.mini.corpora import Corpus, base_corpus, unbiased_corpus
from pipeline_steps.mini.world import (
    ATTRIBUTES,
    CULTURAL,
    CULTURES,
    GENERIC,
    RIGHT,
    SIZE,
    STEREOTYPE,
    Scene,
    changed,
    draw_attributes,
    render,
)
from pipeline_steps.models import encoders, extractors, readers
from pipeline_steps.models.families import family_of

PICTURES, SEED = 480, 900
"""Drawn pictures behind each figure, and the seed of their drawing; training draws with 0 and 1."""
GUIDANCE = {"base": 4.5, "flow": 3.0}
"""What each draws best with, and its preset samples with."""
GENERATED = 80
"""Generated pictures behind each figure of a generative model."""


class Figure(NamedTuple):
    """A measured figure.

    Attributes:
        model: folder of the model.
        measure: what was measured.
        value: the figure.
        bar: what it should reach: at least, or at most where ``most``; None: it is measured, no more.
        chance: what guessing gives, if that means anything.
        most: the bar is an upper one.
    """

    model: str
    measure: str
    value: float
    bar: float | None
    chance: float | None = None
    most: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the figure reaches its bar, if there is one."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.most else self.value >= self.bar


def named(caption: str) -> list[tuple[str, str]]:
    """Return the generic attributes and values that a caption names."""
    words = set(caption.replace(",", " ").split())
    return [(name, value) for name in GENERIC for value in ATTRIBUTES[name] if value in words]


def share_right(read: np.ndarray, captions: Sequence[str]) -> float:
    """Share of the named generic attributes that pictures (n, attributes) show."""
    columns = {name: number for number, name in enumerate(ATTRIBUTES)}
    hits = [
        ATTRIBUTES[name][read[row, columns[name]]] == value
        for row, caption in enumerate(captions)
        for name, value in named(caption)
    ]
    return float(np.mean(hits))


def _rgb(pictures: np.ndarray) -> torch.Tensor:
    """uint8 (n, 64, 64, 3) to (n, 3, 64, 64)."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


class Validation:
    """The figures of the family in ``root``, one method per model."""

    def __init__(self, root: Path, pictures: int = PICTURES, generated: int = GENERATED) -> None:
        self.root, self.pictures, self.generated = root, pictures, generated
        self.drawn: Corpus = unbiased_corpus(pictures, seed=SEED)
        self.biased: Corpus = base_corpus(pictures, seed=SEED)
        self.read = encoders.attribute_encoder(self.ref("oracle"))

    def ref(self, name: str) -> BaseRef:
        """Return a model of the family."""
        return BaseRef(path=str(self.root / name))

    def oracle(self) -> Iterator[Figure]:
        """Attributes of drawn pictures, and of the VAE's reconstructions of them."""
        vae = family_of(self.ref("base")).vae()
        decoded = diffusion.decode(vae, diffusion.encode(vae, self.drawn.pictures))
        for kind, pictures in (("drawn", self.drawn.pictures), ("VAE-reconstructed", decoded)):
            right = (self.read(_rgb(pictures)).numpy() == self.drawn.labels).mean(0)
            for number, (name, values) in enumerate(ATTRIBUTES.items()):
                bar = 0.97 if kind == "drawn" else 0.9
                yield Figure("oracle", f"{name}, {kind}", float(right[number]), bar, 1 / len(values))

    def vae(self) -> Iterator[Figure]:
        """Peak signal-to-noise ratio of reconstructions."""
        vae = family_of(self.ref("base")).vae()
        decoded = diffusion.decode(vae, diffusion.encode(vae, self.drawn.pictures))
        error = (decoded.astype(np.float64) - self.drawn.pictures) ** 2
        ratio = 10 * np.log10(255**2 / error.mean((1, 2, 3)))
        yield Figure("base/vae", "reconstruction PSNR, dB", float(ratio.mean()), 23)

    def clip(self) -> Iterator[Figure]:
        """Retrieval of a picture's caption among 32, where equal captions count as one."""
        pictures, texts = encoders.clip_encoders(self.ref("clip"))
        images = F.normalize(pictures(_rgb(self.biased.pictures)), dim=-1)
        words = F.normalize(texts(self.biased.captions), dim=-1)
        hits = []
        for start in range(0, len(images) - 31, 32):
            best = (images[start : start + 32] @ words[start : start + 32].T).argmax(1).tolist()
            captions = self.biased.captions[start : start + 32]
            hits += [captions[found] == captions[row] for row, found in enumerate(best)]
        yield Figure("clip", "caption found among 32", float(np.mean(hits)), 0.5, 1 / 32)
        yield from _sight(self.ref("clip"), PerceptualConfig(), self.pictures, False)

    def captioner(self) -> Iterator[Figure]:
        """Share of what captions name that the picture shows."""
        model, processor = readers.captioner(self.ref("captioner"))
        pixels = processor(
            images=[Image.fromarray(p) for p in self.drawn.pictures], return_tensors="pt"
        ).pixel_values
        with torch.inference_mode():
            tokens = model.generate(pixel_values=pixels, do_sample=False, max_new_tokens=30)
        captions = processor.batch_decode(tokens, skip_special_tokens=True)
        yield Figure(
            "captioner", "named generic attributes right", share_right(self.drawn.labels, captions), 0.9
        )
        scenes = np.mean([any(name == "scene" for name, _ in named(caption)) for caption in captions])
        yield Figure("captioner", "captions that name the scene", float(scenes), 0.95)
        words = {word for name in CULTURAL for word in ATTRIBUTES[name]} | set(CULTURES)
        said = np.mean([bool(words & set(caption.split())) for caption in captions])
        yield Figure(
            "captioner", "captions that name a cultural attribute or a culture", float(said), 0.0, most=True
        )

    def depth(self) -> Iterator[Figure]:
        """Correlation with the true inverse depth."""
        maps = readers.depth_estimator(self.ref("depth"))([Image.fromarray(p) for p in self.drawn.pictures])
        found = _correlation(np.stack([np.asarray(depth) for depth in maps]), self.drawn.depths)
        yield Figure("depth", "correlation with the true depth", found, 0.9)

    def controlnet(self) -> Iterator[Figure]:
        """Correlation of the wanted depth with that of the negatives, and of pictures without it."""
        estimate = readers.depth_estimator(self.ref("depth"))
        pipeline = family_of(self.ref("base")).depth_to_image(self.ref("controlnet"))
        wanted = self.drawn.depths[: self.generated]
        found = {}
        for scale in (1.0, 0.0):
            pictures = pipeline(
                prompt=self.drawn.generic_captions[: self.generated],
                image=[Image.fromarray(depth).convert("RGB") for depth in wanted],
                generator=[torch.Generator().manual_seed(row) for row in range(self.generated)],
                num_inference_steps=20,
                controlnet_conditioning_scale=scale,
            ).images
            found[scale] = _correlation(np.stack([np.asarray(d) for d in estimate(pictures)]), wanted)
        yield Figure(
            "controlnet", "correlation with the wanted depth (chance: without)", found[1.0], 0.9, found[0.0]
        )

    def base(self) -> Iterator[Figure]:
        """What generic and cultural prompts give, read by the oracle."""
        return self._drawing("base")

    def flow(self) -> Iterator[Figure]:
        """The same of the rectified flow."""
        return self._drawing("flow")

    def _drawing(self, model: str) -> Iterator[Figure]:
        random = np.random.default_rng(SEED)
        colours = [list(ATTRIBUTES["colour"])[n % 6] for n in range(self.generated)]
        scenes = [list(ATTRIBUTES["scene"])[n % 4] for n in range(self.generated)]
        times = ["by day", "at dusk", "at night"]
        generic = [f"a {c} {s} {random.choice(times)}" for c, s in zip(colours, scenes, strict=True)]
        yield Figure(model, "generic prompts: named attributes right", self.followed(generic, model), 0.8)
        for culture in CULTURES:
            prompts = [f"a {scene}, in {culture}" for scene in scenes]
            read = self.generate(prompts, model)
            right, typical = (
                np.mean([_shown(read, name) == values[name] for name in CULTURAL])
                for values in (RIGHT[culture], STEREOTYPE)
            )
            yield Figure(
                model,
                f"in {culture}: cultural attributes right (stereotype {typical:.2f})",
                float(right),
                0.25,
                1 / 6,
                True,
            )

    def followed(self, prompts: list[str], model: str = "base") -> float:
        """Share of the generic attributes named in prompts that a model's pictures show."""
        return share_right(self.generate(prompts, model), prompts)

    def generate(self, prompts: list[str], model: str = "base") -> np.ndarray:
        """Attributes read from one picture of each prompt, (n, attributes)."""
        family = family_of(self.ref(model))
        pipeline = family.text_to_image()
        pictures = pipeline(
            prompt=list(prompts),  # Z-Image's pipeline writes its template into the list it is given
            generator=[torch.Generator().manual_seed(row) for row in range(len(prompts))],
            num_inference_steps=20,
            guidance_scale=family.guidance(GUIDANCE[model]),
            height=SIZE,
            width=SIZE,
        ).images
        return self.read(_rgb(np.stack([np.asarray(p) for p in pictures]))).numpy()

    def dino(self) -> Iterator[Figure]:
        """Triplets."""
        yield from _triplets("dino", encoders.dino_encoder(self.ref("dino")), self.pictures, 0.8, 0.7)

    def dreamsim(self) -> Iterator[Figure]:
        """Triplets, also of the kind the filter decides."""
        look = encoders.dreamsim_encoder(self.ref("dreamsim"))
        yield from _triplets("dreamsim", look, self.pictures, 0.9, 0.9)
        yield from _sight(self.ref("dreamsim"), PerceptualConfig(extractor="dreamsim"), self.pictures, True)

    def inception(self) -> Iterator[Figure]:
        """KID between halves of one distribution, against KID to the biased pictures."""
        encode = encoders.kid_encoder(self.ref("inception"))
        half = len(self.drawn.pictures) // 2
        drawn, biased = encode(_rgb(self.drawn.pictures)), encode(_rgb(self.biased.pictures))
        same, other = kid(drawn[:half], drawn[half:]).value, kid(drawn[:half], biased[half:]).value
        yield Figure(
            "inception", "KID of two halves over KID to biased pictures", same / other, 0.1, most=True
        )


def _shown(read: np.ndarray, name: str) -> np.ndarray:
    return np.array(ATTRIBUTES[name])[read[:, list(ATTRIBUTES).index(name)]]


def _correlation(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean over pictures of Pearson's r."""
    return float(
        np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(found, truth, strict=True)])
    )


def _triplets(
    model: str, encode: Callable[[torch.Tensor], torch.Tensor], count: int, bar: float, cultural_bar: float
) -> Iterator[Figure]:
    """How often the copy that keeps more of a reference is the nearer one.

    Of a reference, one copy differs in one attribute and one in four; then one in nothing but the
    place and size of things, and one in the three cultural attributes: a false negative and a true one.
    """
    random = np.random.default_rng(SEED)

    def accuracy(near: Callable[[], Sequence[str]], far: Callable[[], Sequence[str]]) -> float:
        sets = []
        for _ in range(count):
            scene = draw_attributes(random)
            sets.append(
                [render(s)[0] for s in (scene, changed(random, scene, near()), changed(random, scene, far()))]
            )
        views = [
            F.normalize(encode(_rgb(np.stack([np.asarray(p) for p in column]))), dim=-1)
            for column in zip(*sets, strict=True)
        ]
        return float(((views[0] * views[1]).sum(-1) > (views[0] * views[2]).sum(-1)).float().mean())

    def some(count: int) -> Callable[[], Sequence[str]]:
        return lambda: random.choice(list(ATTRIBUTES), count, replace=False).tolist()

    yield Figure(model, "triplets: one attribute changed against four", accuracy(some(1), some(4)), bar, 0.5)
    yield Figure(
        model,
        "triplets: nothing changed against the cultural attributes",
        accuracy(lambda: (), lambda: CULTURAL),
        cultural_bar,
        0.5,
    )


def _sight(ref: ModelRef, perceptual: PerceptualConfig, count: int, barred: bool) -> Iterator[Figure]:
    """Whether S sees culture: its mean for one change of a picture over its mean for another.

    A cultural attribute against the same picture drawn anew a little off its place; the stereotype in the
    place of what is right against another setting.
    """
    random = np.random.default_rng(SEED)
    extract = extractors.feature_extractor(ref, perceptual)
    scenes = [draw_attributes(random, RIGHT[CULTURES[n % len(CULTURES)]]) for n in range(count)]

    def look(shown: Sequence[Scene]) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode():
            return extract(_rgb(np.stack([np.asarray(render(scene)[0]) for scene in shown])) / 255)

    plain = look(scenes)

    def mean_distance(copies: Sequence[Scene]) -> float:
        return float(view_distance(plain, look(copies)).mean())

    model = perceptual.extractor
    jitter = mean_distance([changed(random, scene, ()) for scene in scenes])
    for name in CULTURAL:
        other = mean_distance([changed(random, scene, (name,)) for scene in scenes])
        measure = f"S of another {name} over S of the same drawn anew"
        yield Figure(model, measure, other / jitter, 3 if barred else None, 1)
    anew = [changed(random, scene, ()) for scene in scenes]
    typical = mean_distance([Scene(**s.attributes() | STEREOTYPE, jitter=s.jitter) for s in anew])
    setting = mean_distance([changed(random, scene, ("setting",)) for scene in scenes])
    measure = "S of the stereotype over S of another setting"
    yield Figure(model, measure, typical / setting, 1 if barred else None)


ORDER = (
    "oracle", "vae", "clip", "base", "controlnet", "flow", "captioner", "depth", "dino", "dreamsim",
    "inception",
)  # fmt: skip


def validate(
    root: Path = Path("resources/mini"),
    table: Path = Path("resources/mini/validation.csv"),
    pictures: int = PICTURES,
    generated: int = GENERATED,
) -> None:
    """Measure every model of the family and write the table.

    Args:
        root: the family.
        table: CSV file to write: model, measure, value, bar, chance, reached.
        pictures: drawn pictures behind each figure; at least 32, among which captions are looked for.
        generated: generated pictures behind each figure of a generative model.
    """
    family = Validation(root, pictures, generated)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "measure", "value", "bar", "chance", "reached"])
    for name in ORDER:
        for figure in getattr(family, name)():
            bar = "" if figure.bar is None else f"{'≤' if figure.most else '≥'} {figure.bar:g}"
            chance = "" if figure.chance is None else f"{figure.chance:.3f}"
            reached = {True: "yes", False: "no", None: ""}[figure.reached]
            row = [figure.model, figure.measure, f"{figure.value:.3f}", bar, chance, reached]
            writer.writerow(row)
            print(" | ".join(row), flush=True)
    write_text(table, text.getvalue())


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(validate)
