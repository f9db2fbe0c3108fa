"""Every sentence that participants read, checked."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from pipeline_steps.drawing.labels import SURVEY_ITEMS
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.tables import readable, table_rows
from pipeline_steps.inputs.text import clean_text
from pipeline_steps.inputs.values import RejectedError
from pipeline_steps.web import wording

LOG = logging.getLogger(__name__)
EXAMPLE = "resources/survey/wording.en.yaml"
Translations = dict[str, dict[str, str]]
"""Prompts by the prompt itself and the language."""


class Item(BaseModel):
    """Wording of one item."""

    model_config = ConfigDict(extra="forbid")
    name: str
    question: str
    best: str
    worst: str


class Wording(wording.Words):
    """Every sentence participants read; resources/survey/wording.en.yaml says what each is for."""

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
    closed: str
    not_eligible: str
    instructions: str
    description: str
    picture: str
    enlarge: str
    close: str
    page_of: str
    loading: str
    loading_again: str
    your_code: str
    print: str
    items: dict[str, Item]
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
    not_stored: str
    done_kiosk: str
    download: str
    another: str
    not_saved: str
    leave: str

    @field_validator("items")
    @classmethod
    def _all_items(cls, items: dict[str, Item]) -> dict[str, Item]:
        if items.keys() != SURVEY_ITEMS.keys():
            raise PydanticCustomError(
                "items", "needs {names} and no other", {"names": ", ".join(SURVEY_ITEMS)}
            )
        return items


def read_wordings(paths: Sequence[Path]) -> list[Wording]:
    """Read the wordings that participants choose from, the first one first.

    Raises:
        UserError: one is wrong, or two are of one language.
    """
    return wording.read_wordings(paths, Wording, EXAMPLE)


def read_translations(path: Path | None, wordings: Sequence[Wording]) -> Translations:
    """Read the prompts in other languages: a column "prompt", and one for each language.

    What is not translated is shown as it stands in the prompts, and said.

    Args:
        path: .csv, .tsv or .jsonl; none: nothing is translated.
        wordings: that participants choose from.

    Returns:
        By prompt and language.

    Raises:
        UserError: the table cannot be read, or has no column "prompt".
    """
    if path is None:
        return {}
    found: Translations = {}
    offered = [each.language for each in wordings]
    for number, read in table_rows(path, ("prompt", *offered)):
        try:
            row = readable(read)
        except RejectedError as error:
            raise UserError(f"{path}: line {number}: {error}") from error
        prompt = clean_text(str(row.get("prompt") or ""))
        if not prompt:
            raise UserError(f"{path}: line {number}: no prompt; name the first column 'prompt' and fill it")
        texts = {language: clean_text(str(row.get(language) or "")) for language in offered}
        found[prompt] = {language: text for language, text in texts.items() if text}
    for language in offered[1:]:
        missing = sum(language not in texts for texts in found.values())
        if missing:
            LOG.warning("%s: %d of %d prompts have no text in '%s'", path, missing, len(found), language)
    return found


def read_wording(path: Path) -> Wording:
    """Read and check a wording file.

    Raises:
        UserError: it is missing, no YAML, or a sentence is missing or unknown.
    """
    return wording.read_wording(path, Wording, EXAMPLE)
