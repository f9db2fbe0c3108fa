"""How much one address or session may ask in a minute."""

import time
from collections import OrderedDict
from dataclasses import dataclass, field

from fastapi import HTTPException, Request

KEYS = 50_000
"""Most addresses and sessions remembered; those unused for longest are forgotten."""


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
        if len(self.keys) > KEYS:
            self.keys.popitem(last=False)
        if left < 1:
            raise HTTPException(429, "too many requests; wait a minute", {"Retry-After": "10"})


def address(request: Request) -> str:
    """Return where a request comes from; it is counted and never kept."""
    return request.client.host if request.client else "unknown"
