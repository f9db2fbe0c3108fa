"""Every sentence that participants read, checked."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from pipeline_steps.drawing.labels import SURVEY_ITEMS
from pipeline_steps.errors import UserError
from pipeline_steps.home import find


class Item(BaseModel):
    """Wording of one item."""

    model_config = ConfigDict(extra="forbid")
    name: str
    question: str
    best: str
    worst: str


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
    download: str
    another: str

    @field_validator("items")
    @classmethod
    def _all_items(cls, items: dict[str, Item]) -> dict[str, Item]:
        if items.keys() != SURVEY_ITEMS.keys():
            raise PydanticCustomError(
                "items", "needs {names} and no other", {"names": ", ".join(SURVEY_ITEMS)}
            )
        return items


def read_wording(path: Path) -> Wording:
    """Read and check a wording file.

    Raises:
        UserError: it is missing, no YAML, or a sentence is missing or unknown.
    """
    try:
        raw = yaml.safe_load(find(path).read_text(encoding="utf-8"))
        return Wording.model_validate(raw)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from error
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise UserError(
            f"{path}: {'; '.join(faults)}; compare with resources/survey/wording.en.yaml"
        ) from error
