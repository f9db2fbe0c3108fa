"""The application: the routes behind the shield."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp

from pipeline_steps.survey.server import admin, answers, participants
from pipeline_steps.survey.server.contents import Survey
from pipeline_steps.survey.server.records import closed_since
from pipeline_steps.survey.server.site import Site
from pipeline_steps.survey.server.store import ClosedError, Store
from pipeline_steps.web.database import ask
from pipeline_steps.web.gate import limits
from pipeline_steps.web.shield import Shield

LONGEST_BODY = 32 * 1024
"""Bytes; a page's four answers take less than one kilobyte."""


def create_app(
    survey: Survey,
    store: Store,
    admin_token: str | None,
    per_minute: int = 300,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ASGIApp:
    """Build the application.

    Args:
        survey: what is shown.
        store: what is kept; it is closed when the server stops.
        admin_token: opens the administrator's page; none: there is none.
        per_minute: requests a session may make in a minute; an address may make four times as many for
            those who have no session yet.
        clock: seconds that only ever go on, for the limits.
        now: the time, for what is written down.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        site.closed = await ask(closed_since(store))
        yield
        await asyncio.to_thread(store.close)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    site = app.state.site = Site(survey, store, admin_token or None, **limits(per_minute, clock), now=now)
    app.add_exception_handler(SQLAlchemyError, _not_stored)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(ClosedError, _closed)
    for routes in (participants.ROUTES, answers.ROUTES, admin.OPEN, admin.GUARDED):
        app.include_router(routes)
    return Shield(app, LONGEST_BODY, site.count)


async def _not_stored(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"detail": "the answer could not be stored; try again"}, 503, {"Retry-After": "2"})


async def _not_understood(request: Request, error: Exception) -> Response:
    """Name the fields that are wrong, and never what stood in them."""
    assert isinstance(error, RequestValidationError)
    if not getattr(request.state, "within", True):
        return JSONResponse({"detail": "too many requests; wait a minute"}, 429, {"Retry-After": "10"})
    fields = sorted({str(part) for fault in error.errors() for part in fault["loc"][1:2]} & KNOWN)
    return JSONResponse({"detail": f"not understood: {', '.join(fields) or 'the request'}"}, 422)


KNOWN = {*participants.Enrolment.model_fields, *answers.PageAnswers.model_fields}
"""Fields that an answer may name: any other name is a stranger's."""


async def _closed(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"detail": "the survey is closed"}, 403)
