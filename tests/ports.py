"""Ports for the servers of tests."""

import socket

HELD: list[socket.socket] = []
"""What :func:`free_port` keeps."""


def free_port() -> int:
    """Draw a port of this machine that nobody else is given while this process lives.

    It stays bound, without listening: a server of ours may take it, and again after it was killed, and no
    test that runs beside this one draws the same.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    HELD.append(held)
    port: int = held.getsockname()[1]
    return port
