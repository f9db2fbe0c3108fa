"""What participants are shown: pages, pictures and the template they are put into."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_steps.artifacts import FORMS, PAGES, Row, decode_picture
from pipeline_steps.drawing import pictures
from pipeline_steps.drawing.labels import SURVEY_ITEMS
from pipeline_steps.survey.wording import Translations, Wording
from pipeline_steps.web import wording

LOG = logging.getLogger(__name__)

TEMPLATE = Path("resources/survey/page.html")
ITEMS = tuple(SURVEY_ITEMS)
"""What participants rank each page's pictures by (paper §5)."""


def read_forms(path: Path) -> list[list[str]]:
    """Return every form's pages in order."""
    forms: list[list[str]] = []
    for row in FORMS.rows(path):
        if row["place"] == 0:
            forms.append([])
        forms[-1].append(row["page"])
    return forms


def page_contents(pages: Path, translations: Translations) -> dict[str, dict[str, Any]]:
    """Return what may be shown of each page: prompt, picture names in order, whether it is a check.

    Args:
        pages: table of pages.
        translations: the prompts in other languages.
    """
    shown: dict[str, dict[str, Any]] = {}
    missing = set()
    for row in PAGES.rows(pages, ["picture", "prompt", "check"]):
        prompt, check = row["prompt"], row["check"]
        prompts = translations.get(prompt, {})
        page = {"prompt": prompt, "prompts": prompts, "check": check, "pictures": []}
        shown.setdefault(row["page"], page)["pictures"].append(row["picture"])
        if translations and prompt not in translations:
            missing.add(prompt)
    if missing:
        LOG.warning("%s: %d prompts are not in the table of translations", pages, len(missing))
    return shown


def encode(cell: Row, jpeg_quality: int | None) -> pictures.Encoded:
    """Encode a picture anew, so that nothing but the pixels is left; without a quality as PNG."""
    picture = decode_picture(cell)
    if jpeg_quality is None:
        return pictures.encode(picture, "PNG")
    return pictures.encode(picture, "JPEG", jpeg_quality)


def render(
    template: Path,
    wordings: Sequence[Wording],
    survey: Mapping[str, Any],
    nonce: str = "",
    style: Path = wording.STYLE,
    script: Path = wording.SCRIPT,
) -> str:
    """Put wordings and survey into the template; see :func:`pipeline_steps.web.wording.render`."""
    return wording.render(template, wordings, {"items": ITEMS, **survey}, nonce, style, script)
