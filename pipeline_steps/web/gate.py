"""Who comes in: counts what is asked before it is looked at, and slows down who tries secrets."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, TypedDict

from fastapi import HTTPException, Request

from pipeline_steps.web.limits import Limiter, address, too_many
from pipeline_steps.web.sessions import Sessions

FAILURES = 10
"""Tries of one wrong secret from one address in a minute."""


class Limits(TypedDict):
    """Limits as a gate takes them."""

    requests: Limiter
    arrivals: Limiter
    failures: Limiter


def limits(per_minute: int, clock: Callable[[], float] = time.monotonic) -> Limits:
    """Return the limits of a gate.

    Args:
        per_minute: requests a session may make in a minute; an address may make four times as many for
            those who have no session yet.
        clock: seconds that only ever go on.
    """
    return {
        "requests": Limiter(per_minute, clock),
        "arrivals": Limiter(4 * per_minute, clock),
        "failures": Limiter(FAILURES, clock),
    }


@dataclass(kw_only=True)
class Gate:
    """The limits of a site.

    Attributes:
        requests: what a session may ask; it remembers the sessions that were found good.
        arrivals: what an address may ask for those who have no such session yet.
        failures: tries of one wrong secret, and of wrong tokens, from one address.
        now: the time.
    """

    sessions: ClassVar[Sessions]
    """Of those who are counted by session."""
    doors: ClassVar[tuple[str, ...]]
    """What the paths begin with that may bring a right secret."""
    requests: Limiter
    arrivals: Limiter
    failures: Limiter
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def time(self) -> str:
        """Return the time as text, to the second."""
        return self.now().isoformat(timespec="seconds")

    def count(self, request: Request) -> None:
        """Count a request before its body is read.

        Those that may bring a right secret are let through to have it looked at: a right one is never
        refused, whatever others at the same address do.

        Raises:
            HTTPException: 429, too many.
        """
        path = request.url.path
        if request.method in ("GET", "HEAD") and not path.startswith("/api/"):
            return
        token = self.sessions.token(request)
        known = token in self.requests
        within = self.requests.count(token) if known else self.arrivals.count(address(request))
        request.state.within = within
        if not within and not path.startswith(self.doors):
            raise too_many()

    def refuse(self, request: Request, key: str, refusal: HTTPException) -> HTTPException:
        """Return the answer to a wrong secret: the refusal, or that these are too many tries."""
        within = getattr(request.state, "within", True)
        return refusal if self.failures.count(f"{address(request)} {key}") and within else too_many()
