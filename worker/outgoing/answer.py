"""Answers to outgoing calls: read no further than allowed, and turned into what a job can keep."""

import codecs
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from urllib3 import BaseHTTPResponse

from worker.errors import InvalidResult
from worker.outgoing.content_coding import decode
from worker.outgoing.errors import BrokenAnswer
from worker.results import encode_result
from worker.text import clean, cut

#: Characters of all headers together.
_MAX_HEADERS = 65_536
#: Characters of a body, and of a reason phrase, that a message shows.
_SHOWN_BODY, _SHOWN_REASON = 500, 100
#: Seconds: what a server may ask for with Retry-After.
_LONGEST_RETRY_AFTER = 7 * 86_400.0

_CHARSET = re.compile(r""";\s*charset\s*=\s*"?([A-Za-z0-9._:-]{1,40})""", re.IGNORECASE)
#: Codecs that Python has and no text on the web: slow on purpose-made input, or no charset at all.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"})


class Answer(msgspec.Struct, frozen=True):
    """What a server said, as far as it was read."""

    status: int
    reason: str
    #: By name in lower case; the values of a name that came several times are joined by ", ".
    headers: dict[str, str]
    #: Without its content coding.
    body: bytes
    #: The body went on.
    truncated: bool

    @property
    def text(self) -> str:
        """The body as text; what is no text in its charset is replaced."""
        try:
            text = _decoder(self._charset).decode(self.body, final=not self.truncated)
        except UnicodeError:  # UTF-16 and UTF-32 that do not say which way round, for two.
            text = self.body.decode(errors="replace")
        return clean(text)

    @property
    def is_json(self) -> bool:
        """Whether the server calls the body JSON."""
        media_type = self._content_type.partition(";")[0].strip().lower()
        return media_type == "application/json" or media_type.endswith("+json")

    @property
    def message(self) -> str:
        """For people: the status, its reason phrase, and the beginning of the body."""
        reason = f" {cut(self.reason, _SHOWN_REASON)}" if self.reason else ""
        body = f": {self.text[:_SHOWN_BODY].strip()}" if self.body else ""
        return f"the answer was {self.status}{reason}{body}"

    @property
    def _content_type(self) -> str:
        return self.headers.get("content-type", "")

    @property
    def _charset(self) -> str:
        named = _CHARSET.search(self._content_type)
        return named[1] if named else "utf-8"


def read_answer(response: BaseHTTPResponse, max_body: int) -> Answer:
    """Read at most ``max_body`` bytes of a body, with its content coding or without.

    Raises what urllib3 raises, and BrokenAnswer.
    """
    # The white space around a value is not part of it; http.client leaves what is behind it.
    headers = {clean(name.lower()): clean(value).strip() for name, value in response.headers.itermerged()}
    if sum(len(name) + len(value) for name, value in headers.items()) > _MAX_HEADERS:
        raise BrokenAnswer(f"the answer has more than {_MAX_HEADERS} characters of headers")
    raw = _read(response, max_body + 1)
    is_whole = len(raw) <= max_body
    coding = headers.get("content-encoding", "")
    body = decode(raw, coding, max_body + 1, is_whole=is_whole) if raw else b""
    is_whole = is_whole and len(body) <= max_body
    return Answer(response.status, response.reason or "", headers, body[:max_body], not is_whole)


def _read(response: BaseHTTPResponse, limit: int) -> bytes:
    """At most ``limit`` bytes, as they come over the wire; fewer only if the body has no more."""
    raw = bytearray()
    while len(raw) < limit and (piece := response.read(limit - len(raw), decode_content=False)):
        raw += piece
    return bytes(raw)


def to_result(answer: Answer, duration: float, max_bytes: int) -> dict[str, Any]:
    """The result of a job: JSON of at most ``max_bytes`` bytes, for which the body is cut further if need be.

    ``duration``: seconds.
    """

    def result(body: object, *, truncated: bool) -> dict[str, Any]:
        return {
            "status": answer.status,
            "headers": answer.headers,
            "body": body,
            "truncated": truncated,
            "duration": round(duration, 6),
        }

    if not answer.body:
        return result(None, truncated=answer.truncated)
    if answer.is_json and not answer.truncated:
        try:
            parsed = result(_json(answer.body), truncated=False)
            encode_result(parsed, max_bytes)
            return parsed
        except (ValueError, RecursionError, InvalidResult):
            pass  # Called JSON, but none, or none that can be kept as it is. It is text all the same.
    whole = answer.text
    return _fitting(lambda text: result(text, truncated=answer.truncated or len(text) < len(whole)), whole, max_bytes)


def _json(body: bytes) -> object:
    return msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))


def _fitting(result: Callable[[str], dict[str, Any]], text: str, max_bytes: int) -> dict[str, Any]:
    """The result with as much of the text as it can hold: a character may take six bytes of JSON."""
    while len(encoded := msgspec.json.encode(result(text))) > max_bytes:
        text = text[: len(text) * max_bytes // len(encoded) * 9 // 10]
    return result(text)


def _decoder(charset: str) -> codecs.IncrementalDecoder:
    try:
        b"x".decode(charset, "replace")  # Raises LookupError for codecs that are not about text, too.
        if codecs.lookup(charset).name not in _NO_CHARSETS:
            return codecs.getincrementaldecoder(charset)("replace")
    except (LookupError, UnicodeError):
        pass
    return codecs.getincrementaldecoder("utf-8")("replace")


def retry_after(answer: Answer, now: datetime) -> float | None:
    """Seconds until the server wants to be asked again (RFC 9110 section 10.2.3), at most 7 days.

    None if it does not say, or means at once, which is left to the job's own pace.
    """
    text = answer.headers.get("retry-after", "").strip()
    seconds = float(text) if re.fullmatch(r"[0-9]{1,18}", text) else _seconds_until(text, now)
    return min(seconds, _LONGEST_RETRY_AFTER) if seconds > 0 else None


def _seconds_until(date: str, now: datetime) -> float:
    try:
        instant = parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    # The two old forms of a date name no zone; all are in GMT.
    return math.ceil((instant.replace(tzinfo=instant.tzinfo or UTC) - now).total_seconds())
