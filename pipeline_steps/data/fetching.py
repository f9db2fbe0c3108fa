"""One picture from an address that somebody else wrote: within limits, and never from a private network."""

import time
from collections.abc import Collection

import requests

from pipeline_steps.data.public_web import PrivateAddressError, public_session, without_credentials
from pipeline_steps.inputs.text import clean_text

SILENCE = 30.0
"""Seconds without a byte after which a server is given up."""
LONGEST = 300.0
"""Seconds one picture may take."""
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
"""HTTP answers worth another attempt."""
AGENT = "scoft-pipeline (pictures for a culture's data set)"


class FetchError(Exception):
    """This link gave no picture; ``passing`` when a later attempt may."""

    def __init__(self, reason: str, passing: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.passing, self.wait = passing, wait


def picture_session(allowed_hosts: Collection[str] = ()) -> requests.Session:
    """Return a session that asks for pictures; see :func:`public_session`."""
    session = public_session(allowed_hosts)
    session.headers["User-Agent"] = AGENT
    session.max_redirects = 5
    return session


def get(session: requests.Session, url: str, max_megabytes: float) -> bytes:
    """Return what lies at an address.

    Args:
        session: of :func:`picture_session`.
        url: the address.
        max_megabytes: more is refused.

    Raises:
        FetchError: nothing was given, or too much, or too slowly, or the address is a private one.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise FetchError("is no http address; mend it")
    limit, began = max_megabytes * 1e6, time.monotonic()
    try:
        with session.get(url, stream=True, timeout=SILENCE) as answer:
            if answer.status_code != 200:
                wait = answer.headers.get("Retry-After", "")
                raise FetchError(
                    f"the server answers {answer.status_code} {clean_text(answer.reason or '')[:80]}",
                    answer.status_code in PASSING,
                    float(wait) if wait.isdigit() else 0.0,
                )
            too_large = FetchError(f"is larger than data.max_megabytes ({max_megabytes:g})")
            if int(answer.headers.get("Content-Length") or 0) > limit:
                raise too_large
            data = bytearray()
            for piece in answer.iter_content(1 << 16):
                data += piece
                if len(data) > limit:
                    raise too_large
                if time.monotonic() - began > LONGEST:
                    raise FetchError(f"takes longer than {LONGEST:.0f} s", passing=True)
            return bytes(data)
    except PrivateAddressError as error:
        raise FetchError(str(error)) from error
    except (requests.Timeout, requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise FetchError(f"cannot be reached ({_reason(error)})", passing=True) from error
    except (requests.RequestException, ValueError) as error:
        raise FetchError(f"cannot be fetched ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return without_credentials(clean_text(f"{type(error).__name__}: {error}"))[:160]
