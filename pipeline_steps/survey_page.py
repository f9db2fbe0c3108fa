"""The survey's web page: its wording, its contents, and the template they are put into."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline_steps.artifacts import FORMS, PAGES, Row, decode_picture
from pipeline_steps.errors import UserError

TEMPLATE = Path("resources/survey/page.html")
ITEMS = ("description", "representation", "stereotypes", "offensiveness")
"""What participants rank each page's pictures by (paper §5)."""


class Item(BaseModel):
    """Wording of one item."""

    model_config = ConfigDict(extra="forbid")
    name: str
    question: str
    best: str
    worst: str


class Items(BaseModel):
    """Wording of the four items."""

    model_config = ConfigDict(extra="forbid")
    description: Item
    representation: Item
    stereotypes: Item
    offensiveness: Item


class Wording(BaseModel):
    """Every sentence participants read; resources/survey/wording.en.yaml says what each is for."""

    model_config = ConfigDict(extra="forbid")
    language: str = Field(pattern=r"[A-Za-z]{2,3}(-[A-Za-z0-9]+)*$")
    direction: Literal["ltr", "rtl"]
    title: str
    consent: list[str] = Field(min_length=1)
    consent_agree: str
    enrol_title: str
    code: str
    code_hint: str
    code_hint_required: str
    culture: str
    culture_choose: str
    culture_other: str
    cultures: dict[str, str]
    years: str
    start: str
    error_consent: str
    error_code: str
    error_culture: str
    error_years: str
    not_eligible: str
    instructions: str
    description: str
    picture: str
    enlarge: str
    close: str
    page_of: str
    items: Items
    check: str
    rank_of: str
    not_ranked: str
    slot: str
    slot_empty: str
    clear: str
    cleared: str
    moved: str
    unranked: str
    unfinished: str
    back: str
    next: str
    finish: str
    saved_here: str
    saved: str
    saving: str
    unsaved: str
    no_storage: str
    refused: str
    done_title: str
    done_file: str
    done_server: str
    download: str
    another: str


def read_wording(path: Path) -> Wording:
    """Read and check a wording file.

    Raises:
        UserError: it is missing, no YAML, or a sentence is missing or unknown.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Wording.model_validate(raw)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from error
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise UserError(
            f"{path}: {'; '.join(faults)}; compare with resources/survey/wording.en.yaml"
        ) from error


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


def encode(cell: Row, jpeg_quality: int | None) -> tuple[bytes, str]:
    """Return a picture's bytes and media type, encoded anew so that nothing but the pixels is left."""
    picture, buffer = decode_picture(cell).convert("RGB"), io.BytesIO()
    if jpeg_quality is None:
        picture.save(buffer, "PNG")
        return buffer.getvalue(), "image/png"
    picture.save(buffer, "JPEG", quality=jpeg_quality, subsampling=0)
    return buffer.getvalue(), "image/jpeg"


def as_data_uri(cell: Row, jpeg_quality: int | None) -> str:
    """Return a picture as text that can stand in a page."""
    data, kind = encode(cell, jpeg_quality)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


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
    page = template.read_text(encoding="utf-8")
    marks = {"lang": wording.language, "dir": wording.direction, "title": wording.title, "nonce": nonce}
    for mark, value in marks.items():
        page = page.replace(
            "{{" + mark + "}}", value.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        )
    return page.replace("{{survey}}", text)
