"""Every sentence that contributors read, checked."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from pipeline_steps.errors import UserError
from pipeline_steps.web import wording

FOLDER = Path("resources/collection")
WORDINGS = tuple(FOLDER / f"wording.{language}.yaml" for language in ("en", "ko", "ar"))
REFUSALS = (
    *("unusable", "too_large", "given_before", "withdrawn_before", "enough", "full", "link", "busy"),
    *("caption", "category"),
)
"""Why something is not taken."""
STATES = ("new", "given", "asked", "accepted", "declined")
PEOPLE = ("none", "agreed", "not asked")
"""Whether people can be recognised, and what they say to it."""
ERAS = ("traditional", "modern")
ORIGINS = ("own", "other")


class Wording(wording.Words):
    """Every sentence contributors read; resources/collection/wording.en.yaml says what each is for."""

    no_link: str
    link_unknown: str
    intro: str
    consent_title: str
    consent: list[str] = Field(min_length=1)
    consent_agree: str
    about_title: str
    years: str
    affiliation: str
    affiliation_hint: str
    begin: str
    error_consent: str
    error_years: str
    home_title: str
    welcome_back: str
    given_count: str
    aim: str
    add_title: str
    take_photo: str
    choose_photo: str
    link: str
    link_hint: str
    fetch: str
    fetching: str
    missing_title: str
    missing_hint: str
    category: str
    yours: str
    all: str
    few: str
    pictures_title: str
    none_yet: str
    change: str
    withdraw: str
    withdraw_sure: str
    withdraw_yes: str
    withdraw_no: str
    withdrawn: str
    message_from: str
    states: dict[str, str]
    picture_title: str
    picture_alt: str
    frame: str
    no_preview: str
    small: str
    sending: str
    sending_again: str
    stored: str
    caption: str
    caption_hint: str
    tokens: str
    tokens_too_many: str
    names_no_thing: str
    names_no_culture: str
    choose: str
    categories: dict[str, str] = Field(min_length=1)
    era: str
    eras: dict[str, str]
    origin: str
    origins: dict[str, str]
    author: str
    author_hint: str
    licence: str
    licences: dict[str, str] = Field(min_length=1)
    people: str
    people_choices: dict[str, str]
    remark: str
    optional: str
    save: str
    back: str
    saved: str
    error_caption: str
    error_category: str
    error_era: str
    error_people: str
    unreachable: str
    refusals: dict[str, str]
    leave: str
    leave_hint: str
    left: str


def read_wordings(paths: Sequence[Path]) -> list[Wording]:
    """Read the wordings that contributors choose from, the first one first.

    Raises:
        UserError: one is wrong, two are of one language, or they do not offer the same choices.
    """
    found = wording.read_wordings(paths, Wording, "resources/collection/wording.en.yaml")
    expected = {"states": STATES, "people_choices": PEOPLE, "eras": ERAS, "origins": ORIGINS}
    expected |= {"refusals": REFUSALS, "categories": tuple(found[0].categories)}
    expected |= {"licences": tuple(found[0].licences)}
    for each, path in zip(found, paths, strict=True):
        for name, keys in expected.items():
            if set(getattr(each, name)) != set(keys):
                raise UserError(f"{path}: {name}: needs {', '.join(keys)} and no other")
    return found
