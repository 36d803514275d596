"""Bodies that come in and answers that go out: they are kept in memory, never on a disk, and no longer than needed."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.server import HttpServer, listen
from store.clock import SystemClock
from tests.app.conversation import Conversation
from tests.eventually import eventually

#: Bytes past which waitress would take a temporary file for either.
LARGE = 3_000_000
#: Bytes of an answer of which a socket takes few.
MEDIUM = 500_000


def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """A WSGI application that sends back what came, or much for nothing."""
    body = environ["wsgi.input"].read() or b"x" * MEDIUM
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture(autouse=True)
def nowhere_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory for temporary files was good when it was chosen, and takes none any more."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))


@pytest.fixture
def server() -> Iterator[HttpServer]:
    server = HttpServer(
        echo,
        listen("127.0.0.1", 0),
        SystemClock(),
        threads=2,
        max_body=LARGE,
        on_death=lambda: pytest.fail("the loop died"),
    )
    server.start()
    yield server
    server.stop(10)


def connect(server: HttpServer) -> Conversation:
    return Conversation(int(server.effective_port))


def only_connection(server: HttpServer) -> Any:
    (connection,) = eventually(lambda: list(server.active_channels.values()))
    return connection


def chunked(body: bytes) -> bytes:
    """A request with this body in chunks."""
    head = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [body[start : start + 100_000] for start in range(0, len(body), 100_000)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_large_bodies_and_answers_need_no_temporary_file(server: HttpServer, caplog: pytest.LogCaptureFixture) -> None:
    body = bytes(number % 251 for number in range(LARGE))
    with connect(server) as client:
        for _ in range(2):
            reply = client.ask("POST", "/", body)
            assert (reply.status, reply.body) == (200, body)
        client.send(chunked(body))
        assert client.read().body == body
        assert client.ask("GET", "/").body == b"x" * MEDIUM
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_an_answer_that_was_read_is_kept_no_longer(server: HttpServer) -> None:
    """A client may leave its connection open, and many may."""
    with connect(server) as client:
        client.ask("POST", "/", b"x" * LARGE)
        connection = only_connection(server)
        eventually(lambda: not connection.is_busy())
        with connection.outbuf_lock:
            assert [each.getfile().getbuffer().nbytes for each in connection.outbufs] == [0]


def test_of_answers_that_a_client_does_not_read_one_waits_and_little_of_those_before_it(
    server: HttpServer,
) -> None:
    with connect(server) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" * 100)
        connection = only_connection(server)
        eventually(lambda: connection._is_kept_back and server.task_dispatcher.active_count == 0)
        assert connection.total_outbufs_len < 2 * MEDIUM
        assert [len(client.read().body) for _ in range(100)] == [MEDIUM] * 100
