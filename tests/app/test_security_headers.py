"""What every answer carries, whoever made it."""

import socket
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from app.security_headers import ALWAYS
from app.server import HttpServer, listen
from store.clock import SystemClock
from tests.app.conftest import Service
from tests.app.conversation import Conversation, Reply
from tests.app.test_every_route import NOWHERE, PARTS, TABLE

#: Requests that waitress refuses before the application sees them.
REFUSED_EARLY = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    b"nonsense\r\n\r\n",
]


def check(reply: Reply) -> None:
    """Each header is there, and once, and none says that it is a page."""
    for name, value in ALWAYS.items():
        assert reply.headers.get_all(name) == [value]
    assert len(reply.headers.get_all("Cache-Control") or ()) == 1
    assert len(reply.headers.get_all("X-Request-Id") or ()) == 1
    assert "Server" not in reply.headers
    assert "html" not in reply.headers.get("Content-Type", "")


def test_they_are_these() -> None:
    assert dict(ALWAYS) == {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


@pytest.mark.parametrize(("method", "rule"), sorted({*TABLE, *NOWHERE, ("HEAD", "/stats"), ("OPTIONS", "/jobs")}))
def test_every_call_answers_with_them(shared: Service, method: str, rule: str) -> None:
    for name, text in PARTS.items():
        rule = rule.replace(f"<{name}>", text)
    reply = shared.call(method, rule, {"type": "echo"} if method == "POST" else None)

    check(reply)
    assert reply.headers["Cache-Control"] == "no-store"
    shared.post("/queues/default/resume")


@pytest.mark.parametrize("request_", REFUSED_EARLY)
def test_what_waitress_answers_has_them_too(shared: Service, request_: bytes) -> None:
    with Conversation(shared.port) as client:
        client.send(request_)
        reply = client.read()

    assert reply.status >= 400
    check(reply)


def test_an_answer_without_a_body_has_them_too(shared: Service) -> None:
    path = f"/jobs/{shared.submit()}"
    shared.get(f"{path}?wait=10")
    reply = shared.call("DELETE", path, None)

    assert reply.status == 204
    check(reply)


def test_a_call_may_say_itself_who_may_keep_its_answer(shared: Service) -> None:
    path = f"/jobs/{shared.submit()}?wait=10"
    whole = shared.get(path)
    unchanged = shared.get(path, f"If-None-Match: {whole.headers['ETag']}")

    assert (whole.status, unchanged.status) == (200, 304)
    for reply in (whole, unchanged):
        check(reply)
        assert reply.headers["Cache-Control"] == "no-cache"


def test_a_stream_has_them_before_its_first_line(service: Service) -> None:
    job_id = service.submit("sleep", 600)
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
        client.sendall(f"GET /jobs/{job_id}/logs?follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1000)

    assert b"\r\nCache-Control: no-store\r\n" in head
    assert all(f"\r\n{name}: {value}\r\n".encode() in head for name, value in ALWAYS.items())


def broken(environ: dict[str, Any], _: Any) -> Iterable[bytes]:
    """A WSGI application that fails."""
    raise ZeroDivisionError(environ["HTTP_X_REQUEST_ID"])


@pytest.fixture
def broken_server() -> Iterator[HttpServer]:
    server = HttpServer(
        broken, listen("127.0.0.1", 0), SystemClock(), threads=1, max_body=100, on_death=lambda: pytest.fail("died")
    )
    server.start()
    yield server
    server.stop(5)


def test_what_is_answered_when_the_application_fails_has_them_and_no_traceback(
    broken_server: HttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    with Conversation(int(broken_server.effective_port)) as client:
        reply = client.ask("GET", "/", b"", "X-Request-Id: mine")

    check(reply)
    assert (reply.status, reply.headers["X-Request-Id"]) == (500, "mine")
    assert b"ZeroDivision" not in reply.body
    assert "ZeroDivisionError: mine" in caplog.text
