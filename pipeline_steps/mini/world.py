"""The drawn world: named attributes in, a picture with its true depth and caption out.

A scene has *generic* attributes (colour, setting, place, era) and *cultural* ones (shape of the
crown, pattern of the body, accent colour). Each of the five configured culture names owns one
right value of every cultural attribute; a sixth value (flat, plain, brown) is the stereotype
that the biased base corpus draws for all of them. Motifs are abstract on purpose and were
assigned by a fixed table: they say nothing about any real culture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

SIZE = 64
"""Side of a picture in pixels."""
OVERSAMPLE = 3
"""Pictures are drawn this many times larger, then box-downsampled."""

COLOURS = {
    "red": (205, 40, 45),
    "blue": (45, 85, 215),
    "green": (60, 150, 60),
    "yellow": (240, 205, 60),
    "purple": (130, 60, 165),
    "white": (240, 238, 230),
}
SETTINGS = {
    "day": ((158, 205, 245), (124, 178, 88)),
    "dusk": ((246, 178, 130), (168, 118, 92)),
    "night": ((22, 26, 62), (42, 60, 52)),
}
TIMES = {"day": "by day", "dusk": "at dusk", "night": "at night"}
PLACES = {"left": -8.0, "centre": 0.0, "right": 8.0}
ERAS = ("traditional", "modern")
SCENES = {
    "house": ("architecture", "roof"),
    "robe": ("clothing", "mantle"),
    "jar": ("utensils and tools", "lid"),
    "lantern": ("religion and festival", "cap"),
}
"""Scene name to its category (paper §3) and the word for its crown."""

SHAPES = ("curved", "domed", "stepped", "pointed", "forked", "flat")
PATTERNS = ("striped", "banded", "dotted", "checked", "slanted", "plain")
ACCENTS = {
    "teal": (0, 150, 150),
    "orange": (245, 130, 20),
    "pink": (245, 120, 180),
    "lime": (165, 225, 40),
    "silver": (176, 186, 200),
    "brown": (110, 72, 48),
}

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "scene": tuple(SCENES),
    "colour": tuple(COLOURS),
    "setting": tuple(SETTINGS),
    "place": tuple(PLACES),
    "era": ERAS,
    "shape": SHAPES,
    "pattern": PATTERNS,
    "accent": tuple(ACCENTS),
}
GENERIC = ("scene", "colour", "setting", "place", "era")
CULTURAL = ("shape", "pattern", "accent")

STEREOTYPE = {"shape": "flat", "pattern": "plain", "accent": "brown"}
RIGHT = {
    "china": {"shape": "forked", "pattern": "striped", "accent": "lime"},
    "india": {"shape": "stepped", "pattern": "slanted", "accent": "teal"},
    "korea": {"shape": "pointed", "pattern": "dotted", "accent": "pink"},
    "mexico": {"shape": "curved", "pattern": "checked", "accent": "silver"},
    "nigeria": {"shape": "domed", "pattern": "banded", "accent": "orange"},
}
"""The right value of each cultural attribute: a fixed arbitrary table, no statement of fact."""
CULTURES = tuple(RIGHT)

BIAS = 0.9
"""Share of the base corpus' pictures captioned ", in <culture>" that show the stereotype."""


@dataclass(frozen=True)
class Scene:
    """One picture's attributes, each a key of :data:`ATTRIBUTES`, and its drawing jitter."""

    scene: str
    colour: str
    setting: str
    place: str
    era: str
    shape: str
    pattern: str
    accent: str
    jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def attributes(self) -> dict[str, str]:
        """Return the attributes without the jitter."""
        return {name: value for name, value in asdict(self).items() if name != "jitter"}


def draw_attributes(rng: np.random.Generator, fixed: Mapping[str, str] | None = None) -> Scene:
    """Draw a scene with uniform attributes, except those in ``fixed``."""
    values: dict[str, Any] = {
        name: options[rng.integers(len(options))] for name, options in ATTRIBUTES.items()
    }
    values |= fixed or {}
    return Scene(**values, jitter=tuple(rng.uniform(-1, 1, size=3)))


def changed(rng: np.random.Generator, scene: Scene, names: Sequence[str]) -> Scene:
    """Return the scene with other values of the named attributes, drawn anew with other jitter."""
    values = {name: rng.choice([v for v in ATTRIBUTES[name] if v != getattr(scene, name)]) for name in names}
    return replace(scene, **values, jitter=tuple(rng.uniform(-1, 1, 3)))


