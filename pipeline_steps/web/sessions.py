"""Sessions: a secret in a cookie, and the CSRF token that only the site's own page knows."""

import hmac
import secrets
from dataclasses import dataclass

from fastapi import HTTPException, Request, Response

DAYS = 60
"""Days after which a browser forgets its session."""


@dataclass(frozen=True)
class Sessions:
    """The sessions of one site.

    Attributes:
        cookie: its name; sites on one host need different ones.
        path: below which it is sent.
    """

    cookie: str
    path: str = "/"

    def token(self, request: Request) -> str:
        """Return the session's secret, or an empty text."""
        return request.cookies.get(self.cookie, "")

    def own_or_new(self, request: Request) -> tuple[str, bool]:
        """Return the session's secret, or a new one, and whether it is new."""
        token = self.token(request)
        fresh = len(token) < 32
        return (new_token() if fresh else token), fresh

    def begin(self, response: Response, request: Request, token: str, days: int | None = DAYS) -> None:
        """Hand the session's secret to the browser, out of reach of scripts and other sites.

        Args:
            response: that carries it.
            request: that asked for it.
            token: the secret.
            days: the browser keeps it; none: until it is closed.
        """
        secure = request.url.scheme == "https"
        response.set_cookie(
            self.cookie,
            token,
            max_age=None if days is None else days * 86400,
            path=self.path,
            httponly=True,
            samesite="strict",
            secure=secure,
        )

    def end(self, response: Response) -> None:
        """Let the browser forget the session."""
        response.delete_cookie(self.cookie, path=self.path)

    async def guard(self, request: Request) -> None:
        """Let only this site's own page change anything: it alone knows the session's CSRF token.

        Raises:
            HTTPException: 403, no session, no token, or another site asks.
        """
        self.check(request, request.headers.get("x-csrf-token", ""))

    def check(self, request: Request, given: str) -> None:
        """Compare a CSRF token with the session's, as :meth:`guard` does.

        Raises:
            HTTPException: 403, no session, no token, or another site asks.
        """
        token = self.token(request)
        if not token or not hmac.compare_digest(given.encode("utf-8", "replace"), csrf_of(token).encode()):
            raise HTTPException(403, "no valid CSRF token; load the page again")
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise HTTPException(403, "requests from other sites are not taken")


def new_token() -> str:
    """Draw a session's secret, which nobody can guess."""
    return secrets.token_urlsafe(32)


def csrf_of(token: str) -> str:
    """Derive a session's CSRF token; other sites can neither read the cookie nor this."""
    return hmac.new(token.encode(), b"csrf", "sha256").hexdigest()
