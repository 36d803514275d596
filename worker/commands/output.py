"""The result of a command: what it wrote to its standard output."""

import json
from collections.abc import Sequence

import msgspec

from worker.commands.capture import Capture
from worker.errors import InvalidResult
from worker.results import encode_result

#: Bytes of a result as JSON: somewhat less than the engine takes.
_MOST = 1_000_000
#: How a JSON value may begin: most texts are told apart by this alone.
_BEGINNINGS = b'{["-0123456789tfn'


def result_of(capture: Capture) -> object:
    """A JSON value if the whole output is one; else the text, as it was written or with a mark where it was cut."""
    if not capture.is_cut and (value := _json(capture.kept)) is not None:
        return value
    return _text(capture)


def bare(result: msgspec.Raw) -> str | msgspec.Raw:
    """A text is shown as it is, everything else as JSON."""
    return msgspec.json.decode(result, type=str) if bytes(result).startswith(b'"') else result


def _text(capture: Capture) -> str:
    text, cut = capture.text, capture.is_cut
    # A control character takes six bytes as JSON, so even an output within its limit may be too much.
    while (length := len(msgspec.json.encode(text))) > _MOST:
        text, cut = text[: len(text) * _MOST // length], True
    return f"{text}… (cut; it had {capture.size} bytes)" if cut else text


def _json(output: bytes) -> msgspec.Raw | None:
    """The output as one JSON value, digit by digit as it was written; None if it is none that all parsers agree on."""
    if output.lstrip()[:1] not in _BEGINNINGS or not output.strip():
        return None
    try:
        compact = msgspec.Raw(msgspec.json.format(output, indent=-1))
        encode_result(compact, _MOST)
        json.loads(output.decode(), object_pairs_hook=_check_keys)
    except (InvalidResult, msgspec.DecodeError, ValueError, RecursionError):
        return None
    return compact


def _check_keys(pairs: Sequence[tuple[str, object]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice in one object")
