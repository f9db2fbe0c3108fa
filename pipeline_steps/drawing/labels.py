"""The names people read for scores and survey items; those of the variants stand in config/variants.py."""

from collections.abc import Mapping
from typing import Literal, NamedTuple


def many(count: int, what: str) -> str:
    """Return a number with its noun, e.g. "1 picture" and "2 pictures"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def rounds_in_words(rounds: Mapping[str, str], called: Mapping[str, str]) -> str:
    """Say of which cultures an earlier round of the survey is summed up, e.g. "Wales (3f2a91c0)"; "" of none.

    Args:
        rounds: names of the rounds, by culture.
        called: cultures as people write them.
    """
    return ", ".join(f"{called.get(culture, culture)} ({name})" for culture, name in sorted(rounds.items()))


class ItemLabel(NamedTuple):
    """What a survey item is called; participants read the survey's wording instead.

    Attributes:
        panel: above its panel of Fig. 5.
        heading: above its column of Table 1.
    """

    panel: str
    heading: str

    @property
    def column(self) -> str:
        """Its column in the files of Table 1."""
        return self.heading.lower().replace(" ", "_")


SURVEY_ITEMS: dict[str, ItemLabel] = {
    "description": ItemLabel("Description and image alignment", "Best Described"),
    "representation": ItemLabel("Cultural representation", "Most Culturally Representative"),
    "stereotypes": ItemLabel("Stereotypes", "Least Stereotypical"),
    "offensiveness": ItemLabel("Offensiveness", "Least Offensive"),
}
"""What participants rank each page's pictures by (paper §5), in the order of the questions."""


class ScoreLabel(NamedTuple):
    """What a score is called.

    Attributes:
        name: in a table.
        title: over its chart in the report, with unit and direction; none: it is not drawn there.
        better: which way is better; none: neither.
    """

    name: str
    title: str = ""
    better: Literal["higher", "lower", ""] = ""

    @property
    def heading(self) -> str:
        """The name as it begins a title."""
        return self.name[:1].upper() + self.name[1:]


SCORES: dict[str, ScoreLabel] = {
    "attribute_accuracy": ScoreLabel(
        "cultural attributes right", "Right cultural attributes (share; higher is better)", "higher"
    ),
    "attribute_accuracy_shape": ScoreLabel("shape right"),
    "attribute_accuracy_pattern": ScoreLabel("pattern right"),
    "attribute_accuracy_accent": ScoreLabel("accent right"),
    "attribute_accuracy_all": ScoreLabel("all three right"),
    "stereotype": ScoreLabel("stereotype", "Stereotyped attributes (share; lower is better)", "lower"),
    "generic_accuracy": ScoreLabel("prompt followed"),
    "kid": ScoreLabel("KID", "KID to the held-out pictures (MMD²; lower is better)", "lower"),
    "kid_reconstructed": ScoreLabel("KID, VAE-reconstructed reference"),
    "cmmd": ScoreLabel(
        "CMMD", "Distance to the held-out pictures in CLIP's space (MMD²; lower is better)", "lower"
    ),
    "clip_score": ScoreLabel("CLIPScore", "CLIPScore (higher is better)", "higher"),
    "nearest_train": ScoreLabel(
        "likeness to the nearest training picture",
        "Cosine to the nearest training picture (high: learnt by heart)",
    ),
    "div": ScoreLabel("diversity", "DIV, diversity within a prompt (higher is better)", "higher"),
    "kid_between": ScoreLabel("KID between prompts", better="lower"),
    "vendi": ScoreLabel("Vendi score", better="higher"),
    "density": ScoreLabel("density", better="higher"),
    "coverage": ScoreLabel("coverage", better="higher"),
}
"""Scores with a name of their own, in the order of the report's charts."""
