"""Every sentence that contributors and the curator read, checked."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from pydantic import Field

from pipeline_steps.errors import UserError
from pipeline_steps.web import wording

FOLDER = Path("resources/collection")
WORDINGS = tuple(FOLDER / f"wording.{language}.yaml" for language in ("en", "ko", "ar"))
CURATOR = FOLDER / "curator.en.yaml"
REFUSALS = (
    *("unusable", "too_large", "given_before", "withdrawn_before", "enough", "full", "link", "busy"),
    *("caption", "category", "consent"),
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


class CuratorWording(wording.Sentences):
    """Every sentence of the curator's page; resources/collection/curator.en.yaml has them in English."""

    key: str
    come_in: str
    key_hint: str
    not_the_key: str
    contents: str
    whole: str
    balance: str
    category: str
    balance_hint: str
    missing: dict[str, str]
    people: str
    who: str
    note: str
    years: str
    affiliation: str
    link: str
    new_link: str
    new_link_for: str
    note_label: str
    invite: str
    invite_hint: str
    invited: str
    qr_code: str
    pictures: str
    state: str
    states: dict[str, str]
    decisions: dict[str, str]
    era: str
    findings: str
    with_finding: str
    all: str
    show: str
    alike: str
    choose: str
    choose_picture: str
    accept: str
    decline: str
    when: str
    message: str
    error_message: str
    changed: str
    accept_chosen: str
    ask_back: str
    decline_chosen: str
    none_like_that: str
    none_yet: str
    consent: str
    consent_hint: str
    keep_text: str
    address: str
    address_hint: str
    renew: str
    renewed: str
    leave: str


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


def read_curator_wording(path: Path) -> CuratorWording:
    """Read the sentences of the curator's page.

    Raises:
        UserError: a sentence is missing, or has other words in braces than the English one.
    """
    found = wording.read_wording(path, CuratorWording, str(CURATOR))
    expected = dict(_braces(wording.read_wording(CURATOR, CuratorWording, str(CURATOR)).model_dump()))
    given = dict(_braces(found.model_dump()))
    for name in expected | given:
        if given.get(name) != expected.get(name):
            braces = " ".join(f"{{{word}}}" for word in sorted(expected.get(name, ()))) or "nothing"
            raise UserError(f"{path}: {name}: needs {braces} in braces, as in {CURATOR}")
    return found


def _braces(sentences: dict[str, Any], above: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield each sentence's name, and its words in braces."""
    for name, text in sentences.items():
        if isinstance(text, dict):
            yield from _braces(text, f"{above}{name}.")
        elif isinstance(text, str):
            yield f"{above}{name}", {word for _, word, _, _ in Formatter().parse(text) if word is not None}
