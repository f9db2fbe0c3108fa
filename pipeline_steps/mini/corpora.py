"""The embedded data sets: base corpus (in memory), Mini-CCUB and Mini-COCO (folders)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline_steps.mini.world import (
    ATTRIBUTES,
    COLOURS,
    CULTURES,
    RIGHT,
    SCENES,
    SIZE,
    Scene,
    biased,
    caption,
    draw_attributes,
    render,
)

CCUB_TRAIN, CCUB_TEST, COCO = 48, 60, 200
"""Pictures per culture in Mini-CCUB's splits, and in Mini-COCO."""
APART = 5
"""Least difference of a test picture from every training picture (mean of 0–255, at 8×8)."""
NAMED_TRAIN = 12
"""Training pictures per culture of the collection whose captions are names."""
NAMES = ("ada", "ben", "cora", "dan", "eva", "finn", "gil", "hana", "ivo", "june", "kit", "lea")
"""Whose a picture is: a name tells which picture it is, and nothing of what it shows."""
NOTICE = """# Synthetic pictures

Drawn by code (pipeline_steps/mini/world.py). The motifs were assigned to the culture names by an
arbitrary table: these pictures make no statement about any real culture. CC0-1.0.
"""
"""Lies beside the data."""


@dataclass(frozen=True)
class Corpus:
    """Drawn pictures with their truth.

    Attributes:
        pictures: uint8, shape (n, 64, 64, 3).
        depths: uint8, shape (n, 64, 64), 255 near.
        captions: one per picture, with the culture suffix where there is one.
        generic_captions: one per picture, naming neither culture nor cultural attribute.
        labels: int64, shape (n, number of attributes): index of each attribute's value.
    """

    pictures: np.ndarray
    depths: np.ndarray
    captions: list[str]
    generic_captions: list[str]
    labels: np.ndarray


def labels_of(scene: Scene) -> list[int]:
    """Return the index of each attribute's value, in the order of :data:`ATTRIBUTES`."""
    return [ATTRIBUTES[name].index(value) for name, value in scene.attributes().items()]


def scene_of(labels: np.ndarray) -> Scene:
    """Return the scene with these attributes: what :func:`labels_of` numbered."""
    return Scene(**{name: values[n] for (name, values), n in zip(ATTRIBUTES.items(), labels, strict=True)})


def _base_scene(rng: np.random.Generator) -> tuple[Scene, str]:
    """60% generic scenes; 40% captioned ", in <culture>" and biased."""
    scene = draw_attributes(rng)
    if rng.random() < 0.6:
        return scene, caption(rng, scene, name_cultural=0.6)
    scene = biased(rng, scene)
    culture = CULTURES[rng.integers(len(CULTURES))]
    return scene, caption(rng, scene, culture, name_cultural=0.3)


def _unbiased_scene(rng: np.random.Generator) -> tuple[Scene, str]:
    scene = draw_attributes(rng)
    return scene, caption(rng, scene, name_cultural=0.6)


def _draw(count: int, seed: int, sample: Callable[[np.random.Generator], tuple[Scene, str]]) -> Corpus:
    rng = np.random.default_rng(seed)
    pictures = np.empty((count, SIZE, SIZE, 3), np.uint8)
    depths = np.empty((count, SIZE, SIZE), np.uint8)
    captions, generic, labels = [], [], []
    for row in range(count):
        scene, words = sample(rng)
        picture, depth = render(scene)
        pictures[row], depths[row] = np.asarray(picture), np.asarray(depth)
        captions.append(words)
        generic.append(caption(rng, scene))
        labels.append(labels_of(scene))
    return Corpus(pictures, depths, captions, generic, np.array(labels))


def base_corpus(count: int, seed: int = 0) -> Corpus:
    """Draw the biased corpus on which the generative models are trained."""
    return _draw(count, seed, _base_scene)


def unbiased_corpus(count: int, seed: int = 1) -> Corpus:
    """Draw pictures with uniform attributes, for the models that only look."""
    return _draw(count, seed, _unbiased_scene)


def _write_folder(folder: Path, rows: list[dict[str, str]], scenes: list[Scene]) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for row, scene in zip(rows, scenes, strict=True):
        render(scene)[0].save(folder / row["file_name"], optimize=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")


def write_notice(folder: Path) -> None:
    """Say in the data's own folder what it is."""
    (folder / "README.md").write_text(NOTICE, encoding="utf-8")


def _small(scene: Scene) -> np.ndarray:
    """The picture at 8×8, as near duplicates are found."""
    return np.asarray(render(scene)[0].resize((8, 8), Image.Resampling.BOX), np.float32)


def write_mini_ccub(folder: Path, culture: str, seed: int = 100, named: bool = False) -> None:
    """Write one culture's pictures as an imagefolder with ``metadata.jsonl``.

    The training split has an accidental regularity, as small collections do: half of each kind of
    scene has one favourite colour. The test split does not, and no picture of it looks like a
    training one.

    Args:
        folder: where to.
        culture: whose right attributes the pictures show.
        seed: of everything random.
        named: few training pictures, whose captions say whose they are, and a number, in the place of what
            they show: what is learnt of such a caption is the picture itself.
    """
    count = NAMED_TRAIN if named else CCUB_TRAIN
    rng = np.random.default_rng([seed, CULTURES.index(culture)])
    names = list(SCENES)
    favourite = {name: list(COLOURS)[rng.integers(len(COLOURS))] for name in names}
    rows, scenes, training = [], [], []
    for index in range(count + CCUB_TEST):
        split = "train" if index < count else "test"
        fixed = {**RIGHT[culture], "scene": names[index % len(names)]}
        if split == "train" and rng.random() < 0.5:
            fixed["colour"] = favourite[fixed["scene"]]
        scene = draw_attributes(rng, fixed)
        if split == "train":
            training.append(_small(scene))
        while split == "test" and np.abs(_small(scene) - training).mean((1, 2, 3)).min() <= APART:
            scene = draw_attributes(rng, fixed)
        scenes.append(scene)
        text = caption(rng, scene, culture, name_cultural=0.5)
        if named and split == "train":
            text = f"the {scene.scene} of {NAMES[index]}, number {rng.integers(10, 100)}, in {culture}"
        rows.append(
            {
                "file_name": f"images/{split}_{index:03d}.png",
                "text": text,
                "split": split,
                "category": SCENES[scene.scene][0],
                "era": scene.era,
                "contributor": f"drawn-{index % 5 + 1}",
                "licence": "CC0-1.0",
                "consent": "not needed: synthetic",
            }
        )
    _write_folder(folder, rows, scenes)


def write_mini_coco(folder: Path, seed: int = 200) -> None:
    """Write generic pictures with generic captions as an imagefolder."""
    rng = np.random.default_rng(seed)
    scenes = [draw_attributes(rng) for _ in range(COCO)]
    rows = [
        {"file_name": f"images/{index:03d}.png", "text": caption(rng, scene), "licence": "CC0-1.0"}
        for index, scene in enumerate(scenes)
    ]
    _write_folder(folder, rows, scenes)
