"""The names people read for scores and survey items; those of the variants stand in config/variants.py."""

from typing import Literal, NamedTuple


def many(count: int, what: str) -> str:
    """Return a number with its noun, e.g. "1 picture" and "2 pictures"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


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
}
"""Scores with a name of their own, in the order of the report's charts."""

WORDS: dict[str, str] = {
    "95% interval": "The range that would hold what many such runs show on average in 95 of 100 runs like this one. Where the "
    "ranges of two variants overlap much, these pictures do not tell them apart.",
    "BLIP": "A network that writes a caption for a picture.",
    "CLIPScore": "How well a picture fits its prompt, as the network CLIP sees it. It knows little of cultures and shares the bias of "
    "the pictures it was trained on.",
    "CMMD": "Like KID, through the network CLIP: how far the generated pictures as a whole are from the real ones.",
    "DIV": "How different pictures of one prompt are from one another. A model that draws the same picture again and again has a "
    "low one.",
    "DreamSim": "A network that says how alike two pictures look to people.",
    "KID": "How far the generated pictures as a whole are from real ones that the model has not seen (Kernel Inception Distance). "
    "0 is no difference; it says nothing of any single picture.",
    "Kendall's W": "Whether people prefer the same models: 1 if all order them alike, by chance about 1 divided by the number of people.",
    "Krippendorff's α": "Whether people rank the same pictures alike: 1 is full agreement, 0 is chance.",
    "LoRA": "A small file that changes what a large model draws. It is what the training leaves.",
    "MMSR+Vote": "A vote in which each person counts as much as the others tend to agree with them, so that careless answers count little.",
    "cultural attributes right": "In the drawn world it is known what belongs to each culture: the share of it that a picture shows rightly.",
    "held-out pictures": "Real pictures of the culture that were kept from the training, to judge with.",
    "learnt by heart": "The model repeats a picture it was trained on. Such a picture is somebody's own, and says nothing of how well the "
    "model draws.",
    "negative": "A picture that the un-tuned model drew of a training picture's scene: what the training leads away from.",
    "p": "How often a difference as large would come about if there were none. Below 0.05 it is usually taken for more than chance; it does "
    "not say that the difference is large.",
    "seed": "The number all random choices start from. The same prompt and seed give the same picture, so that what differs is the model.",
    "token": "A short word or a part of a long one; a model reads only so many.",
    "variant": "One way of training: fine-tuning alone, or with the memorisation loss (M), the perceptual loss (P) and the "
    "contrastive one (C) added, one after the other.",
}
"""What the terms of the pages mean, in plain words: read through ``what`` and ``words`` of parts.html."""
