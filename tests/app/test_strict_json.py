"""JSON is read as RFC 8259 means it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import strict_json
from app.errors import Problem

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(VALUES, st.booleans())
def test_what_the_standard_library_writes_is_read_back(value: object, ascii_only: bool) -> None:
    assert strict_json.decode(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "the body is empty"),
        (b"{", "ends too early"),
        (b'{"a": 1} x', "trailing characters"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a": NaN}', "invalid character"),
        (b'{"a": -Infinity}', "malformed"),
        (b'{"a": 1e400}', "out of range"),
        (b'{"a": 01}', "invalid number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "out of range"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\\udc00\\ud800"}', "surrogate"),
        (b'{"a": "\x00"}', "invalid character"),
        (b'{"a": 1, "b": 2, "a": 3}', 'the key "a" stands twice'),
        (b'{"p": {"x": [{"k": 1, "\\u006b": 2}]}}', 'the key "k" stands twice'),
        (b"[" * 65 + b"]" * 65, "nested more than 64"),
        (b'{"a":' * 40 + b"[" * 25 + b"]" * 25 + b"}" * 40, "nested more than 64"),
        (b"[" * 100_000, "nested more than 64"),
        (b'{"":' * 100_000, "nested more than 64"),
    ],
)
def test_what_is_not_json_is_refused_with_the_reason(body: bytes, complaint: str) -> None:
    with pytest.raises(Problem, match=complaint) as caught:
        strict_json.decode(body)
    assert caught.value.code == "bad_json"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 64 + b"]" * 64,
        b"[" + b"[]," * 500 + b"{}]",
        b'["' + b"[{" * 500 + b'"]',
        rb'["\"' + b"[{" * 500 + rb'\\", "\\\"' + b"[[" * 500 + b'"]',
        b'[{"a": 1}, {"a": 2}]',
        b'{"a": {"a": {"a": 1}}}',
        b"123456789012345678901234567890",
        b'"\\ud83d\\ude00\\u0000"',
    ],
)
def test_what_only_looks_suspicious_is_read(body: bytes) -> None:
    assert strict_json.decode(body) == json.loads(body)
