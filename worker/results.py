"""Results: whatever a handler returns, as JSON, or refused with a reason that its author understands."""

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from worker.errors import InvalidResult

#: The largest result, as JSON, unless the engine is told otherwise.
MAX_RESULT_BYTES = 1_048_576
#: How many arrays and objects may stand inside one another, as in a request: the recipients' parsers have limits.
_MAX_DEPTH = 64
#: What msgspec would write as base64 without a word.
_BINARY = (bytes, bytearray, memoryview)
_SCALARS = (str, int, bool, type(None))


def encode_result(value: object, max_bytes: int) -> msgspec.Raw:
    """The JSON of what a handler returned.

    Raises InvalidResult for what JSON cannot say, or for more than ``max_bytes`` bytes.
    """
    try:
        encoded = msgspec.json.encode(value)
    except RecursionError:
        raise InvalidResult("the result is nested too deeply, or contains itself") from None
    except UnicodeEncodeError:
        raise InvalidResult("the result contains text that is not Unicode (a lone surrogate)") from None
    except Exception as error:  # msgspec refuses with several; a property of the result may raise any
        raise InvalidResult(f"the result is no JSON value: {error}") from error
    if len(encoded) > max_bytes:
        raise InvalidResult(f"the result has {len(encoded)} bytes as JSON; {max_bytes} are allowed")
    if type(value) not in _SCALARS:
        _check_values(value)
    return msgspec.Raw(encoded)


def _check_values(root: object) -> None:
    """Refuse what msgspec encodes to something else: NaN to null, bytes to base64, keys to strings.

    The value is a finite tree here, because encoding it has come to an end.
    """
    level: list[Any] = [root]
    for _ in range(_MAX_DEPTH):
        level = [part for value in level for part in _checked_parts(value) if type(part) not in _SCALARS]
        if not level:
            return
    if not all(isinstance(value, float) for value in level):
        raise InvalidResult(f"the result is nested more than {_MAX_DEPTH} levels deep")
    for value in level:
        _checked_parts(value)


def _checked_parts(value: Any) -> Iterable[Any]:
    """What a value is made of, one level deep. Raises InvalidResult."""
    if type(value) is dict:
        for key in value:
            if not isinstance(key, str):
                raise InvalidResult(f"the result has the key {key!r}; JSON's keys are strings")
        return value.values()
    if isinstance(value, list | tuple | set | frozenset) and not hasattr(value, "__struct_fields__"):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidResult(f"the result contains {value}, which JSON does not have")
        return ()
    if isinstance(value, _BINARY):
        raise InvalidResult("the result contains bytes, which JSON does not have; decode or encode them")
    return [inner for part in _parts(value) for inner in _checked_parts(part)]


def _parts(value: object) -> list[Any]:
    """What an object of another class is made of, one level deep; nothing for dates, UUIDs and the like."""
    if isinstance(value, msgspec.Raw):
        return [_parse(value)]
    if isinstance(value, dict):
        return [dict(value)]
    plain = msgspec.to_builtins(value, builtin_types=_BINARY)
    return [plain] if isinstance(plain, dict | list | tuple | float) else []


def _parse(raw: msgspec.Raw) -> object:
    try:
        return msgspec.json.decode(raw)
    except Exception as error:
        raise InvalidResult(f"the result is Raw that is no JSON: {error}") from error
