"""Requests to addresses that others wrote: never to a private network, and never with credentials.

A table of links, or a server's redirect, could make this machine ask its own network for what only it
may see (server-side request forgery). So every connection is made to an address that was checked just
before: the name is resolved once, here, whatever its spelling, and again after each redirect.
"""

import contextlib
import ipaddress
import re
import socket
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

CREDENTIALS = re.compile(r"(^|://)[^\s/?#]*@")
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class PrivateAddressError(Exception):
    """The address is not one of the open network."""


def public_session(allowed_hosts: Collection[str] = ()) -> requests.Session:
    """Return a session that connects to public addresses only, and sends no credentials.

    Behind a proxy of the environment it is the proxy that connects; then names are checked as far as
    they can be resolved here.

    Args:
        allowed_hosts: names or addresses of servers that may lie anywhere.
    """
    session = _Session()
    session.auth = _no_credentials  # else requests takes them from the address, or from ~/.netrc
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(frozenset(host.lower().rstrip(".") for host in allowed_hosts)))
    return session


def without_credentials(text: str) -> str:
    """Return an address, or a sentence with addresses, without user names and passwords."""
    return CREDENTIALS.sub(r"\1", text)


def is_public(address: str) -> bool:
    """Tell whether an IP address belongs to the open network, and so does the one inside it, if any."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return is_public(str(ip.ipv4_mapped))
        inner = [ip.sixtofour, *(ip.teredo or ())]
        inner += [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)] if ip in NAT64 else []
        if not all(is_public(str(one)) for one in inner if one):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def checked_addresses(host: str, port: int, allowed_hosts: Collection[str]) -> list[str]:
    """Resolve a name once and return its addresses.

    Raises:
        PrivateAddressError: one of them is not public, and the host is not allowed.
        socket.gaierror: there is no such name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    if host.lower().rstrip(".") not in allowed_hosts:
        for address in addresses:
            if not is_public(address):
                raise PrivateAddressError(
                    f"leads to the private address {address}; if that is meant, name '{host}' in "
                    "data.allowed_hosts"
                )
    return addresses


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    request.headers.pop("Authorization", None)
    return request


class _Session(requests.Session):
    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        _no_credentials(prepared_request)


class _Adapter(HTTPAdapter):
    def __init__(self, allowed_hosts: Collection[str]) -> None:
        self.allowed_hosts = allowed_hosts
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self.allowed_hosts)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        proxies = kwargs.get("proxies") or {}
        parts = urlsplit(request.url or "")
        if select_proxy(parts.geturl(), proxies):
            with contextlib.suppress(socket.gaierror):  # a name that the proxy alone knows
                checked_addresses(parts.hostname or "", parts.port or 80, self.allowed_hosts)
        return super().send(request, *args, **kwargs)


def _pools(allowed_hosts: Collection[str]) -> dict[str, type[HTTPConnectionPool]]:
    """Return pools whose connections are made to checked addresses."""

    class Checked(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            try:
                return _connect(self, checked_addresses(self.host, self.port, allowed_hosts))
            except socket.gaierror as error:
                raise NameResolutionError(self.host, self, error) from error
            except TimeoutError as error:
                raise ConnectTimeoutError(self, f"{self.host} does not answer") from error
            except OSError as error:
                raise NewConnectionError(self, str(error)) from error

    class CheckedTLS(Checked, HTTPSConnection):
        pass

    class Pool(HTTPConnectionPool):
        ConnectionCls = Checked

    class PoolTLS(HTTPSConnectionPool):
        ConnectionCls = CheckedTLS

    return {"http": Pool, "https": PoolTLS}


def _connect(connection: HTTPConnection, addresses: list[str]) -> socket.socket:
    """Connect to the first of the addresses that answers; they are numbers, so nothing is resolved again."""
    for address in addresses:
        try:
            return create_connection(
                (address, connection.port),
                connection.timeout,
                source_address=connection.source_address,
                socket_options=connection.socket_options,
            )
        except OSError as error:
            last = error
    raise last
