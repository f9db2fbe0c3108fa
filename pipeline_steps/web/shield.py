"""What stands before an application: counting, the longest and slowest body, the headers of every answer."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_SECONDS = 20.0
"""A request's body must be there after this long."""
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
"""Of every answer that does not set its own."""


def page_policy(nonce: str) -> str:
    """Return the content security policy of a page whose one script and style carry this nonce."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    )


def page_response(fill: Callable[[str], str], status: int = 200) -> HTMLResponse:
    """Return a page with the policy of its own nonce, which it is filled with."""
    nonce = secrets.token_urlsafe(16)
    return HTMLResponse(fill(nonce), status, {"Content-Security-Policy": page_policy(nonce)})


class Shield:
    """Counts requests and refuses long or slow bodies before they are parsed; sets the headers of answers."""

    def __init__(
        self,
        app: ASGIApp,
        longest_body: int,
        count: Callable[[Request], None] = lambda request: None,
        body_seconds: float = BODY_SECONDS,
        uploads: Mapping[str, tuple[int, float]] = MappingProxyType({}),
    ) -> None:
        """Stand before an application.

        Args:
            app: the application.
            longest_body: of a request, in bytes; longer ones are answered with 413.
            count: called with every request before its body is read; what it raises is the answer.
            body_seconds: a body that takes longer is answered with 408.
            uploads: paths whose bodies may be longer and slower: bytes and seconds.
        """
        self.app, self.longest_body = app, longest_body
        self.count, self.body_seconds, self.uploads = count, body_seconds, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                message["headers"] += [pair for pair in HEADERS if pair[0] not in names]
            await send(message)

        longest, seconds = self.uploads.get(scope["path"], (self.longest_body, self.body_seconds))
        try:
            self.count(Request(scope))
            declared = dict(scope["headers"]).get(b"content-length", b"0")
            if not declared.isdigit() or int(declared) > longest:
                raise HTTPException(413, "too long")
        except HTTPException as refusal:
            answer = JSONResponse({"detail": refusal.detail}, refusal.status_code, refusal.headers)
            await answer(scope, receive, with_headers)
            return
        await self.app(scope, _limited(receive, longest, seconds), with_headers)


def _limited(receive: Receive, longest: int, seconds: float) -> Receive:
    """Receive a body that is short and comes in time."""
    seen, whole = 0, False
    end = asyncio.get_running_loop().time() + seconds

    async def limited() -> Message:
        nonlocal seen, whole
        try:
            # Once the body is there, an application waits here for its client to go.
            async with asyncio.timeout_at(None if whole else end):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the request came too slowly", {"Connection": "close"}) from None
        seen += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if seen > longest:
            raise HTTPException(413, "too long")
        return message

    return limited
