"""What participants are shown: pages, pictures and the template they are put into."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_steps.artifacts import FORMS, PAGES, Row, decode_picture
from pipeline_steps.drawing import pictures
from pipeline_steps.drawing.labels import SURVEY_ITEMS
from pipeline_steps.home import find
from pipeline_steps.survey.wording import Wording

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


def page_contents(pages: Path) -> dict[str, dict[str, Any]]:
    """Return what may be shown of each page: prompt, picture names in order, whether it is a check."""
    shown: dict[str, dict[str, Any]] = {}
    for row in PAGES.rows(pages, ["picture", "prompt", "check"]):
        page = shown.setdefault(row["page"], {"prompt": row["prompt"], "check": row["check"], "pictures": []})
        page["pictures"].append(row["picture"])
    return shown


def encode(cell: Row, jpeg_quality: int | None) -> pictures.Encoded:
    """Encode a picture anew, so that nothing but the pixels is left; without a quality as PNG."""
    picture = decode_picture(cell)
    if jpeg_quality is None:
        return pictures.encode(picture, "PNG")
    return pictures.encode(picture, "JPEG", jpeg_quality)


def render(template: Path, wording: Wording, survey: Mapping[str, Any], nonce: str = "") -> str:
    """Put wording and survey into the template.

    Args:
        template: HTML with the marks ``{{lang}}``, ``{{dir}}``, ``{{title}}``, ``{{nonce}}``, ``{{survey}}``.
        wording: the sentences.
        survey: what the page's script reads.
        nonce: for the content security policy of a server.
    """
    data = {"items": ITEMS, "wording": wording.model_dump(), **survey}
    # "<" would let a prompt end the script element.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    page = find(template).read_text(encoding="utf-8")
    marks = {"lang": wording.language, "dir": wording.direction, "title": wording.title, "nonce": nonce}
    for mark, value in marks.items():
        page = page.replace(
            "{{" + mark + "}}", value.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        )
    return page.replace("{{survey}}", text)
