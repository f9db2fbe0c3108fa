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
    """

    cookie: str

    def token(self, request: Request) -> str:
        """Return the session's secret, or an empty text."""
        return request.cookies.get(self.cookie, "")

    def begin(self, response: Response, request: Request, token: str) -> None:
        """Hand the session's secret to the browser, out of reach of scripts and other sites."""
        secure = request.url.scheme == "https"
        response.set_cookie(
            self.cookie, token, max_age=DAYS * 86400, httponly=True, samesite="strict", secure=secure
        )

    async def guard(self, request: Request) -> None:
        """Let only this site's own page change anything: it alone knows the session's CSRF token.

        Raises:
            HTTPException: 403, no session, no token, or another site asks.
        """
        token, given = self.token(request), request.headers.get("x-csrf-token", "")
        if not token or not hmac.compare_digest(given.encode(), csrf_of(token).encode()):
            raise HTTPException(403, "no valid CSRF token; load the page again")
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise HTTPException(403, "requests from other sites are not taken")


def new_token() -> str:
    """Draw a session's secret, which nobody can guess."""
    return secrets.token_urlsafe(32)


def csrf_of(token: str) -> str:
    """Derive a session's CSRF token; other sites can neither read the cookie nor this."""
    return hmac.new(token.encode(), b"csrf", "sha256").hexdigest()
