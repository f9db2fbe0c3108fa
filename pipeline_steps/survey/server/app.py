"""The application: the routes behind the shield."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp

from pipeline_steps.survey.server import answers, export, participants
from pipeline_steps.survey.server.contents import Survey
from pipeline_steps.survey.server.site import Site
from pipeline_steps.survey.server.store import Store
from pipeline_steps.web.limits import Limiter
from pipeline_steps.web.shield import Shield

LONGEST_BODY = 32 * 1024
"""Bytes; a page's four answers take less than one kilobyte."""
FAILURES = 10
"""Wrong codes or tokens of an address in a minute."""


def create_app(survey: Survey, store: Store, admin_token: str | None, per_minute: int = 300) -> ASGIApp:
    """Build the application.

    Args:
        survey: what is shown.
        store: what is kept; it is closed when the server stops.
        admin_token: opens the export; none: there is no export.
        per_minute: requests a session may make in a minute; an address may enrol four times as many.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(store.close)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    limits = Limiter(per_minute), Limiter(4 * per_minute), Limiter(FAILURES)
    app.state.site = Site(survey, store, admin_token, *limits)
    app.add_exception_handler(SQLAlchemyError, _not_stored)
    for part in (participants, answers, export):
        app.include_router(part.ROUTES)
    return Shield(app, LONGEST_BODY)


async def _not_stored(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"detail": "the answer could not be stored; try again"}, 503, {"Retry-After": "2"})
