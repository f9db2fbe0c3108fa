"""Every sentence that a page's readers see, in the languages they choose from, and the page that holds it."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline_steps.errors import UserError, first_line
from pipeline_steps.home import find

STYLE, SCRIPT = Path("resources/web/form.css"), Path("resources/web/form.js")
"""What the pages that people fill in look like, and what their scripts share."""
LOG = logging.getLogger(__name__)


class Sentences(BaseModel):
    """What every file of sentences says of itself."""

    model_config = ConfigDict(extra="forbid")
    draft: bool = False
    language: str = Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]+)*$")
    direction: Literal["ltr", "rtl"]
    title: str


class Words(Sentences):
    """What a wording says of itself that readers choose among others."""

    language_name: str
    language_choose: str


S = TypeVar("S", bound=Sentences)
W = TypeVar("W", bound=Words)


def read_wordings(paths: Sequence[Path], kind: type[W], example: str) -> list[W]:
    """Read the wordings that readers choose from, the first one first.

    Raises:
        UserError: one is wrong, or two are of one language.
    """
    found: dict[str, W] = {}
    for path in paths:
        wording = read_wording(path, kind, example)
        if wording.language in found:
            raise UserError(f"{path}: '{wording.language}' has a wording already; name one of each")
        found[wording.language] = wording
    return list(found.values())


def read_wording(path: Path, kind: type[S], example: str) -> S:
    """Read and check a wording file.

    Args:
        path: of the YAML file.
        kind: the sentences it has.
        example: a right file, which messages name.

    Raises:
        UserError: it is missing, no YAML, or a sentence is missing or unknown.
    """
    try:
        raw = yaml.safe_load(find(path).read_text(encoding="utf-8"))
        wording = kind.model_validate(raw)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({first_line(error)})") from error
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise UserError(f"{path}: {'; '.join(faults)}; compare with {example}") from error
    if wording.draft:
        LOG.warning("%s is a draft: let a speaker check it, then set 'draft: false' in it", path)
    return wording


def render(
    template: Path,
    wordings: Sequence[Words],
    data: Mapping[str, Any],
    nonce: str = "",
    style: Path = STYLE,
    script: Path = SCRIPT,
) -> str:
    """Put wordings and data into a page's template.

    Args:
        template: HTML with the marks ``{{lang}}``, ``{{dir}}``, ``{{title}}``, ``{{nonce}}``,
            ``{{style}}``, ``{{script}}``, ``{{survey}}``.
        wordings: the sentences in every language offered; the page begins with the first.
        data: what the page's script reads at the mark ``{{survey}}``, beside the wordings.
        nonce: for the content security policy of a server.
        style: the CSS that it shares with other pages.
        script: the functions likewise.
    """
    wording = wordings[0]
    data = {"wordings": [each.model_dump() for each in wordings], **data}
    # "<" would let a prompt end the script element.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    page = find(template).read_text(encoding="utf-8")
    for mark, file in (("style", style), ("script", script)):
        page = page.replace("{{" + mark + "}}", find(file).read_text(encoding="utf-8"))
    marks = {"lang": wording.language, "dir": wording.direction, "title": wording.title, "nonce": nonce}
    for mark, value in marks.items():
        page = page.replace(
            "{{" + mark + "}}", value.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        )
    return page.replace("{{survey}}", text)
