"""The frame of every page: one stylesheet, texts escaped, nothing loaded from elsewhere."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateNotFound
from markupsafe import Markup

from pipeline_steps.config import LABELS, SHORT
from pipeline_steps.drawing.charts import COLOURS
from pipeline_steps.errors import UserError
from pipeline_steps.home import find

TEMPLATES = Path("resources/report")
"""Templates of the pages; each extends frame.html, and parts.html has what several of them need."""
STYLE = TEMPLATES / "page.css"
WORDS = TEMPLATES / "words.yaml"


class Figure(NamedTuple):
    """A figure as a page prints it.

    Attributes:
        text: the figure.
        interval: its ends in words; empty: it has none.
    """

    text: str
    interval: str = ""


class What:
    """Marks beside terms, each of which opens what is meant; a page explains the terms that it marks.

    Args:
        words: terms and what they mean.
    """

    def __init__(self, words: Mapping[str, str]) -> None:
        self.words = words
        self.terms: dict[str, None] = {}

    def __call__(self, term: str) -> Markup:
        """Return the mark; a term that is not explained is a KeyError."""
        if term not in self.words:
            raise KeyError(term)
        self.terms[term] = None
        mark = '<button type="button" class="what" popovertarget="{}" aria-label="What is {}?">?</button>'
        return Markup(mark).format(self.id(term), term)

    @staticmethod
    def id(term: str) -> str:
        """The id of a term's explanation."""
        return "word-" + re.sub(r"\W+", "-", term.lower())


def render(template: Path, style: Path = STYLE, **contents: Any) -> str:
    """Fill a page's template.

    Args:
        template: Jinja template; frame.html and parts.html lie beside it.
        style: the CSS of all pages.
        contents: what the template names; texts are escaped, charts and ready markup stand under ``| safe``.

    Raises:
        UserError: there is no such template.
    """
    template = find(template)
    loader = FileSystemLoader(template.parent)
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=StrictUndefined)
    environment.filters |= {
        "number": number,
        "label": lambda variant: LABELS.get(variant, variant),
        "short": SHORT.__getitem__,
        "colour": colour,
    }
    environment.globals["what"] = What(yaml.safe_load(find(WORDS).read_text(encoding="utf-8")))
    try:
        found = environment.get_template(template.name)
    except TemplateNotFound as error:
        raise UserError(f"{template}: no such template") from error
    return found.render(style=find(style).read_text(encoding="utf-8"), **contents)


def colour(variant: str) -> str:
    """Return the class that gives a variant the colour it has in every chart."""
    return f"c{list(LABELS).index(variant) % len(COLOURS)}"


def ends(row: Mapping[str, Any]) -> str:
    """Both ends of a figure's interval in words; empty where there is none."""
    return "" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"


def number(value: Any) -> str:
    """Four significant digits, with a real minus sign; a dash where there is no figure."""
    return "–" if value in (None, "") else f"{float(value):.4g}".replace("-", "−")
