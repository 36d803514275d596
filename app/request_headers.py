"""The request headers that mean something to a submission."""

import re
from typing import Any

from werkzeug.http import parse_options_header

from app.errors import Problem, shown

#: What a WSGI server hands over with a request (PEP 3333).
Environ = dict[str, Any]

_MAX_KEY = 255
#: RFC 8941, section 3.3.3: a string in quotes, in which only a quote and a backslash are escaped.
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE = re.compile(r"[\x20-\x7e]+")
#: RFC 7240, section 2: a preference with a value, before any parameters of its own.
_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE)
#: W3C Trace Context, section 3.2.2: version, ids of trace and parent, flags; later versions may go on after a hyphen.
_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<ids>(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?"
)


def check_any_body(environ: Environ) -> None:
    """As :func:`check_json_body`, for a body that is not empty, also one that the call would not look at.

    A page of another site can send other types without asking first (Fetch, section 4.10.3).
    """
    if environ.get("CONTENT_LENGTH", "").strip("0"):
        check_json_body(environ)


def check_json_body(environ: Environ) -> None:
    """Raise Problem, ``unsupported_media_type``, unless the body is announced as plain JSON."""
    if "HTTP_CONTENT_ENCODING" in environ and environ["HTTP_CONTENT_ENCODING"].lower() != "identity":
        raise Problem("unsupported_media_type", "send the body without Content-Encoding")
    given = environ.get("CONTENT_TYPE", "")
    if given == "application/json":
        return
    media_type, options = parse_options_header(given)
    if media_type.lower() != "application/json":
        got = f"not {shown(given)}" if given else "and it has none"
        hint = "curl sends it with --json, or with -H 'Content-Type: application/json'"
        raise Problem("unsupported_media_type", f"the body's Content-Type must be application/json, {got}; {hint}")
    if options.get("charset", "utf-8").lower() != "utf-8":
        raise Problem("unsupported_media_type", f"JSON is UTF-8 (RFC 8259), not {shown(options['charset'])}")


def idempotency_key(environ: Environ) -> str | None:
    """The ``Idempotency-Key``, bare or as a string of RFC 8941; None if there is none.

    Raises Problem, ``bad_header``.
    """
    given: str | None = environ.get("HTTP_IDEMPOTENCY_KEY")
    if given is None:
        return None
    key = given
    if quoted := _QUOTED.fullmatch(given):
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    if (given.startswith('"') and not quoted) or not _BARE.fullmatch(key) or len(key) > _MAX_KEY:
        raise Problem(
            "bad_header",
            f"Idempotency-Key must be 1 to {_MAX_KEY} printable ASCII characters, bare or in double quotes",
        )
    return key


def preferred_wait(environ: Environ) -> int | None:
    """The seconds of ``Prefer: wait=N``; None without one.

    What cannot be understood is passed over (RFC 7240, section 2), and of several the first counts.
    """
    for preference in environ.get("HTTP_PREFER", "").split(","):
        if match := _WAIT.fullmatch(preference.strip()):
            return int(match[1])
    return None


def traceparent(environ: Environ) -> str | None:
    """The ``traceparent`` (W3C Trace Context, level 1) as version 00 writes it; None without a valid one.

    An invalid one is passed over (sections 3.2.2.3 and 3.2.2.4). Of a later version, what version
    00 has is taken (section 3.2.4).
    """
    match = _TRACEPARENT.fullmatch(environ.get("HTTP_TRACEPARENT", ""))
    if match is None:
        return None
    if match["version"] != "00":
        # Only the flag "sampled" means the same in every version.
        return f"00-{match['ids']}-{int(match['flags'], 16) & 1:02x}"
    return None if match["more"] else match[0]
