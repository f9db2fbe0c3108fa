"""The curator's page: who gives, what was given, and every decision."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import segno
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from pipeline_steps.data.collection import overview, records
from pipeline_steps.data.collection.pictures import sent_picture
from pipeline_steps.data.collection.site import CURATORS, Site, ThisSite
from pipeline_steps.data.collection.wording import ERAS
from pipeline_steps.drawing.page import TEMPLATES, render
from pipeline_steps.inputs.text import clean_text
from pipeline_steps.web.database import ask
from pipeline_steps.web.forms import read_form
from pipeline_steps.web.sessions import csrf_of, new_token
from pipeline_steps.web.shield import page_response

PAGE = TEMPLATES / "collection.html"
FIELDS = 5000
"""Most fields of a form: each chosen picture is one."""
LONGEST_MESSAGE = 1000
LONGEST_CONSENT = 20_000


async def _curator(request: Request, site: ThisSite) -> None:
    if CURATORS.token(request) not in site.curators:
        raise HTTPException(401, "open the curator's address")


OPEN = APIRouter(prefix="/curator")
GUARDED = APIRouter(prefix="/curator", dependencies=[Depends(_curator)])


async def _own_form(request: Request) -> dict[str, list[str]]:
    """Read a form and make sure that it is this page's."""
    fields = await read_form(request, FIELDS)
    CURATORS.check(request, fields.get("csrf", [""])[0])
    return fields


def _first(fields: dict[str, list[str]], name: str) -> str:
    return fields.get(name, [""])[0]


def _text(fields: dict[str, list[str]], name: str, longest: int) -> str:
    return clean_text(_first(fields, name))[:longest]


async def _contents(request: Request, site: Site) -> dict[str, Any]:
    """Gather everything that the page shows."""
    pictures = await ask(records.pictures(site.store))
    everybody = await ask(records.everybody(site.store))
    words, choices = site.curator_wording, site.wordings[0]
    config = site.intake.config
    found, groups = await asyncio.to_thread(
        overview.findings, pictures, site.captions, config.duplicate_difference
    )
    asked = {name: request.query_params.get(name, "") for name in overview.Filter.__dataclass_fields__}
    wanted = overview.Filter(**asked)
    groups = [group for group in groups if any(wanted.takes(one, found[one["picture"]]) for one in group)]
    people = overview.people(everybody, pictures)
    categories = _or_key(choices.categories, pictures, "category")
    table = overview.balance(pictures, categories)
    missing = overview.missing(people, {text: table[name] for name, text in choices.categories.items()})
    texts = await ask(site.store.consent_texts())
    return {
        "people": people,
        "missing": [words.missing[name].format(**values) for name, values in missing],
        "balance": [(categories[name], *row) for name, row in table.items()],
        "groups": groups,
        "findings": {name: [finding.line for finding in lines] for name, lines in found.items()},
        "total": len(pictures),
        "asked": asked,
        "query": request.url.query,
        "choices": choices,
        "categories": categories,
        "licences": _or_key(choices.licences, pictures, "licence"),
        "eras": [choices.eras[era] for era in ERAS],
        "texts": [(each, texts.get(each.language, ""), "\n\n".join(each.consent)) for each in site.wordings],
    }


def _or_key(texts: Mapping[str, str], pictures: Iterable[Mapping[str, Any]], column: str) -> dict[str, str]:
    """Return the texts of a column's keys; what pictures have beside them is its own text."""
    others = {picture[column] for picture in pictures} - {"", *texts}
    return {**texts, **{key: key for key in sorted(others)}}


async def _page(request: Request, site: Site, status: int = 200, **news: Any) -> Response:
    """Show where the collection stands, or ask for the key."""
    inside = CURATORS.token(request) in site.curators
    contents = await _contents(request, site) if inside else {}
    contents |= {"inside": inside, "csrf": csrf_of(CURATORS.token(request)), "name": site.name}
    contents |= {"words": site.curator_wording}
    contents |= {"wrong": "", "invited": None, "news": "", "changed": []} | news
    return await asyncio.to_thread(page_response, lambda nonce: render(PAGE, nonce=nonce, **contents), status)


