"""Requests that go out: their URLs, and where a redirect leads."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal
from urllib.parse import urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from worker.outgoing.addresses import HOST_NAME, literal
from worker.text import cut

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

_PORTS = MappingProxyType({"http": 80, "https": 443})
#: Characters of a URL that a message shows.
_SHOWN_URL = 200
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
#: Control characters and spaces, and what some parsers take for a slash.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f\\]")

#: Statuses that, with a Location, send the client elsewhere (RFC 9110 section 15.4).
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: What no redirect takes away from a request. Any other header may hold a secret, whatever its name.
_HARMLESS = re.compile(
    r"accept(-.*)?|content-.*|user-agent|idempotency-key|gofer-.*|traceparent|tracestate|if-.*|range|cache-control|prefer"
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a call."""

    method: str
    #: Checked by ``check_url``.
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None


def check_url(text: str) -> Url:
    """The parts of a URL that may be called. Raises ValueError with what is wrong, as in "must have a host"."""
    if _FORBIDDEN.search(text):
        raise ValueError("must not contain spaces, control characters or backslashes")
    authority = _AUTHORITY.match(text)
    if not authority or not text.lower().startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if "@" in authority[1]:
        raise ValueError("must not contain a user name or password; send an Authorization header instead")
    if not authority[1].isascii():
        raise ValueError("must have a host of ASCII characters; write an international name as xn--…")
    try:
        url = parse_url(text)
    except LocationParseError:
        raise ValueError("must have a valid host and port") from None
    if not url.host:
        raise ValueError("must have a host")
    if url.port == 0 or "%" in authority[1] or not (HOST_NAME.fullmatch(url.host) or literal(url.host)):
        raise ValueError("must have a valid host and port")
    return url


def without_query(text: str) -> str:
    """A URL that may be shown: its query may hold a secret."""
    return text.partition("#")[0].partition("?")[0]


def redirected(request: Request, status: int, location: str | None) -> Request | None:
    """The request that an answer asks for instead; None if it asks for none.

    The method becomes GET after a 303, and after a 301 or 302 to a POST, as all clients have it.
    Another origin gets only headers that cannot hold a secret. Raises ValueError for a Location that
    may not be called.
    """
    if status not in _REDIRECTS or not location:
        return None
    url = _target(request.url, _as_sent(location))
    method, headers, body = request.method, dict(request.headers), request.body
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method, body = "GET", None
        headers = {name: value for name, value in headers.items() if not name.lower().startswith("content-")}
    if not _keeps_secrets(check_url(request.url), check_url(url)):
        headers = {name: value for name, value in headers.items() if _HARMLESS.fullmatch(name.lower())}
    return Request(method, url, headers, body)


def _as_sent(location: str) -> str:
    """Headers are read as Latin-1; servers that write more than ASCII into a URL write UTF-8."""
    try:
        return location.encode("latin-1").decode()
    except UnicodeError:
        return location


def _target(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
    except ValueError:  # Not even the form of a URL: check_url says what is wrong with it.
        target = location
    try:
        check_url(target)
    except ValueError as error:
        raise ValueError(f"redirected to {cut(without_query(location), _SHOWN_URL)}, but a URL {error}") from None
    return target


def _keeps_secrets(old: Url, new: Url) -> bool:
    """Whether the new URL may see what the old one saw: the same origin, or its encrypted twin."""
    if old.host != new.host:
        return False
    return _origin(old) == _origin(new) or (_origin(old), _origin(new)) == (("http", 80), ("https", 443))


def _origin(url: Url) -> tuple[str, int]:
    scheme = str(url.scheme)
    return scheme, url.port or _PORTS[scheme]
