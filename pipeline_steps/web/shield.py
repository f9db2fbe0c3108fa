"""What stands before an application: the longest body it reads, and the headers of every answer."""

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


class Shield:
    """Refuses long bodies before they are read, and sets the headers every answer needs."""

    def __init__(self, app: ASGIApp, longest_body: int) -> None:
        """Stand before an application.

        Args:
            app: the application.
            longest_body: of a request, in bytes; longer ones are answered with 413.
        """
        self.app, self.longest_body = app, longest_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = 0
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.longest_body:
            await JSONResponse({"detail": "too long"}, 413)(scope, receive, send)
            return

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.longest_body:
                raise HTTPException(413, "too long")
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                message["headers"] += [pair for pair in HEADERS if pair[0] not in names]
            await send(message)

        await self.app(scope, counted, with_headers)
