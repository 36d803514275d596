"""Payloads of ``http`` jobs: all that can be checked is checked at submission."""

from typing import Any

import pytest

from tests.worker.outgoing.caller import Caller
from tests.worker.outgoing.conftest import NewCaller
from worker.errors import InvalidPayload

URL = "https://example.com/"


def errors(caller: Caller, **payload: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidPayload) as caught:
        caller.decode(**({"url": URL} | payload))
    return caught.value.errors


def test_a_url_is_enough(caller: Caller) -> None:
    call = caller.decode(url=URL)
    assert (call.method, call.headers, call.timeout, call.follow_redirects) == ("GET", {}, 30.0, True)
    assert call.content() is None
    assert [status for status in (199, 200, 299, 300) if call.expects(status)] == [200, 299]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "HTTP://EXAMPLE.COM:8080/a?b=c#d",
        "https://xn--bcher-kva.example/",
        "http://8.8.8.8/",
        "http://[2606:4700::1111]:65535/",
        "http://127.0.0.1/",
        "http://under_score.example./",
        "http://example.com/grüße?q=ü",
    ],
)
def test_a_url_that_may_be_called(caller: Caller, url: str) -> None:
    assert caller.decode(url=url).url == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "length >= 1"),
        ("x" * 8001, "length <= 8000"),
        ("example.com", "must begin with http:// or https://"),
        ("//example.com/", "must begin with http"),
        ("file:///etc/passwd", "must begin with http"),
        ("gopher://example.com/", "must begin with http"),
        ("http:/example.com", "must begin with http"),
        ("http:example.com", "must begin with http"),
        ("http:///path", "must have a host"),
        ("http://", "must have a host"),
        ("http://user:secret@example.com/", "must not contain a user name or password"),
        ("http://@example.com/", "must not contain a user name"),
        ("http://example.com:0/", "valid host and port"),
        ("http://example.com:65536/", "valid host and port"),
        ("http://example.com:http/", "valid host and port"),
        ("http://example.com:1:2/", "valid host and port"),
        ("http://exa%6dple.com/", "valid host and port"),
        ("http://[::1", "valid host and port"),
        ("http://[fe80::1%25eth0]/", "valid host and port"),
        ("http://.../", "valid host and port"),
        ("http://a..b/", "valid host and port"),
        ("http://" + "a" * 64 + ".example/", "valid host and port"),
        ("http://a,b/", "valid host and port"),
        ("http://bücher.example/", "ASCII"),
        ("http://example.com\\@127.0.0.1/", "backslashes"),
        (" http://example.com/", "spaces"),
        ("http://example.com/a b", "spaces"),
        ("http://example.com/\r\nX: y", "control characters"),
        ("http://example.com/\0", "control characters"),
        ("http://example.com/\x85", "control characters"),
    ],
)
def test_a_url_that_may_not(caller: Caller, url: str, message: str) -> None:
    [(path, told)] = errors(caller, url=url)
    assert path == "payload.url"
    assert message in told


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "10.0.0.1.",
    ],
)
def test_an_address_that_is_not_public_is_refused_at_once(new_caller: NewCaller, host: str) -> None:
    [(path, message)] = errors(new_caller(allow=[]), url=f"http://{host}/")
    assert path == "payload.url"
    assert message.startswith(f"the host {host}")
    assert message.endswith("is not public, and GOFER_HTTP_ALLOW does not list it")


def test_an_address_that_is_allowed_is_none_of_those(new_caller: NewCaller) -> None:
    new_caller(allow=["127.0.0.0/8"]).decode(url="http://127.1/")


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Upgrade",
        "Expect",
        "TE",
        "Trailer",
        "Proxy-Authorization",
        "Gofer-Job-Id",
        "TraceParent",
        "Transfer_Encoding",
        "gofer_job-id",
    ],
)
def test_a_header_that_is_not_the_clients_to_send(caller: Caller, name: str) -> None:
    assert errors(caller, headers={name: "x"}) == [
        (f"payload.headers.{name}", "must not be given: it is Gofer's to send")
    ]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "ü", "a\0", "(a)"])
def test_a_name_that_is_none(caller: Caller, name: str) -> None:
    assert errors(caller, headers={name: "x"}) == [("payload.headers", f"{name!r} is no name of a header")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a\r\nB: c", "must not contain control characters"),
        ("a\nb", "must not contain control characters"),
        ("a\0", "must not contain control characters"),
        ("\x7f", "must not contain control characters"),
        ("€", "must not contain characters beyond Latin-1, which headers cannot carry"),
    ],
)
def test_a_value_that_a_header_cannot_have(caller: Caller, value: str, message: str) -> None:
    assert errors(caller, headers={"X-A": value}) == [("payload.headers.X-A", message)]


def test_a_header_is_given_once(caller: Caller) -> None:
    assert errors(caller, headers={"A": "1", "a": "2"}) == [("payload.headers.a", "must not be given twice")]


def test_all_errors_are_told_together(caller: Caller) -> None:
    told = errors(caller, url="ftp://x", headers={"Host": "x", "A": "\0"}, body=1, data="x")
    assert [path for path, _ in told] == ["payload.url", "payload.headers.Host", "payload.headers.A", "payload.data"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "post"),
        ("method", "TRACE"),
        ("method", "CONNECT"),
        ("timeout", 0),
        ("timeout", 3601),
        ("timeout", "5"),
        ("expect", []),
        ("expect", [99]),
        ("expect", [600]),
        ("expect", 200),
        ("follow_redirects", 1),
        ("headers", {"A": 1}),
        ("data", 1),
        ("verify", False),
    ],
)
def test_a_field_that_is_something_else(caller: Caller, field: str, value: object) -> None:
    [(path, _)] = errors(caller, **{field: value})
    assert path.startswith(f"payload.{field}") or (field == "verify" and path == "payload")
