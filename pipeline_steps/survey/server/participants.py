"""The survey's page, its pictures, and who takes part."""

from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from pipeline_steps.survey.server.site import SESSIONS, Person, Site, ThisSite, person
from pipeline_steps.survey.server.store import Admission, Participant, TakenError
from pipeline_steps.survey.shown import render
from pipeline_steps.web.database import ask
from pipeline_steps.web.limits import too_many
from pipeline_steps.web.sessions import DAYS, csrf_of
from pipeline_steps.web.shield import page_response

ROUTES = APIRouter()


class Enrolment(BaseModel):
    """What a person gives before the first page."""

    model_config = ConfigDict(extra="forbid", strict=True)
    consent: bool
    code: str = Field("", max_length=64, pattern=r"^[A-Za-z0-9_-]*$")
    culture: str = Field(max_length=64)
    years: float = Field(ge=0, le=120, allow_inf_nan=False)


@ROUTES.get("/healthz")
async def health(site: ThisSite) -> dict[str, bool]:
    """Say that the server and its database answer."""
    await ask(site.store.who(""))
    return {"ok": True}


@ROUTES.get("/")
async def page(request: Request, site: ThisSite) -> Response:
    """Show the page; who has no session gets one."""
    token, fresh = SESSIONS.own_or_new(request)
    survey = site.survey
    shown = {
        name: {"name": survey.name(name), "forms": [], "pages": culture.pages}
        for name, culture in survey.cultures.items()
    }
    server = {
        "csrf": csrf_of(token),
        "enrolled": not fresh,
        "codes": survey.codes is not None,
        "kiosk": survey.kiosk,
        "closed": site.closed is not None,
    }
    data = {"cultures": shown, "minYears": survey.min_years, "server": server}
    response = page_response(lambda nonce: render(survey.template, survey.wordings, data, nonce))
    if fresh:
        _begin(site, response, request, token)
    return response


@ROUTES.get("/pictures/{picture}")
async def picture(picture: str, site: ThisSite) -> Response:
    """Show one picture."""
    if picture not in site.survey.pictures:
        raise HTTPException(404, "no such picture")
    data, kind = site.survey.pictures[picture]
    return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=86400, immutable"})


@ROUTES.post("/api/enrol", dependencies=[Depends(SESSIONS.guard)])
async def enrol(request: Request, response: Response, enrolment: Enrolment, site: ThisSite) -> dict[str, Any]:
    """Take a person in, or let the owner of a code go on.

    A right code is never refused for what others do; wrong ones are slowed down, code by code. Who brings no
    code but a session goes on with it, for one person would count as two; not at a kiosk, where the next one
    may come to a session that was left open.
    """
    survey, code = site.survey, enrolment.code
    if survey.codes is None and not request.state.within:
        raise too_many()
    if survey.codes is not None and code not in survey.codes:
        raise site.refuse(request, code, HTTPException(403, "unknown code"))
    if not enrolment.consent:
        raise HTTPException(422, "consent is needed")
    if enrolment.culture not in survey.cultures or enrolment.years < survey.min_years:
        raise HTTPException(422, f"needs {survey.min_years:g} years in a surveyed culture")
    own = None if code or survey.kiosk else await person(site, SESSIONS.token(request))
    if own is not None:
        return await _state(site, own, SESSIONS.token(request))
    admission: Admission = "open" if survey.codes is None else "code"
    try:
        found, token = await ask(
            site.store.enrol(code, enrolment.culture, enrolment.years, admission, site.time())
        )
    except TakenError:
        taken = HTTPException(409, "this code is taken; choose another or leave it empty")
        raise site.refuse(request, code, taken) from None
    site.requests.know(token)
    _begin(site, response, request, token)
    return await _state(site, found, token)


@ROUTES.post("/api/leave", dependencies=[Depends(SESSIONS.guard)])
async def leave(request: Request, response: Response, site: ThisSite) -> dict[str, bool]:
    """End a session, so that the next person at this device reaches nothing of it."""
    await ask(site.store.leave(SESSIONS.token(request)))
    SESSIONS.end(response)
    return {"left": True}


@ROUTES.get("/api/me")
async def me(request: Request, found: Person, site: ThisSite) -> dict[str, Any]:
    """Return where a person stands, so that the page goes on after a reload."""
    return await _state(site, found, SESSIONS.token(request))


def _begin(site: Site, response: Response, request: Request, token: str) -> None:
    SESSIONS.begin(response, request, token, None if site.survey.kiosk else DAYS)


async def _state(site: Site, found: Participant, token: str) -> dict[str, Any]:
    return {
        "participant": found.participant,
        "culture": found.culture,
        "years": found.years,
        "pages": site.survey.cultures[found.culture].form(found.form),
        "answers": await ask(site.store.answers(found.participant)),
        "csrf": csrf_of(token),
    }
