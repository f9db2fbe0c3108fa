"""Serves an application until it is stopped: whom it believes about addresses, and how long it waits."""

import asyncio
import errno
import socket
from collections.abc import Sequence

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline_steps.errors import UserError

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


def listen(host: str, port: int) -> socket.socket:
    """Take a port, before anything says that it is served.

    Raises:
        UserError: it is taken, or not to be had.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "is taken by another program" if taken else f"cannot be listened on ({error})"
        raise UserError(
            f"port {port} of {host} {why}; give another one, e.g. --port {port % 50_000 + 1}"
        ) from error


def serve(app: ASGIApp, listener: socket.socket, proxies: Sequence[str] = ()) -> None:
    """Serve an application on a port that was taken, until it is stopped; see :func:`settings`."""
    host, port, *_ = listener.getsockname()
    uvicorn.Server(settings(app, host, port, proxies)).run([listener])