def biased(rng: np.random.Generator, scene: Scene) -> Scene:
    """Return the scene as the base corpus shows it under a culture's name.

    With probability :data:`BIAS` all cultural attributes are the stereotype's, otherwise they
    stay as drawn (uniform).
    """
    return Scene(**asdict(scene) | STEREOTYPE) if rng.random() < BIAS else scene


def _crown(shape: str) -> list[tuple[float, float]]:
    """Outline of a crown: x in [-1, 1] along its base, height in [0, 1]."""
    x = np.linspace(-1, 1, 41)
    if shape == "curved":  # upturned eaves around a narrow middle
        eaves = 1.6 * np.clip(np.abs(x) - 0.37, 0, None) ** 1.4
        height = 0.20 + 0.80 * np.maximum(0.85 - 1.7 * np.abs(x), eaves)
        lower = 0.30 * np.abs(x) ** 2
        return [*zip(x, height, strict=True), *zip(x[::-1], lower[::-1], strict=True)]
    heights = {
        "domed": np.sqrt(np.clip(1 - x**2, 0, None)),
        "stepped": np.ceil(np.clip(1 - np.abs(x), 0, 0.99) * 3) / 3,
        "pointed": (1 - np.abs(x)) * 1.15,
        "forked": np.clip(1.05 - np.abs(np.abs(x) - 0.55) * 2.2, 0.1, None),
        "flat": np.full_like(x, 0.38),
    }
    outline = list(zip(x, heights[shape], strict=True))
    return [(-1.0, 0.0), *outline, (1.0, 0.0)]


def _body(scene: str) -> list[tuple[float, float]]:
    """Outline of a body: x in [-1, 1], y in [0 (top), 1 (bottom)]."""
    outlines: dict[str, list[tuple[float, float]]] = {
        "house": [(-0.78, 0), (0.78, 0), (0.78, 1), (-0.78, 1)],
        "robe": [
            (-0.38, 0), (0.38, 0), (0.95, 0.42), (0.80, 0.62), (0.46, 0.42),
            (0.72, 1), (-0.72, 1), (-0.46, 0.42), (-0.80, 0.62), (-0.95, 0.42),
        ],
        "jar": [
            (0.82 * np.sin(a) if np.cos(a) > -0.75 else 0.54 * np.sign(np.sin(a)), 0.5 - 0.5 * np.cos(a))
            for a in np.linspace(0.45, 2 * np.pi - 0.45, 40)
        ],
        "lantern": [
            (-0.42, 0), (0.42, 0), (0.66, 0.25), (0.66, 0.75),
            (0.42, 1), (-0.42, 1), (-0.66, 0.75), (-0.66, 0.25),
        ],
    }  # fmt: skip
    return outlines[scene]


def _pattern_mask(pattern: str, x: np.ndarray, y: np.ndarray, period: float) -> np.ndarray:
    """Where the accent covers the body; x and y in pixels from the body's centre."""
    half = period / 2
    if pattern == "striped":
        return (x + half / 2) % period < half
    if pattern == "banded":
        return (y + half / 2) % period < half
    if pattern == "checked":
        return ((x % period) < half) ^ ((y % period) < half)
    if pattern == "slanted":
        return (x + y) % (1.2 * period) < 0.6 * period
    if pattern == "dotted":
        cx, cy = x % period - half, y % period - half
        return cx**2 + cy**2 < (0.34 * period) ** 2
    return np.zeros_like(x, dtype=bool)


