"""The contributor's page, and who opens it."""

import hashlib
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from pipeline_steps.data.checks import sizes_of
from pipeline_steps.data.collection.site import PEOPLE, Giver, Person, Site, ThisSite
from pipeline_steps.data.collection.store import Contributor, RefusedError
from pipeline_steps.inputs.text import clean_text
from pipeline_steps.web.database import ask
from pipeline_steps.web.sessions import csrf_of
from pipeline_steps.web.shield import page_response
from pipeline_steps.web.wording import render

ROUTES = APIRouter()
AIM = (20, 30)
"""Pictures of one person (paper §3)."""
FEW = 150
"""Pictures of a culture at least, over all categories (paper §3)."""


class Key(BaseModel):
    """The secret of a personal link."""

    model_config = ConfigDict(extra="forbid", strict=True)
    link: str = Field(max_length=128)


class Introduction(BaseModel):
    """Who somebody is to the culture, and that they agree to the text of this SHA-256."""

    model_config = ConfigDict(extra="forbid", strict=True)
    agreed: bool
    consent: str = Field(max_length=64)
    years: float = Field(ge=0, le=120, allow_inf_nan=False)
    affiliation: str = Field("", max_length=300)
    language: str = Field(max_length=32)


class Caption(BaseModel):
    """A caption that is being written."""

    model_config = ConfigDict(extra="forbid", strict=True)
    caption: str = Field(max_length=1000)


@ROUTES.get("/healthz")
async def health(site: ThisSite) -> dict[str, bool]:
    """Say that the server and its database answer."""
    await ask(site.store.who(""))
    return {"ok": True}


@ROUTES.get("/")
async def page(request: Request, site: ThisSite) -> Response:
    """Show the page; who has no session gets one, by which the page can bring a personal link."""
    token, fresh = PEOPLE.own_or_new(request)
    data = {
        "culture": site.name,
        "csrf": csrf_of(token),
        "sizes": sizes_of(site.intake.config),
        "aim": AIM,
        "least": FEW / len(site.wordings[0].categories),
        "megabytes": site.intake.config.max_megabytes,
    }
    response = page_response(lambda nonce: render(site.template, site.wordings, data, nonce))
    if fresh:
        PEOPLE.begin(response, request, token)
    return response


@ROUTES.post("/api/enter", dependencies=[Depends(PEOPLE.guard)])
async def enter(request: Request, response: Response, key: Key, site: ThisSite) -> dict[str, Any]:
    """Let the holder of a personal link in; it is the session from then on."""
    found = await ask(site.store.who(key.link))
    if found is None:
        raise site.refuse(request, key.link, HTTPException(403, "this link opens nothing"))
    site.requests.know(key.link)
    PEOPLE.begin(response, request, key.link)
    return await state(site, found, key.link)


@ROUTES.post("/api/leave", dependencies=[Depends(PEOPLE.guard)])
async def leave(response: Response) -> dict[str, bool]:
    """Let this device forget the personal link."""
    PEOPLE.end(response)
    return {"left": True}


@ROUTES.get("/api/me")
async def me(request: Request, found: Person, site: ThisSite) -> dict[str, Any]:
    """Return where a person stands."""
    return await state(site, found, PEOPLE.token(request))


@ROUTES.put("/api/me", dependencies=[Depends(PEOPLE.guard)])
async def introduce(request: Request, given: Introduction, found: Person, site: ThisSite) -> dict[str, Any]:
    """Keep who a person is to the culture, and the text that was read and agreed to."""
    text = (await _consent(site)).get(given.language)
    if not given.agreed or text is None:
        raise HTTPException(422, "consent is needed")
    if given.consent != text["sha256"]:
        raise RefusedError("consent")
    affiliation, now = plain(given.affiliation), site.time()
    await ask(
        site.store.introduce(found.contributor, given.years, affiliation, given.language, text["text"], now)
    )
    token = PEOPLE.token(request)
    return await state(site, await ask(site.store.who(token)), token)


@ROUTES.post("/api/caption", dependencies=[Depends(PEOPLE.guard)])
async def caption(given: Caption, _found: Giver, site: ThisSite) -> dict[str, Any]:
    """Count a caption's tokens, and say what it does not name."""
    return site.captions.hints(clean_text(given.caption))


async def state(site: Site, found: Contributor, token: str) -> dict[str, Any]:
    """Return all that the page shows of a person."""
    own = await ask(site.store.own(found.contributor)) if found.takes_part else []
    return {
        "csrf": csrf_of(token),
        "contributor": found.contributor,
        "years": found.years,
        "affiliation": found.affiliation or "",
        "consent": {} if found.takes_part else await _consent(site),
        "pictures": [shown(row) for row in own],
        "all": await ask(site.store.counts()) if found.takes_part else {},
    }


async def _consent(site: Site) -> dict[str, dict[str, str]]:
    """Return the text to agree to, and its SHA-256, by language: the curator's, or the wording file's."""
    own = await ask(site.store.consent_texts())
    texts = {each.language: own.get(each.language) or "\n\n".join(each.consent) for each in site.wordings}
    return {
        language: {"text": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        for language, text in texts.items()
    }


HIDDEN = ("contributor", "upload", "name", "small", "findings")
"""Columns of a picture that its page has no use for."""


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return what its own contributor sees of a picture."""
    kinds = sorted({kind for _, kind, _ in row["findings"]})
    return {name: value for name, value in row.items() if name not in HIDDEN} | {"odd": kinds}


def plain(text: str) -> str:
    """Return one line that no spreadsheet takes for a formula."""
    return clean_text(text).lstrip("=+-@ ")
