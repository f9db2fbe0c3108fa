"""What the routes share: what is shown and kept, the limits, and who asks."""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from pipeline_steps.survey.server.contents import Survey
from pipeline_steps.survey.server.store import Participant, Store
from pipeline_steps.web.database import ask
from pipeline_steps.web.limits import Limiter, address, too_many
from pipeline_steps.web.sessions import Sessions

SESSIONS = Sessions("survey_session")
ADMINS = Sessions("survey_admin", "/admin")


@dataclass
class Site:
    """A survey as it is served.

    Attributes:
        survey: what is shown.
        store: what is kept.
        admin_token: opens the administrator's page; none: there is none.
        requests: what a session may ask; it remembers the sessions that were found good.
        arrivals: what an address may ask for those who have no such session yet.
        failures: tries of one wrong code, and of wrong tokens, from one address.
        now: the time.
        closed: since when no answers are taken.
        admins: sessions of administrators; they end with the server.
    """

    survey: Survey
    store: Store
    admin_token: str | None
    requests: Limiter
    arrivals: Limiter
    failures: Limiter
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    closed: str | None = None
    admins: set[str] = field(default_factory=set)

    def time(self) -> str:
        """Return the time as text, to the second."""
        return self.now().isoformat(timespec="seconds")

    def count(self, request: Request) -> None:
        """Count a request before its body is read.

        Those that may bring a right code or token are let through to have it looked at: a right one is never
        refused, whatever others at the same address do.

        Raises:
            HTTPException: 429, too many.
        """
        path = request.url.path
        if request.method in ("GET", "HEAD") and not path.startswith("/api/"):
            return
        token = SESSIONS.token(request)
        known = token in self.requests
        within = self.requests.count(token) if known else self.arrivals.count(address(request))
        request.state.within = within
        if not within and path != "/api/enrol" and not path.startswith("/admin"):
            raise too_many()

    def refuse(self, request: Request, key: str, refusal: HTTPException) -> HTTPException:
        """Return the answer to a wrong code or token: the refusal, or that these are too many tries."""
        within = getattr(request.state, "within", True)
        return refusal if self.failures.count(f"{address(request)} {key}") and within else too_many()

    def is_admin(self, given: str) -> bool:
        """Compare a token with the administrator's."""
        right = self.admin_token or secrets.token_urlsafe()
        return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())


async def _site(request: Request) -> Site:
    return request.app.state.site


ThisSite = Annotated[Site, Depends(_site)]


async def _person(request: Request, site: ThisSite) -> Participant:
    token = SESSIONS.token(request)
    found = await ask(site.store.who(token)) if token else None
    if found is None or found.culture not in site.survey.cultures:
        raise HTTPException(401, "not enrolled")
    site.requests.know(token)
    return found


Person = Annotated[Participant, Depends(_person)]
