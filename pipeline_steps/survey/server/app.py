"""The server's routes, and what guards them."""

import asyncio
import csv
import hmac
import io
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline_steps.artifacts import PAGES
from pipeline_steps.survey.server.store import Participant, Store, TakenError
from pipeline_steps.survey.shown import ITEMS, encode, page_contents, read_forms, render
from pipeline_steps.survey.wording import Wording

COOKIE = "survey_session"
LONGEST_BODY = 32 * 1024
"""Bytes; a page's four answers take less than one kilobyte."""
COLUMNS = ("participant", "culture", "page", "item", "picture", "rank", "years")


@dataclass
class Limiter:
    """At most ``per_minute`` actions of one key, as many at once; keys long unused are forgotten."""

    per_minute: int
    keys: "OrderedDict[str, tuple[float, float]]" = field(default_factory=OrderedDict)

    def take(self, key: str, count: int = 1) -> None:
        """Count an action; with a count of 0, only ask whether one is still allowed.

        Raises:
            HTTPException: 429, too many.
        """
        now = time.monotonic()
        left, then = self.keys.pop(key, (float(self.per_minute), now))
        left = min(self.per_minute, left + (now - then) * self.per_minute / 60)
        self.keys[key] = (max(left - count, 0), now)
        if len(self.keys) > 50_000:
            self.keys.popitem(last=False)
        if left < 1:
            raise HTTPException(429, "too many requests; wait a minute", {"Retry-After": "10"})


@dataclass(frozen=True)
class Culture:
    """A culture's survey as the server holds it."""

    pages: dict[str, dict[str, Any]]
    forms: list[list[str]]


@dataclass(frozen=True)
class Survey:
    """Everything that is shown.

    Attributes:
        cultures: by name.
        pictures: bytes and media type by name.
        wording: the sentences.
        template: the page's HTML.
        min_years: least years lived in a culture.
        codes: admitted participants; none: open enrolment.
    """

    cultures: dict[str, Culture]
    pictures: dict[str, tuple[bytes, str]]
    wording: Wording
    template: Path
    min_years: float
    codes: frozenset[str] | None


def load_survey(
    pages: list[Path],
    forms: list[Path],
    wording: Wording,
    template: Path,
    min_years: float,
    jpeg_quality: int | None,
    codes: frozenset[str] | None,
) -> Survey:
    """Read pages and forms of all cultures; no variant's name gets further than here."""
    cultures, pictures = {}, {}
    for page_table, form_table in zip(pages, forms, strict=True):
        culture = str(PAGES.note(page_table)["culture"])
        cultures[culture] = Culture(page_contents(page_table), read_forms(form_table))
        for row in PAGES.rows(page_table, ["picture", "image"]):
            pictures[row["picture"]] = encode(row["image"], jpeg_quality)
    return Survey(cultures, pictures, wording, template, min_years, codes)


class Enrolment(BaseModel):
    """What a person gives before the first page."""

    model_config = ConfigDict(extra="forbid", strict=True)
    consent: bool
    code: str = Field("", max_length=64, pattern=r"^[A-Za-z0-9_-]*$")
    culture: str = Field(max_length=64)
    years: float = Field(ge=0, le=120)


class PageAnswers(BaseModel):
    """Rankings of one page: item to picture to rank, or null for a blank."""

    model_config = ConfigDict(extra="forbid", strict=True)
    page: str = Field(max_length=128)
    answers: dict[str, dict[str, int] | None] = Field(min_length=1, max_length=len(ITEMS))


