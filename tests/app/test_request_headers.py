"""The request headers that mean something to a submission."""

import pytest

from app.errors import Problem
from app.request_headers import check_json_body, idempotency_key, preferred_wait, traceparent


@pytest.mark.parametrize(
    "value",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
def test_json_in_utf_8_is_taken(value: str) -> None:
    check_json_body({"CONTENT_TYPE": value})


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({}, "must be application/json, and it has none"),
        ({"CONTENT_TYPE": "text/plain"}, 'must be application/json, not "text/plain"'),
        ({"CONTENT_TYPE": "application/json, application/json"}, "must be application/json"),
        ({"CONTENT_TYPE": "application/json-seq"}, "must be application/json"),
        ({"CONTENT_TYPE": "application/json; charset=latin-1"}, 'JSON is UTF-8.*not "latin-1"'),
        ({"CONTENT_TYPE": "application/json", "HTTP_CONTENT_ENCODING": "gzip"}, "without Content-Encoding"),
    ],
)
def test_any_other_body_is_refused_with_what_is_allowed(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(Problem, match=complaint) as caught:
        check_json_body(environ)
    assert caught.value.kind.status == 415


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("abc", "abc"),
        ("a b, c", "a b, c"),
        ('"abc"', "abc"),
        (r'"say \"hi\" \\o/"', r'say "hi" \o/'),
        ("x" * 255, "x" * 255),
    ],
)
def test_an_idempotency_key_is_bare_or_a_structured_string(value: str, key: str) -> None:
    assert idempotency_key({"HTTP_IDEMPOTENCY_KEY": value}) == key


@pytest.mark.parametrize(
    "value", ["", '""', '"open', '"a"b"', r'"bad \escape"', "x" * 256, "caf\xe9", "a\x00b", "a\tb"]
)
def test_any_other_idempotency_key_is_refused(value: str) -> None:
    with pytest.raises(Problem, match="1 to 255 printable ASCII"):
        idempotency_key({"HTTP_IDEMPOTENCY_KEY": value})


def test_without_the_header_there_is_no_idempotency_key() -> None:
    assert idempotency_key({}) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("wait=10", 10),
        ("Wait = 10", 10),
        ('wait="5"', 5),
        ("respond-async, wait=7", 7),
        ("wait=3; foo=bar, wait=9", 3),
        ("wait=0", 0),
    ],
)
def test_prefer_wait_is_understood(value: str, seconds: int) -> None:
    assert preferred_wait({"HTTP_PREFER": value}) == seconds


@pytest.mark.parametrize(
    "value", ["", "wait", "wait=", "wait=-1", "wait=1.5", "wait=\xb2", "waiting=3", "wait=1e9", ",;="]
)
def test_a_preference_that_cannot_be_understood_is_passed_over(value: str) -> None:
    assert preferred_wait({"HTTP_PREFER": value}) is None


_IDS = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


@pytest.mark.parametrize(
    ("value", "parent"),
    [
        (f"00-{_IDS}-01", f"00-{_IDS}-01"),
        (f"00-{_IDS}-00", f"00-{_IDS}-00"),
        (f"00-{_IDS}-03", f"00-{_IDS}-03"),
        (f"01-{_IDS}-01", f"00-{_IDS}-01"),
        (f"fe-{_IDS}-0a-what-comes-later", f"00-{_IDS}-00"),
        (f"cc-{_IDS}-ff-", f"00-{_IDS}-01"),
    ],
)
def test_a_traceparent_is_taken_as_version_00_knows_it(value: str, parent: str) -> None:
    assert traceparent({"HTTP_TRACEPARENT": value}) == parent


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{_IDS}",
        f"00-{_IDS}-1",
        f"00-{_IDS}-0g",
        f"00-{_IDS}-01-more",
        f"00-{_IDS}-01.",
        f"01-{_IDS}-01.more",
        f"ff-{_IDS}-01",
        f"0-{_IDS}-01",
        f"00-{_IDS.upper()}-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        f"00_{_IDS}_01",
        f"00-{_IDS}-01, 00-{_IDS}-01",
    ],
)
def test_a_traceparent_that_is_not_valid_is_passed_over(value: str) -> None:
    assert traceparent({"HTTP_TRACEPARENT": value}) is None


def test_without_the_header_there_is_no_trace() -> None:
    assert traceparent({}) is None
