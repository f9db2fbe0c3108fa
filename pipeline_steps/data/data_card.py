"""The data card that goes with every LoRA: what it stands on, whose it is, and its limits."""

import html
import re
from collections import Counter
from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import IMAGES
from pipeline_steps.cli import run_step

COLUMNS = ("split", "category", "era", "contributor", "author", "licence", "consent")
HOW = (
    "Each picture was turned upright, converted to sRGB, laid on white where transparent, cropped around "
    "its middle and resized once. Camera data and positions were not kept. Captions are as their authors "
    "wrote them."
)
CONSENT = (
    "Withdrawn pictures are left out when the data set is built again; a LoRA trained before that still "
    "carries what it learned from them, and its fingerprint tells."
)
PRIVACY = (
    "Whether faces or private data are in the pictures, and whether that is right, was decided by whoever "
    "brought them; nothing here checked it."
)


def data_card(images: Path, card: Path, culture: str, suffix: str) -> None:
    """Write the card as Markdown.

    Contributors are counted, not named; authors are named with their licence, as many licences ask.

    Args:
        images: the culture's table of pictures.
        card: Markdown file to write.
        culture: its name.
        suffix: of the culture, as prompts use it.
    """
    origin = artifacts.same_origin((IMAGES, images), culture=culture)
    rows = IMAGES.read(images, COLUMNS)
    splits = Counter(row["split"] for row in rows)
    people = Counter(row["contributor"] for row in rows if row["contributor"])
    name = suffix.strip(" ,").replace("`", "")
    lines = [
        f"# Data card: {culture}",
        "## What",
        f"{len(rows)} pictures, each with one hand-written caption: {splits['train']} to train on, "
        f"{splits['test']} held out for scoring. Prompts name the culture as `{name}`.",
        f"Fingerprint of the data set: `{origin.fingerprint}`.",
        _counts("Category", Counter(row["category"] for row in rows)),
        _counts("Era", Counter(row["era"] for row in rows)),
        "## Who",
        _people(people, len(rows)),
        _counts("Author and licence", Counter(_credit(row["author"], row["licence"]) for row in rows)),
        "## How",
        HOW,
        "## Consent",
        _counts("Consent", Counter(row["consent"] for row in rows)),
        CONSENT,
        "## Limits",
        f"{len(rows)} pictures chosen by {len(people) or 'an unstated number of'} people show some of a "
        "culture, not all of it, and nobody speaks for a culture alone. " + PRIVACY,
    ]
    artifacts.write_text(card, "\n\n".join(line for line in lines if line) + "\n")


def _people(people: Counter[str], total: int) -> str:
    if not people:
        return "The data set does not say who contributed the pictures."
    unnamed = total - people.total()
    rest = f"; {unnamed} pictures do not say who" if unnamed else ""
    least, most = min(people.values()), max(people.values())
    return f"{len(people)} contributors gave {least} to {most} pictures each{rest}."


def _credit(author: str | None, licence: str | None) -> str | None:
    return (
        f"{author or 'author not stated'}, {licence or 'licence not stated'}" if author or licence else None
    )


def _counts(name: str, counts: Counter[str | None]) -> str:
    """Return a Markdown table of values and numbers of pictures; missing values are called so."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0] or ""))
    rows = "\n".join(f"| {_plain(value or 'not stated')} | {number} |" for value, number in ordered)
    return f"| {name} | Pictures |\n|---|---:|\n{rows}"


def _plain(text: str) -> str:
    """Return text that Markdown and HTML take literally."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.escape(text, quote=False))


if __name__ == "__main__":
    run_step(data_card)
