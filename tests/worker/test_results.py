import dataclasses
import datetime
import uuid
from typing import NamedTuple

import msgspec
import pytest

from worker.errors import InvalidResult
from worker.results import encode_result


@dataclasses.dataclass
class Point:
    x: object
    y: object = None


class Record(msgspec.Struct):
    x: object


class Pair(NamedTuple):
    x: object
    y: object


ITSELF: list[object] = []
ITSELF.append(ITSELF)


def deep(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (None, b"null"),
        ("ä", '"ä"'.encode()),
        (2**80, str(2**80).encode()),
        ({"a": [1, 2.5, {"b": None}]}, b'{"a":[1,2.5,{"b":null}]}'),
        ((1, 2), b"[1,2]"),
        (Point(1), b'{"x":1,"y":null}'),
        (Record([Point(1.5)]), b'{"x":[{"x":1.5,"y":null}]}'),
        (Pair(1, 2), b"[1,2]"),
        (datetime.date(2026, 1, 5), b'"2026-01-05"'),
        (uuid.UUID(int=0), b'"00000000-0000-0000-0000-000000000000"'),
        (msgspec.Raw(b'{"a":1}'), b'{"a":1}'),
    ],
)
def test_what_json_can_say_is_a_result(value: object, json: bytes) -> None:
    assert bytes(encode_result(value, 1000)) == json


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "contains nan"),
        ({"a": [float("inf")]}, "contains inf"),
        (Point(float("-inf")), "contains -inf"),
        (Record(Point([float("nan")])), "contains nan"),
        (Pair(1, float("nan")), "contains nan"),
        (b"x", "bytes"),
        ({"a": Point(b"x")}, "bytes"),
        (bytearray(b"x"), "bytes"),
        ({1: 2}, "key 1"),
        (Point({(1, 2): 3}), "key"),
        (ITSELF, "contains itself"),
        (deep(100_000), "nested too deeply"),
        (deep(64), "nested more than 64 levels deep"),
        ("\ud800", "surrogate"),
        ({"\ud800": 1}, "surrogate"),
        (object(), "no JSON value"),
        (msgspec.Raw(b'{"a":'), "no JSON"),
        (["x" * 1000], "1004 bytes as JSON; 1000 are allowed"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value[:20],
)
def test_what_json_cannot_say_is_refused_with_the_reason(value: object, reason: str) -> None:
    with pytest.raises(InvalidResult, match=reason):
        encode_result(value, 1000)


def test_a_result_may_be_as_deep_as_a_request() -> None:
    assert bytes(encode_result(deep(63), 1000)) == b"[" * 64 + b"]" * 64
