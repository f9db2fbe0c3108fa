"""The administrator's page: how far people are, the answers, who is to go, and the end of the survey."""

from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse

from pipeline_steps.drawing.page import TEMPLATES, render
from pipeline_steps.survey.server import export, records
from pipeline_steps.survey.server.site import ADMINS, Site, ThisSite
from pipeline_steps.web.database import ask
from pipeline_steps.web.forms import read_form
from pipeline_steps.web.sessions import csrf_of, new_token

PAGE = TEMPLATES / "survey_admin.html"
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def _is_let_in(request: Request, site: Site) -> bool:
    """Whether a request brings the admin token, or the session of somebody who brought it."""
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    return ADMINS.token(request) in site.admins or bool(given and site.is_admin(given))


async def _there(site: ThisSite) -> None:
    if site.admin_token is None:
        raise HTTPException(404, "the server was started without an admin token")


async def _admin(request: Request, site: ThisSite) -> None:
    if not _is_let_in(request, site):
        wrong = HTTPException(401, "wrong admin token", {"WWW-Authenticate": "Bearer"})
        raise site.refuse(request, "admin", wrong)


OPEN = APIRouter(prefix="/admin", dependencies=[Depends(_there)])
GUARDED = APIRouter(prefix="/admin", dependencies=[Depends(_there), Depends(_admin)])


async def _form(request: Request) -> dict[str, str]:
    """Read a form that the page sent."""
    return {name: values[0] for name, values in (await read_form(request)).items()}


async def _own_form(request: Request) -> dict[str, str]:
    """Read a form and make sure that it is this page's."""
    fields = await _form(request)
    ADMINS.check(request, fields.get("csrf", ""))
    return fields


async def _page(request: Request, site: Site, status: int = 200, **news: Any) -> Response:
    """Show where the survey stands, or ask for the token."""
    inside = ADMINS.token(request) in site.admins
    survey = site.survey
    text = render(
        PAGE,
        inside=inside,
        csrf=csrf_of(ADMINS.token(request)),
        progress=await ask(records.progress(site.store, sorted(survey.cultures))) if inside else [],
        name=survey.name,
        closed=site.closed,
        codes=None if survey.codes is None else len(survey.codes),
        **({"wrong": "", "gone": None, "nobody": ""} | news),
    )
    return HTMLResponse(text, status, {"Content-Security-Policy": POLICY})


@OPEN.get("")
async def page(request: Request, site: ThisSite) -> Response:
    """Show the page."""
    return await _page(request, site)


@OPEN.post("/login")
async def login(request: Request, site: ThisSite) -> Response:
    """Let the holder of the token in."""
    if not site.is_admin((await _form(request)).get("token", "")):
        refusal = site.refuse(request, "admin", HTTPException(401, "This is not the token."))
        return await _page(request, site, refusal.status_code, wrong=refusal.detail)
    session = new_token()
    site.admins.add(session)
    response = RedirectResponse("/admin", 303)
    ADMINS.begin(response, request, session, None)
    return response


@GUARDED.post("/leave")
async def leave(request: Request, site: ThisSite) -> Response:
    """End the administrator's session."""
    await _own_form(request)
    site.admins.discard(ADMINS.token(request))
    response = RedirectResponse("/admin", 303)
    ADMINS.end(response)
    return response


@GUARDED.post("/delete")
async def delete(request: Request, site: ThisSite) -> Response:
    """Delete one person, and name the downloads that hold answers of theirs."""
    participant = (await _own_form(request)).get("participant", "").strip()
    gone = await ask(records.delete(site.store, participant))
    if gone is None:
        return await _page(request, site, 404, nobody=participant)
    return await _page(request, site, gone=(participant, *gone))


@GUARDED.post("/closed")
async def set_closed(request: Request, site: ThisSite) -> Response:
    """Close the survey, or open it again."""
    closed = (await _own_form(request)).get("closed") == "yes"
    await ask(records.set_closed(site.store, closed, site.time()))
    site.closed = site.time() if closed else None
    return RedirectResponse("/admin", 303)


@GUARDED.get("/answers.csv")
async def answers_csv(site: ThisSite) -> Response:
    """Stream all answers as CSV."""
    await ask(records.record_export(site.store, "answers.csv", site.time()))
    return _file(StreamingResponse(export.lines(site), media_type="text/csv; charset=utf-8"), "csv")


@GUARDED.get("/answers.parquet")
def answers_parquet(site: ThisSite) -> Response:
    """Send all answers as Parquet."""
    records.record_export(site.store, "answers.parquet", site.time()).result()
    return _file(Response(export.parquet(site), media_type="application/vnd.apache.parquet"), "parquet")


def _file(response: Response, kind: str) -> Response:
    response.headers["Content-Disposition"] = f'attachment; filename="answers.{kind}"'
    return response