def _back(fields: dict[str, list[str]]) -> Response:
    """Show the page again, with the same filters."""
    query = _first(fields, "query")
    return RedirectResponse(f"/curator?{query}#pictures" if query else "/curator", 303)


@OPEN.get("")
async def page(request: Request, site: ThisSite) -> Response:
    """Show the page."""
    return await _page(request, site)


@OPEN.post("/login")
async def login(request: Request, site: ThisSite) -> Response:
    """Let the holder of the key in."""
    if not site.secret.is_it(_first(await read_form(request), "key")):
        refusal = site.refuse(request, "curator", HTTPException(401, site.curator_wording.not_the_key))
        return await _page(request, site, refusal.status_code, wrong=refusal.detail)
    session = new_token()
    site.curators.add(session)
    response = RedirectResponse("/curator", 303)
    CURATORS.begin(response, request, session, None)
    return response


@GUARDED.post("/leave")
async def leave(request: Request, site: ThisSite) -> Response:
    """End the curator's session."""
    await _own_form(request)
    site.curators.discard(CURATORS.token(request))
    response = RedirectResponse("/curator", 303)
    CURATORS.end(response)
    return response


@GUARDED.post("/renew")
async def renew(request: Request, site: ThisSite) -> Response:
    """Give the curator's page a new address, and end every other session."""
    await _own_form(request)
    await asyncio.to_thread(site.secret.renew)
    site.curators.intersection_update({CURATORS.token(request)})
    return await _page(request, site, news=site.curator_wording.renewed.format(address=site.curator_link()))


@GUARDED.post("/invite")
async def invite(request: Request, site: ThisSite) -> Response:
    """Make a personal link, or a new one for somebody who has one; it is shown this once."""
    fields = await _own_form(request)
    if contributor := _first(fields, "contributor"):
        link = await ask(site.store.renew(contributor))
    else:
        contributor, link = await ask(site.store.invite(_text(fields, "note", 100), site.time()))
    url = site.link(link)
    code = segno.make(url, error="m").svg_data_uri(scale=4, border=2)
    return await _page(request, site, invited=(contributor, url, code))


@GUARDED.post("/decide")
async def decide(request: Request, site: ThisSite) -> Response:
    """Accept pictures, send them back with a message, or decline them; but none that changed since."""
    fields = await _own_form(request)
    one, _, decision = _first(fields, "one").rpartition(" ")
    seen, decision = ([one], decision) if one else (fields.get("picture", []), _first(fields, "decision"))
    message, now = _text(fields, "message", LONGEST_MESSAGE), site.time()
    if decision not in records.DECISIONS:
        raise HTTPException(422, "no such decision")
    if decision == "asked" and not message:
        return await _page(request, site, 422, wrong=site.curator_wording.error_message)
    chosen = {picture: version for picture, _, version in (each.partition(" ") for each in seen)}
    changed = await site.change(lambda: records.decide(site.store, chosen, decision, message, now))
    return await _page(request, site, 409, changed=changed) if changed else _back(fields)


@GUARDED.post("/consent")
async def consent(request: Request, site: ThisSite) -> Response:
    """Keep the text that people agree to from now on."""
    fields = await _own_form(request)
    language = _first(fields, "language")
    if language not in {each.language for each in site.wordings}:
        raise HTTPException(422, "no such language")
    text = "\n\n".join(filter(None, map(clean_text, _first(fields, "text").replace("\r", "").split("\n\n"))))
    await ask(site.store.set_consent_text(language, text[:LONGEST_CONSENT]))
    return RedirectResponse("/curator#consent", 303)


@GUARDED.get("/pictures/{picture}")
async def preview(picture: str, site: ThisSite) -> Response:
    """Show a picture, small; what training leaves out is dark."""
    return sent_picture(site, "previews", await ask(records.name_of(site.store, picture)))


@GUARDED.get("/pictures/{picture}/whole")
async def whole(picture: str, site: ThisSite) -> Response:
    """Show a picture as it is stored."""
    return sent_picture(site, "pictures", await ask(records.name_of(site.store, picture)))
