"""The application: the routes behind the shield."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp

from pipeline_steps.data.collection import contributors, curators, pictures, records
from pipeline_steps.data.collection.intake import FullError
from pipeline_steps.data.collection.site import LOG, Site
from pipeline_steps.data.collection.store import NobodyError, RefusedError
from pipeline_steps.data.picture_files import UnusableError
from pipeline_steps.errors import FULL
from pipeline_steps.web.database import ask
from pipeline_steps.web.shield import Shield

LONGEST_BODY = 128 * 1024
"""Bytes; a decision on 2000 pictures takes less."""
UPLOAD_SECONDS = 300.0
"""A picture must be there after this long; a telephone far from the next mast needs minutes."""


def create_app(site: Site) -> ASGIApp:
    """Build the application; the site's store is closed when the server stops."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # What an interruption left between the database and the folder is mended before anybody comes in.
        await asyncio.to_thread(site.folder.publish, await ask(records.data_set(site.store)))
        await _say_what_has_no_text(site)
        yield
        await asyncio.to_thread(site.store.close)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.site = site
    for error, answer in ANSWERS.items():
        app.add_exception_handler(error, answer)
    for routes in (contributors.ROUTES, pictures.ROUTES, curators.OPEN, curators.GUARDED):
        app.include_router(routes)
    largest = int(site.intake.config.max_megabytes * 1e6)
    return Shield(app, LONGEST_BODY, site.count, uploads={pictures.UPLOAD: (largest, UPLOAD_SECONDS)})


async def _say_what_has_no_text(site: Site) -> None:
    """Warn of categories and licences that stored pictures have and the wordings have not."""
    words = site.wordings[0]  # all offer the same
    lacking = [
        f"{column} '{key}'"
        for column, texts in (("category", words.categories), ("licence", words.licences))
        for key in await ask(records.chosen(site.store, column))
        if key not in texts
    ]
    if lacking:
        LOG.warning(
            "the wordings have no text for %s of stored pictures, and the pages show the key; put it back "
            "into each wording, or ask the contributors to choose another",
            ", ".join(lacking),
        )


def _refusal(status: int, detail: str, reason: str, **headers: str) -> Response:
    return JSONResponse({"detail": detail, "reason": reason}, status, headers)


async def _unusable(_request: Request, error: Exception) -> Response:
    return _refusal(422, f"this file: {error}", "unusable")


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _refusal(409 if error.reason in ("given_before", "consent") else 422, error.reason, error.reason)


async def _nobody(_request: Request, _error: Exception) -> Response:
    return _refusal(404, "no such picture", "")


async def _full(_request: Request, error: Exception) -> Response:
    return _refusal(507, "the server's disk is full; nothing was stored", "full")


async def _not_stored(request: Request, error: Exception) -> Response:
    if "is full" in str(error):
        return await _full(request, error)
    return _refusal(503, "it could not be stored; try again", "", **{"Retry-After": "2"})


async def _no_room(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    if error.errno not in FULL:
        raise error
    return await _full(request, error)


async def _not_understood(_request: Request, error: Exception) -> Response:
    """Name the fields that are wrong, and never what stood in them."""
    assert isinstance(error, RequestValidationError)
    fields = sorted({str(part) for fault in error.errors() for part in fault["loc"][1:2]} & KNOWN)
    return _refusal(422, f"not understood: {', '.join(fields) or 'the request'}", "")


GIVEN = (contributors.Key, contributors.Introduction, contributors.Caption, pictures.Link, pictures.Details)
KNOWN = {name for kind in GIVEN for name in kind.model_fields}
"""Fields that an answer may name: any other name is a stranger's."""
ANSWERS: dict[Any, Any] = {
    UnusableError: _unusable,
    RefusedError: _refused,
    NobodyError: _nobody,
    FullError: _full,
    OSError: _no_room,
    SQLAlchemyError: _not_stored,
    RequestValidationError: _not_understood,
}