def create_app(survey: Survey, store: Store, admin_token: str | None, per_minute: int = 300) -> ASGIApp:
    """Build the application.

    Args:
        survey: what is shown.
        store: what is kept.
        admin_token: opens the export; none: there is no export.
        per_minute: requests a session, and enrolments an address, may make in a minute.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> Any:
        yield
        await asyncio.to_thread(store.close)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    requests, arrivals, failures = Limiter(per_minute), Limiter(4 * per_minute), Limiter(10)
    shown = {name: {"forms": [], "pages": culture.pages} for name, culture in survey.cultures.items()}

    def address(request: Request) -> str:
        return request.client.host if request.client else "unknown"

    def session(request: Request) -> str:
        return request.cookies.get(COOKIE, "")

    def guard(request: Request) -> None:
        """Let only this site's own page change anything: it alone knows the session's CSRF token."""
        given = request.headers.get("x-csrf-token", "")
        if not session(request) or not hmac.compare_digest(
            given.encode(), csrf_of(session(request)).encode()
        ):
            raise HTTPException(403, "no valid CSRF token; load the page again")
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise HTTPException(403, "requests from other sites are not taken")

    async def person(request: Request) -> Participant:
        requests.take(session(request) or address(request))
        found = await ask(store.who(session(request))) if session(request) else None
        if found is None or found.culture not in survey.cultures:
            raise HTTPException(401, "not enrolled")
        return found

    def state_of(found: Participant, answers: dict[str, Any], token: str) -> dict[str, Any]:
        forms = survey.cultures[found.culture].forms
        return {
            "participant": found.participant,
            "culture": found.culture,
            "years": found.years,
            "pages": forms[found.form % len(forms)],
            "answers": answers,
            "csrf": csrf_of(token),
        }

    @app.exception_handler(SQLAlchemyError)
    async def database(_request: Request, _error: SQLAlchemyError) -> Response:
        return JSONResponse(
            {"detail": "the answer could not be stored; try again"}, 503, {"Retry-After": "2"}
        )

    @app.get("/healthz")
    async def health() -> dict[str, bool]:
        await ask(store.who(""))
        return {"ok": True}

    @app.get("/")
    async def page(request: Request) -> Response:
        arrivals.take(address(request))
        token = session(request)
        known = await ask(store.who(token)) if token else None
        fresh = known is None and len(token) < 32
        token = secrets.token_urlsafe(32) if fresh else token
        nonce = secrets.token_urlsafe(16)
        server = {"csrf": csrf_of(token), "enrolled": known is not None, "codes": survey.codes is not None}
        data = {"cultures": shown, "minYears": survey.min_years, "server": server}
        response = HTMLResponse(render(survey.template, survey.wording, data, nonce))
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
            "frame-ancestors 'none'"
        )
        if fresh:
            set_session(response, request, token)
        return response

    @app.get("/pictures/{picture}")
    async def picture(picture: str) -> Response:
        if picture not in survey.pictures:
            raise HTTPException(404, "no such picture")
        data, kind = survey.pictures[picture]
        return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=86400, immutable"})

    @app.post("/api/enrol", dependencies=[Depends(guard)])
    async def enrol(request: Request, response: Response, enrolment: Enrolment) -> dict[str, Any]:
        arrivals.take(address(request))
        if not enrolment.consent:
            raise HTTPException(422, "consent is needed")
        if enrolment.culture not in survey.cultures or enrolment.years < survey.min_years:
            raise HTTPException(422, f"needs {survey.min_years:g} years in a surveyed culture")
        failures.take(address(request), 0)  # or guessing would go on beside the refusals
        if survey.codes is not None and enrolment.code not in survey.codes:
            failures.take(address(request))
            raise HTTPException(403, "unknown code")
        try:
            found, token = await ask(
                store.enrol(enrolment.code, enrolment.culture, enrolment.years, survey.codes is not None)
            )
        except TakenError:
            failures.take(address(request))
            raise HTTPException(409, "this code is taken; choose another or leave it empty") from None
        set_session(response, request, token)
        return state_of(found, await ask(store.answers(found.participant)), token)

    @app.get("/api/me")
    async def me(request: Request, found: Annotated[Participant, Depends(person)]) -> dict[str, Any]:
        return state_of(found, await ask(store.answers(found.participant)), session(request))

    @app.put("/api/answers", dependencies=[Depends(guard)])
    async def answers(given: PageAnswers, found: Annotated[Participant, Depends(person)]) -> dict[str, int]:
        culture = survey.cultures[found.culture]
        if given.page not in culture.forms[found.form % len(culture.forms)]:
            raise HTTPException(422, "this page is not one of yours")
        pictures = culture.pages[given.page]["pictures"]
        for item, ranks in given.answers.items():
            if item not in ITEMS:
                raise HTTPException(422, "unknown item")
            if ranks is not None and (
                ranks.keys() != set(pictures) or sorted(ranks.values()) != list(range(1, len(pictures) + 1))
            ):
                raise HTTPException(422, f"{item}: each picture needs a rank of its own")
        await ask(store.save(found.participant, given.page, given.answers))
        return {"stored": len(given.answers)}

    def admin(request: Request) -> None:
        if admin_token is None:
            raise HTTPException(404, "no export: the server was started without an admin token")
        failures.take(address(request), 0)
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {admin_token}".encode()):
            failures.take(address(request))
            raise HTTPException(401, "wrong admin token", {"WWW-Authenticate": "Bearer"})

    def rows() -> Iterator[dict[str, Any]]:
        """All answers in the generic long form; a blank answer has a row without a rank per picture.

        Answers to pages of an earlier start, no longer shown, are exported like the others.
        """
        every_page = {
            name: page for culture in survey.cultures.values() for name, page in culture.pages.items()
        }
        for answer in store.everything():
            known = every_page.get(answer["page"], {"pictures": answer["ranks"] or ["unknown"]})
            for name in known["pictures"]:
                rank = None if answer["ranks"] is None else answer["ranks"].get(name)
                yield {**answer, "picture": name, "rank": rank}

    @app.get("/admin/answers.csv", dependencies=[Depends(admin)])
    def export_csv() -> Response:
        def lines() -> Iterator[str]:
            buffer = io.StringIO()
            table = csv.DictWriter(buffer, COLUMNS, extrasaction="ignore", lineterminator="\n")
            table.writeheader()
            for row in rows():
                table.writerow(row)
                if buffer.tell() > 65536:
                    yield buffer.getvalue()
                    buffer.seek(0)
                    buffer.truncate()
            yield buffer.getvalue()

        return StreamingResponse(lines(), media_type="text/csv; charset=utf-8")

    @app.get("/admin/answers.parquet", dependencies=[Depends(admin)])
    def export_parquet() -> Response:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text, kinds = pa.string(), {"rank": pa.int32(), "years": pa.float64()}
        schema = pa.schema([(name, kinds.get(name, text)) for name in COLUMNS])
        table = pa.Table.from_pylist([{name: row[name] for name in COLUMNS} for row in rows()], schema)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        return Response(buffer.getvalue(), media_type="application/vnd.apache.parquet")

    return Shield(app)


async def ask(future: Any) -> Any:
    """Wait for the store without holding up other requests."""
    return await asyncio.wrap_future(future)


def csrf_of(token: str) -> str:
    """Derive a session's CSRF token; other sites can neither read the cookie nor this."""
    return hmac.new(token.encode(), b"csrf", "sha256").hexdigest()


def set_session(response: Response, request: Request, token: str) -> None:
    """Hand the session's secret to the browser, out of reach of scripts and other sites."""
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, token, max_age=60 * 86400, httponly=True, samesite="strict", secure=secure)


class Shield:
    """Refuses long bodies before they are read, and sets the headers every answer needs."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = 0
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > LONGEST_BODY:
            await JSONResponse({"detail": "too long"}, 413)(scope, receive, send)
            return

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > LONGEST_BODY:
                raise HTTPException(413, "too long")
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                message["headers"] += [pair for pair in HEADERS if pair[0] not in names]
            await send(message)

        await self.app(scope, counted, with_headers)


HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
