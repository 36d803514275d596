"""One line in the log for each request, and the name that ties it to the answer."""

import io
import json
import logging
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app import logs
from app.request_log import CLIENT_GONE
from app.server import HttpServer, listen
from tests.app.conftest import Service, running
from tests.app.conversation import Conversation
from tests.app.keyholder import KeyHolder, bearer
from tests.eventually import eventually
from tests.fake_clock import FakeClock

FUTURE = "2999-01-01T00:00:00Z"


class Log:
    """What was logged since the last look, request by request."""

    def __init__(self, stream: io.StringIO) -> None:
        self.stream = stream

    def lines(self, count: int = 1) -> list[dict[str, Any]]:
        """The next ``count`` requests; the line is written after the answer."""
        eventually(lambda: len(self._entries()) >= count)
        return self._entries()

    def _entries(self) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [entry for entry in entries if entry["logger"] == "gofer.access"]


@pytest.fixture
def log(restored_logging: None) -> Log:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    return Log(stream)


def ask(service: Service, request: bytes) -> Any:
    with Conversation(service.port) as client:
        client.send(request)
        return client.read()


def test_it_tells_what_was_asked_and_how_it_went(service: Service, log: Log) -> None:
    reply = service.get("/jobs?limit=5&tag=secret")

    (line,) = log.lines()
    assert line.pop("time")
    assert 0 <= line.pop("ms") < 5000
    assert line == {
        "level": "info",
        "logger": "gofer.access",
        "message": "request",
        "id": reply.headers["X-Request-Id"],
        "method": "GET",
        "path": "/jobs",
        "status": 200,
    }
    assert "secret" not in log.stream.getvalue()


def test_it_names_the_key_and_never_shows_it(tmp_path: Path, log: Log) -> None:
    holder = KeyHolder(tmp_path)
    key = holder.make("ci", "read")
    wrong = key[:-1] + "!"
    with running(gate=holder.gate(FakeClock())) as service:
        service.get("/stats", bearer(key))
        service.get("/nowhere", bearer(key))
        service.post("/queues/default/pause", None, bearer(key))
        service.get("/stats", bearer(wrong))
        service.get(f"/stats?key={key}")
        service.get(f"/{key}/stats", bearer(key))
        lines = log.lines(6)

    assert [(line["status"], line.get("key")) for line in lines] == [
        (200, "ci"),
        (404, "ci"),
        (403, "ci"),
        (401, None),
        (401, None),
        (404, "ci"),
    ]
    assert lines[-1]["path"] == "/gofer_***/stats"
    assert not any(text in log.stream.getvalue() for text in (key[6:-1], wrong))


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_whether_it_is_alive_is_asked_too_often_to_be_told(service: Service, log: Log, path: str) -> None:
    service.get(path)
    service.get("/stats")
    assert [line["path"] for line in log.lines()] == ["/stats"]

    logging.getLogger().setLevel(logging.DEBUG)
    service.get(path)
    assert [(line["path"], line["level"]) for line in log.lines(2)] == [("/stats", "info"), (path, "debug")]


def test_nothing_is_written_when_only_warnings_are_wanted(service: Service, log: Log) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    assert service.get("/stats").headers["X-Request-Id"]
    service.get("/nowhere")
    assert log.stream.getvalue() == ""


@pytest.mark.parametrize("path", ["/a%0Ab%1B%5B2J", "/%C3%A9", "/%ff%00", "/\"'`", "/" + "x" * 5000])
def test_a_path_is_one_short_line_of_plain_text(service: Service, log: Log, path: str) -> None:
    service.get(path)

    (line,) = log.lines()
    assert re.fullmatch(r"/[!-~]{1,600}", line["path"])
    assert len(log.stream.getvalue().splitlines()) == 1


def test_what_never_reached_the_application_is_logged_as_well(service: Service, log: Log) -> None:
    assert ask(service, b"GET /jobs HTTP/1.1\r\nHost: a\r\nHost: b\r\nX-Request-Id: mine\r\n\r\n").status == 400
    assert ask(service, b"nonsense\r\n\r\n").status == 400

    first, second = log.lines(2)
    assert (first["id"], first["method"], first["path"], first["status"]) == ("mine", "GET", "/jobs", 400)
    assert (second["method"], second["path"], second["status"]) == ("-", "-", 400)