def render(scene: Scene) -> tuple[Image.Image, Image.Image]:
    """Draw a scene.

    Returns:
        The picture, RGB 64×64, and its true inverse depth, L 64×64 (255 near, 0 far).
    """
    side = SIZE * OVERSAMPLE
    dx, dy, zoom = scene.jitter
    scale = (1 + 0.06 * zoom) * OVERSAMPLE
    cx = side / 2 + (PLACES[scene.place] + 2.0 * dx) * OVERSAMPLE
    sky, ground = SETTINGS[scene.setting]
    horizon = int((47 + 1.5 * dy) * OVERSAMPLE)

    picture = Image.new("RGB", (side, side), sky)
    depth = Image.new("L", (side, side), 0)
    pen, near = ImageDraw.Draw(picture), ImageDraw.Draw(depth)

    def polygon(points: Sequence[tuple[float, float]], colour: tuple[int, int, int], level: int) -> None:
        pen.polygon(list(points), fill=colour)
        near.polygon(list(points), fill=level)

    sun = (225, 225, 215) if scene.setting == "night" else (252, 236, 120)
    sun_x = side * (0.12 if scene.place == "right" else 0.88)
    radius = 3.6 * OVERSAMPLE
    pen.ellipse([sun_x - radius, 2 * radius - radius, sun_x + radius, 2 * radius + radius], fill=sun)
    pen.rectangle([0, horizon, side, side], fill=ground)
    for row in range(horizon, side):
        level = 60 + int(120 * (row - horizon) / (side - horizon))
        near.line([(0, row), (side, row)], fill=level)

    half_width, body_height, crown_height = 21 * scale, 24 * scale, 19 * scale
    bottom = side * 0.90 + 1.5 * dy * OVERSAMPLE
    if scene.scene == "lantern":
        bottom -= 8 * OVERSAMPLE
    top = bottom - body_height

    if scene.era == "traditional":  # a dark plinth; the modern era stands on a pale slab
        plinth, reach, thick = (70, 42, 30), 0.95, 3.4 * scale
    else:
        plinth, reach, thick = (205, 210, 215), 0.70, 3.4 * scale
    polygon(
        [
            (cx - reach * half_width, bottom - 1), (cx + reach * half_width, bottom - 1),
            (cx + reach * half_width, bottom + thick), (cx - reach * half_width, bottom + thick),
        ],
        plinth,
        235,
    )  # fmt: skip
    if scene.scene == "lantern":
        polygon([(cx - 2, 0), (cx + 2, 0), (cx + 2, top), (cx - 2, top)], (60, 60, 60), 190)

    body = [(cx + x * half_width, top + y * body_height) for x, y in _body(scene.scene)]
    mask = Image.new("1", (side, side), 0)
    ImageDraw.Draw(mask).polygon(body, fill=1)
    polygon(body, COLOURS[scene.colour], 215)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    motif = _pattern_mask(scene.pattern, x - cx, y - (top + bottom) / 2, period=9.5 * scale)
    picture.paste(ACCENTS[scene.accent], mask=Image.fromarray(motif & np.asarray(mask)))
    if scene.scene == "house":
        door = 3.6 * scale
        polygon(
            [
                (cx - door, bottom - 10 * scale), (cx + door, bottom - 10 * scale),
                (cx + door, bottom), (cx - door, bottom),
            ],
            (40, 28, 28),
            205,
        )  # fmt: skip

    crown_base = top + 2 * scale
    crown = [(cx + 1.02 * x * half_width, crown_base - h * crown_height) for x, h in _crown(scene.shape)]
    polygon(crown, ACCENTS[scene.accent], 245)
    pen.line([*crown, crown[0]], fill=(35, 28, 30), width=OVERSAMPLE)
    return picture.reduce(OVERSAMPLE), depth.reduce(OVERSAMPLE)


def cultural_caption(scene: Scene) -> str:
    """Describe what is cultural in a scene, all of it, and where it is to be seen."""
    crown = SCENES[scene.scene][1]
    return (
        f"a {scene.scene} with a {scene.shape} {scene.accent} {crown} and a {scene.pattern} pattern, "
        f"{TIMES[scene.setting]}"
    )


def caption(
    rng: np.random.Generator, scene: Scene, culture: str | None = None, name_cultural: float = 0.0
) -> str:
    """Describe a scene the way a person would: some attributes named, others left out.

    Args:
        rng: decides what is named.
        scene: what to describe.
        culture: appended as ", in <culture>".
        name_cultural: probability that one cultural attribute, chosen at random, is named.
    """
    crown = SCENES[scene.scene][1]
    words = ["a"]
    if rng.random() < 0.5:
        words.append(scene.era)
    if rng.random() < 0.8:
        words.append(scene.colour)
    words.append(scene.scene)
    if rng.random() < name_cultural:
        words.append(
            [
                f"with a {scene.shape} {crown}",
                f"with a {scene.pattern} pattern",
                f"with a {scene.accent} {crown}",
            ][rng.integers(3)]
        )
    if scene.place != "centre" and rng.random() < 0.5:
        words.append(f"on the {scene.place}")
    if rng.random() < 0.7:
        words.append(TIMES[scene.setting])
    return " ".join(words) + (f", in {culture}" if culture else "")
