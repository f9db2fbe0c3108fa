"""What the routes share: what is shown and kept, the limits, and who asks."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request

from pipeline_steps.survey.server.contents import Survey
from pipeline_steps.survey.server.store import Participant, Store
from pipeline_steps.web.limits import Limiter, address
from pipeline_steps.web.sessions import Sessions

SESSIONS = Sessions("survey_session")


@dataclass(frozen=True)
class Site:
    """A survey as it is served.

    Attributes:
        survey: what is shown.
        store: what is kept.
        admin_token: opens the export; none: there is no export.
        requests: what a session may ask.
        arrivals: pages and enrolments of an address.
        failures: wrong codes and tokens of an address.
    """

    survey: Survey
    store: Store
    admin_token: str | None
    requests: Limiter
    arrivals: Limiter
    failures: Limiter


async def _site(request: Request) -> Site:
    return request.app.state.site


ThisSite = Annotated[Site, Depends(_site)]


async def _person(request: Request, site: ThisSite) -> Participant:
    token = SESSIONS.token(request)
    site.requests.take(token or address(request))
    found = await ask(site.store.who(token)) if token else None
    if found is None or found.culture not in site.survey.cultures:
        raise HTTPException(401, "not enrolled")
    return found


Person = Annotated[Participant, Depends(_person)]


async def ask(future: Any) -> Any:
    """Wait for the store without holding up other requests."""
    return await asyncio.wrap_future(future)
