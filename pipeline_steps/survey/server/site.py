"""What the routes share: what is shown and kept, the limits, and who asks."""

import hmac
import secrets
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from pipeline_steps.survey.server.contents import Survey
from pipeline_steps.survey.server.store import Participant, Store
from pipeline_steps.web.database import ask
from pipeline_steps.web.gate import Gate
from pipeline_steps.web.sessions import Sessions

SESSIONS = Sessions("survey_session")
ADMINS = Sessions("survey_admin", "/admin")


@dataclass
class Site(Gate):
    """A survey as it is served.

    Attributes:
        survey: what is shown.
        store: what is kept.
        admin_token: opens the administrator's page; none: there is none.
        closed: since when no answers are taken.
        admins: sessions of administrators; they end with the server.
    """

    sessions = SESSIONS
    doors = ("/api/enrol", "/admin")
    survey: Survey
    store: Store
    admin_token: str | None
    closed: str | None = None
    admins: set[str] = field(default_factory=set)

    def is_admin(self, given: str) -> bool:
        """Compare a token with the administrator's."""
        right = self.admin_token or secrets.token_urlsafe()
        return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())


async def _site(request: Request) -> Site:
    return request.app.state.site


ThisSite = Annotated[Site, Depends(_site)]


async def person(site: Site, token: str) -> Participant | None:
    """Return whose session this is, of a culture that is shown."""
    found = await ask(site.store.who(token)) if token else None
    return found if found and found.culture in site.survey.cultures else None


async def _person(request: Request, site: ThisSite) -> Participant:
    token = SESSIONS.token(request)
    found = await person(site, token)
    if found is None:
        raise HTTPException(401, "not enrolled")
    site.requests.know(token)
    return found


Person = Annotated[Participant, Depends(_person)]
