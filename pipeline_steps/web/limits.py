"""How much one address or session may ask in a minute."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import HTTPException, Request

KEYS = 50_000
"""Most addresses and sessions remembered; those unused for longest are forgotten."""


@dataclass
class Limiter:
    """At most ``per_minute`` actions of one key, as many at once; keys long unused are forgotten.

    Attributes:
        per_minute: actions.
        clock: seconds that only ever go on.
    """

    per_minute: int
    clock: Callable[[], float] = time.monotonic
    keys: "OrderedDict[str, tuple[float, float]]" = field(default_factory=OrderedDict)

    def __contains__(self, key: str) -> bool:
        """Say whether a key was counted before."""
        return key in self.keys

    def know(self, key: str) -> None:
        """Remember a key without counting anything."""
        self._put(key, self.keys.get(key, (float(self.per_minute), self.clock())))

    def count(self, key: str) -> bool:
        """Count an action, and say whether it is within the limit."""
        now = self.clock()
        left, then = self.keys.get(key, (float(self.per_minute), now))
        left = min(self.per_minute, left + (now - then) * self.per_minute / 60)
        self._put(key, (left - 1 if left >= 1 else left, now))
        return left >= 1

    def _put(self, key: str, value: tuple[float, float]) -> None:
        self.keys[key] = value
        self.keys.move_to_end(key)
        if len(self.keys) > KEYS:
            self.keys.popitem(last=False)

    def take(self, key: str) -> None:
        """Count an action.

        Raises:
            HTTPException: 429, too many.
        """
        if not self.count(key):
            raise too_many()


def too_many() -> HTTPException:
    """Return the answer to who asks too much."""
    return HTTPException(429, "too many requests; wait a minute", {"Retry-After": "10"})


def address(request: Request) -> str:
    """Return where a request comes from; it is counted and never kept."""
    return request.client.host if request.client else "unknown"
