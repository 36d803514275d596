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