@pytest.mark.parametrize(
    ("begins", "method", "path"),
    [
        (b"POST /jobs?limit=5 HTTP/1.1\r\nHost: a\r\nX: ", "POST", "/jobs"),
        (b"\r\nGET http://me:secret@a/stats HTTP/1.1\r\nHost: a\r\nX: ", "GET", "/stats"),
        (b"PUT /", "PUT", "/" + 199 * "x"),
        (b"", "-", "-"),
        (b"get /jobs HTTP/1.1\r\nX: ", "-", "-"),
        (b"GET http://[ HTTP/1.1\r\nX: ", "GET", "-"),
    ],
)
def test_of_headers_that_are_too_large_the_first_line_is_logged(
    service: Service, log: Log, begins: bytes, method: str, path: str
) -> None:
    """Without a head waitress makes up one, which nobody has sent."""
    assert ask(service, begins + 70_000 * b"x" + b"\r\n\r\n").status == 431

    (line,) = log.lines()
    assert (line["method"], line["path"], line["status"]) == (method, path, 431)


def test_what_an_absolute_address_says_beside_the_path_is_left_out(service: Service, log: Log) -> None:
    ask(service, b"GET http://me:secret@localhost/stats?q=secret#secret HTTP/1.1\r\nHost: localhost\r\n\r\n")

    (line,) = log.lines()
    assert line["path"] == "/stats"
    assert "secret" not in log.stream.getvalue()


def test_the_time_counts_from_the_first_byte_of_the_request(log: Log) -> None:
    clock = FakeClock()
    server = HttpServer(
        answer_ok, listen("127.0.0.1", 0), clock, threads=1, max_body=100, on_death=lambda: pytest.fail("died")
    )
    server.start()
    with Conversation(int(server.effective_port)) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: ")
        eventually(lambda: any(channel.request for channel in server.active_channels.values()))
        clock.advance(2.5)
        client.send(b"localhost\r\n\r\n")
        client.read()
    server.stop(5)

    assert log.lines()[0]["ms"] == 2500.0


def answer_ok(_: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """A WSGI application."""
    start_response("200 OK", [("Content-Length", "0")])
    return []


def test_an_answer_that_could_not_be_sent_is_logged_as_such(service: Service, log: Log) -> None:
    """If the thread notices the end of the connection before the loop does, it may still leave its answer there."""
    job_id = service.submit(run_at=FUTURE)
    for lines in range(2, 7):
        with Conversation(service.port) as client:
            client.send(f"GET /jobs/{job_id}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            eventually(lambda: any(channel.requests for channel in service.server.active_channels.values()))
            # The connection is reset, not closed: there is nobody left to whom it could be sent.
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if log.lines(lines)[-1]["status"] == CLIENT_GONE:
            return
    raise AssertionError("every answer was sent, though nobody was there")


class TestIds:
    """``X-Request-Id``."""

    @pytest.mark.parametrize("given", ["a", "0", "A-b_c.9", "x" * 128, "018f0000-0000-7000-8000-000000000000"])
    def test_that_are_sane_are_kept(self, shared: Service, given: str) -> None:
        assert shared.get("/stats", f"X-Request-Id: {given}").headers["X-Request-Id"] == given

    @pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a;b", "a,b", "\xe9", '"a"', "${jndi:x}", "a\tb", "<b>"])
    def test_that_are_not_are_replaced(self, shared: Service, given: str) -> None:
        made = shared.get("/stats", f"X-Request-Id: {given}").headers["X-Request-Id"]

        assert re.fullmatch(r"[0-9a-f]{16}", made)

    def test_that_are_two_are_replaced(self, shared: Service) -> None:
        made = shared.get("/stats", "X-Request-Id: a", "X-Request-Id: b").headers["X-Request-Id"]

        assert re.fullmatch(r"[0-9a-f]{16}", made)

    def test_that_are_made_differ(self, shared: Service) -> None:
        assert len({shared.get("/stats").headers["X-Request-Id"] for _ in range(20)}) == 20

    def test_differ_for_each_request_of_a_connection(self, shared: Service) -> None:
        with Conversation(shared.port) as client:
            assert len({client.ask("GET", "/stats").headers["X-Request-Id"] for _ in range(5)}) == 5

    def test_lead_from_an_answer_to_the_error_behind_it(
        self, service: Service, log: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service.engine, "stats", lambda: 1 / 0)
        reply = service.get("/stats", "X-Request-Id: mine")

        assert reply.status == 500
        log.lines()
        entries = [json.loads(line) for line in log.stream.getvalue().splitlines()]
        assert [(entry["level"], entry["id"]) for entry in entries] == [("error", "mine"), ("info", "mine")]


@pytest.fixture
def text_log(restored_logging: None) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.configure("info", "text", stream)
    return stream


def test_for_people_it_is_one_line(service: Service, text_log: io.StringIO) -> None:
    service.get("/stats", "X-Request-Id: mine")

    eventually(text_log.getvalue)
    assert re.fullmatch(
        r"\S+Z INFO    gofer\.access: request id='mine' method='GET' path='/stats' status=200 ms=\d+\.\d\n",
        text_log.getvalue(),
    )
