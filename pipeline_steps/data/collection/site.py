"""What the routes share: what is shown and kept, the limits, and who asks."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, HTTPException, Request

from pipeline_steps.data.collection import records
from pipeline_steps.data.collection.captions import Captions
from pipeline_steps.data.collection.folder import Folder
from pipeline_steps.data.collection.intake import Intake
from pipeline_steps.data.collection.secret import Secret
from pipeline_steps.data.collection.store import Contributor, Store
from pipeline_steps.data.collection.wording import FOLDER, CuratorWording, Wording
from pipeline_steps.web.database import ask
from pipeline_steps.web.gate import Gate
from pipeline_steps.web.sessions import Sessions

LOG = logging.getLogger(__name__)
PEOPLE = Sessions("collection_session")
CURATORS = Sessions("collection_curator", "/curator")
T = TypeVar("T")


@dataclass
class Site(Gate):
    """A collection as it is served.

    Attributes:
        name: of the culture, as people write it.
        store: what is kept.
        folder: its files, and the data set that comes out.
        intake: takes pictures in.
        captions: what captions are held against.
        wordings: the contributors' sentences in every language offered, the first one first.
        curator_wording: the curator's.
        secret: the curator's.
        address: of the pages, as people are to open them.
        keep_originals: whether the files as they were sent are kept as well.
        allowed_hosts: servers of links that may lie on a private network.
        template: the contributor's page.
        curators: their sessions; they end with the server.
        fetching: contributors for whom a link is being fetched.
        fetchers: threads that fetch links.
    """

    sessions = PEOPLE
    doors = ("/api/enter", "/curator")
    name: str
    store: Store
    folder: Folder
    intake: Intake
    captions: Captions
    wordings: Sequence[Wording]
    curator_wording: CuratorWording
    secret: Secret
    address: str
    keep_originals: bool = False
    allowed_hosts: tuple[str, ...] = ()
    template: Path = FOLDER / "page.html"
    curators: set[str] = field(default_factory=set)
    fetching: set[str] = field(default_factory=set)
    fetchers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, "fetch"))

    async def change(self, action: "Callable[[], Future[T]]") -> T:
        """Do something to the store that the folder shows, and have it shown when this returns."""

        def both() -> T:
            with self.folder.lock:
                result = action().result()
                self.folder.publish(records.data_set(self.store).result())
                return result

        return await asyncio.to_thread(both)

    def link(self, secret: str) -> str:
        """Return a personal link; what stands after # reaches no log of any server."""
        return f"{self.address}/#link={secret}"

    def curator_link(self) -> str:
        """Return the curator's address."""
        return f"{self.address}/curator#key={self.secret.value}"


async def _site(request: Request) -> Site:
    found: Site = request.app.state.site
    return found


ThisSite = Annotated[Site, Depends(_site)]


async def _person(request: Request, site: ThisSite) -> Contributor:
    token = PEOPLE.token(request)
    found: Any = await ask(site.store.who(token)) if token else None
    if not isinstance(found, Contributor):
        raise HTTPException(401, "no personal link")
    site.requests.know(token)
    return found


Person = Annotated[Contributor, Depends(_person)]


async def _giver(found: Person) -> Contributor:
    if not found.takes_part:
        raise HTTPException(403, "consent is needed first")
    return found


Giver = Annotated[Contributor, Depends(_giver)]
