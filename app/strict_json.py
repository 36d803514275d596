"""JSON as RFC 8259 means it, without what parsers disagree about.

Refused, wherever in the body it stands: what is not UTF-8, a byte order mark,
NaN and Infinity, numbers that no float holds, lone surrogates, a key twice in
one object, and deep nesting.
"""

import json
from typing import Any

import msgspec

from app.errors import Problem, shown

#: How many objects and arrays may stand inside one another.
MAX_DEPTH = 64

_ALL_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))


def decode(body: bytes) -> Any:
    """The value that ``body`` holds.

    Raises Problem, ``bad_json``.
    """
    try:
        value = msgspec.json.decode(body)
        _check_depth(body)
        _UNIQUE_KEYS.decode(body.decode())
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError:
        raise Problem("bad_json", "the body is not UTF-8") from None
    except msgspec.DecodeError as error:
        raise Problem("bad_json", _explain(body, str(error))) from None
    return value


def _explain(body: bytes, complaint: str) -> str:
    if not body:
        return "the body is empty; it must be a JSON object"
    if body.startswith(b"\xef\xbb\xbf"):
        return "the body begins with a byte order mark, which JSON must not (RFC 8259, section 8.1)"
    if complaint == "Input data was truncated":
        # msgspec says so of a lone surrogate at the end of a string, too.
        return "the JSON ends too early, or a string holds half of a surrogate pair"
    return complaint


def _check_depth(body: bytes) -> None:
    # Each level takes an opening bracket: with no more brackets than levels, there is nothing to look for.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and not _is_shallow(body):
        raise _too_deep()


def _is_shallow(body: bytes) -> bool:
    """Whether ``body``, which is valid JSON, is nested at most :data:`MAX_DEPTH` levels deep."""
    outside_strings = b"".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    brackets = outside_strings.translate(_ALL_SQUARE, delete=_NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")  # takes the innermost level away
    return not brackets


def _too_deep() -> Problem:
    return Problem("bad_json", f"the JSON is nested more than {MAX_DEPTH} levels deep")


def _check_keys(pairs: list[tuple[str, None]]) -> None:
    """Refuse an object whose keys are not unique. Keeps nothing, so a big body costs no memory."""
    if len(pairs) > 1 and len(dict(pairs)) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Problem("bad_json", f"the key {shown(key)} stands twice in one object")
            seen.add(key)


#: msgspec keeps the last of two equal keys without a word; only the standard library shows all pairs.
_UNIQUE_KEYS = json.JSONDecoder(object_pairs_hook=_check_keys)
