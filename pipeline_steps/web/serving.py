"""Serves an application until it is stopped: whom it believes about addresses, and how long it waits."""

import asyncio
from collections.abc import Sequence

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""A request's head must be there after this long; who sends half of one is cut off."""


class Impatient(H11Protocol):
    """Closes a connection on which no whole head of a request arrives; uvicorn alone would wait for ever."""

    head_seconds = HEAD_SECONDS
    patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait on where it is no whole head yet."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self.patience is None:
            self.patience = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop(self) -> None:
        if self.patience is not None:
            self.patience.cancel()
            self.patience = None


def settings(app: ASGIApp, host: str, port: int, proxies: Sequence[str] = ()) -> uvicorn.Config:
    """Return how an application is served.

    Args:
        app: the application.
        host: address to listen on.
        port: port to listen on.
        proxies: addresses or networks whose X-Forwarded-For is believed; without any, nobody's is.
    """
    # No access log: it would keep addresses, which no consent text names.
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Impatient,
        ws="none",
        workers=1,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
    )


def serve(app: ASGIApp, host: str, port: int, proxies: Sequence[str] = ()) -> None:
    """Serve an application until it is stopped; see :func:`settings`."""
    uvicorn.Server(settings(app, host, port, proxies)).run()
