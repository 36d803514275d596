"""The payload of ``http`` jobs."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from worker.errors import InvalidPayload
from worker.outgoing.egress import Egress
from worker.outgoing.errors import BlockedAddress
from worker.outgoing.request import Method, check_url
from worker.registry import PayloadDecoder

#: A status that a server may answer with.
Status = Annotated[int, Meta(ge=100, le=599)]

#: A header's name (RFC 9110 section 5.1), and what its value must not contain (section 5.5).
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: Headers that frame the message or belong to the connection, and those that Gofer alone sends.
_REFUSED = re.compile(
    r"host|content-length|transfer-encoding|connection|keep-alive|upgrade|expect|te|trailer|proxy-.*|gofer-.*|traceparent"
)


class HttpCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to call, and which answer is a success."""

    method: Method = "GET"
    #: http or https.
    url: Annotated[str, Meta(min_length=1, max_length=8000)]
    headers: Annotated[dict[str, str], Meta(max_length=100)] = {}
    #: Any JSON value; sent as ``application/json`` unless a header says otherwise. Empty: no body.
    body: msgspec.Raw = msgspec.Raw()
    #: Text to send in the place of a body; sent as ``text/plain; charset=utf-8`` unless a header says otherwise.
    data: str | UnsetType = UNSET
    #: Seconds that the whole call may take, redirects included.
    timeout: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    #: The statuses that are a success; without it those from 200 to 299. One that is listed is no redirect.
    expect: Annotated[list[Status], Meta(min_length=1)] | UnsetType = UNSET
    #: Go where a redirect leads.
    follow_redirects: bool = True

    def expects(self, status: int) -> bool:
        """Whether an answer with this status is a success."""
        return 200 <= status <= 299 if self.expect is UNSET else status in self.expect

    def content(self) -> tuple[bytes, str] | None:
        """What to send and its media type; None for nothing."""
        if self.data is not UNSET:
            return self.data.encode(), "text/plain; charset=utf-8"
        raw = bytes(self.body)
        return (raw, "application/json") if raw else None


class HttpCallDecoder(PayloadDecoder):
    """From a payload's JSON to an :class:`HttpCall` that can be made."""

    def __init__(self, egress: Egress) -> None:
        """``egress`` knows which hosts are refused whatever they resolve to."""
        super().__init__(HttpCall)
        self._egress = egress

    def __call__(self, raw: msgspec.Raw) -> HttpCall:
        """The decoded payload. Raises InvalidPayload."""
        call: HttpCall = super().__call__(raw)
        errors = [*self._url_errors(call.url), *_header_errors(call.headers)]
        if bytes(call.body) and call.data is not UNSET:
            errors.append(("payload.data", "must not stand beside a body"))
        if errors:
            raise InvalidPayload(errors)
        return call

    def _url_errors(self, url: str) -> Iterator[tuple[str, str]]:
        try:
            self._egress.check_host(str(check_url(url).host))
        except (ValueError, BlockedAddress) as error:
            yield "payload.url", str(error)


def _header_errors(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for name, value in headers.items():
        # A name may be anything; only one that is a token can stand in a path as it is.
        if not _TOKEN.fullmatch(name):
            yield "payload.headers", f"{name[:100]!r} is no name of a header"
        elif why := _refusal(name.lower(), value, seen):
            yield f"payload.headers.{name[:100]}", why
        seen.add(name.lower())


def _refusal(name: str, value: str, seen: set[str]) -> str | None:
    # Many a server makes one name of both, as CGI has it.
    if _REFUSED.fullmatch(name.replace("_", "-")):
        return "must not be given: it is Gofer's to send"
    if name in seen:
        return "must not be given twice"
    if _CONTROL.search(value):
        return "must not contain control characters"
    if not _is_latin(value):
        return "must not contain characters beyond Latin-1, which headers cannot carry"
    return None


def _is_latin(text: str) -> bool:
    return all(character <= "\xff" for character in text)
