"""Pictures as they are given: taken in, described, changed and withdrawn by their own contributor alone."""

import asyncio
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from pipeline_steps.data.collection import records
from pipeline_steps.data.collection.contributors import plain, shown
from pipeline_steps.data.collection.folder import ORIGINALS
from pipeline_steps.data.collection.site import LOG, PEOPLE, Giver, Site, ThisSite
from pipeline_steps.data.collection.store import Contributor, RefusedError
from pipeline_steps.data.fetching import FetchError, get, picture_session
from pipeline_steps.data.public_web import without_credentials
from pipeline_steps.inputs.text import is_visible
from pipeline_steps.web.database import ask

ROUTES = APIRouter()
UPLOAD = "/api/pictures"
"""Where pictures are sent to."""
Upload = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{16,64}$")]
"""A name that the page gives an upload, so that one that is sent again is taken once."""


class Link(BaseModel):
    """A picture that lies elsewhere."""

    model_config = ConfigDict(extra="forbid", strict=True)
    upload: Upload
    url: str = Field(max_length=2000)


class Details(BaseModel):
    """What a contributor writes of a picture."""

    model_config = ConfigDict(extra="forbid", strict=True)
    caption: str = Field(max_length=1000)
    category: str = Field(max_length=64)
    era: Literal["traditional", "modern"]
    origin: Literal["own", "other"]
    author: str = Field("", max_length=200)
    licence: str = Field("", max_length=64)
    people: Literal["none", "agreed", "not asked"]
    remark: str = Field("", max_length=500)


@ROUTES.post(UPLOAD, dependencies=[Depends(PEOPLE.guard)])
async def upload(
    request: Request, found: Giver, site: ThisSite, upload: Annotated[Upload, Query()]
) -> dict[str, Any]:
    """Take a picture in; it is answered once it is on the disk and in the database."""
    if (again := await ask(site.store.uploaded(found.contributor, upload))) is not None:
        return shown(again)
    await ask(site.store.room(found.contributor))
    size = int(request.headers.get("content-length", 0))
    site.folder.check_room(2 * size)
    with site.folder.incoming() as folder:
        sent = folder / "sent"
        with sent.open("wb") as file:
            async for piece in request.stream():
                file.write(piece)
        return shown(await _take(site, found, upload, folder, ""))


@ROUTES.post("/api/links", dependencies=[Depends(PEOPLE.guard)])
async def link(given: Link, found: Giver, site: ThisSite) -> dict[str, Any]:
    """Fetch a picture from its address, never from the own network, and take it in."""
    if (again := await ask(site.store.uploaded(found.contributor, given.upload))) is not None:
        return shown(again)
    await ask(site.store.room(found.contributor))
    site.folder.check_room()
    url = without_credentials(given.url.strip())
    if found.contributor in site.fetching:
        raise RefusedError("busy")
    site.fetching.add(found.contributor)
    try:
        fetched = asyncio.get_running_loop().run_in_executor(site.fetchers, _fetch, site, url)
        data = await fetched
    except FetchError as error:
        LOG.info("a link gave no picture: %s", error)
        raise RefusedError("link") from None  # what lies in the own network is nobody's business
    finally:
        site.fetching.discard(found.contributor)
    with site.folder.incoming() as folder:
        (folder / "sent").write_bytes(data)
        return shown(await _take(site, found, given.upload, folder, url))


def _fetch(site: Site, url: str) -> bytes:
    with picture_session(site.allowed_hosts) as session:
        return get(session, url, site.intake.config.max_megabytes)


async def _take(site: Site, found: Contributor, upload: str, folder: Path, url: str) -> dict[str, Any]:
    """Decode what was sent, put it into its place and into the database; in this order nothing is lost."""
    sent, stored, preview = (folder / name for name in ("sent", "stored", "preview"))
    loop = asyncio.get_running_loop()
    taken = await loop.run_in_executor(site.intake.workers, site.intake.take_in, sent, stored, preview)
    picture, place = secrets.token_hex(8), site.folder.file
    files = {place("pictures", taken.name): stored, place("previews", taken.name): preview}
    if site.keep_originals:
        files[place(ORIGINALS, picture)] = sent

    def keep() -> dict[str, Any]:
        with site.folder.lock:
            new, row = site.folder.keep(files), {}
            try:
                row = site.store.add(picture, found.contributor, upload, taken, url, site.time()).result()
            finally:
                if row.get("picture") != picture:  # refused, or an upload that was sent twice at once
                    for path in new:
                        path.unlink(missing_ok=True)
            return row

    return await asyncio.to_thread(keep)


@ROUTES.put("/api/pictures/{picture}", dependencies=[Depends(PEOPLE.guard)])
async def describe(picture: str, given: Details, found: Giver, site: ThisSite) -> dict[str, Any]:
    """Keep what is written of a picture; the curator looks at it next."""
    words = site.wordings[0]
    details = {name: plain(value) for name, value in given.model_dump().items()}
    if not is_visible(details["caption"]):
        raise RefusedError("caption")
    if given.category not in words.categories or given.licence not in ("", *words.licences):
        raise RefusedError("category")
    now = site.time()
    row = await site.change(lambda: site.store.describe(found.contributor, picture, details, now))
    return shown(row)


@ROUTES.post("/api/pictures/{picture}/withdraw", dependencies=[Depends(PEOPLE.guard)])
async def withdraw(picture: str, found: Giver, site: ThisSite) -> dict[str, bool]:
    """Forget a picture; when this is answered its files are gone, and the withdrawn list names it."""
    now = site.time()
    await site.change(lambda: site.store.withdraw(found.contributor, picture, now))
    return {"withdrawn": True}


@ROUTES.get("/pictures/{picture}")
async def preview(picture: str, found: Giver, site: ThisSite) -> Response:
    """Show one's own picture, small."""
    return sent_picture(site, "previews", await ask(records.name_of(site.store, picture, found.contributor)))


def sent_picture(site: Site, kind: str, name: str | None) -> Response:
    """Return a kept picture's file; it is a JPEG that this server wrote, and is shown as nothing else."""
    path = site.folder.file(kind, name or "none")
    if name is None or not path.is_file():
        raise HTTPException(404, "no such picture")
    return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})
