"""The orderly stop of the HTTP server, on real sockets."""

import io
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from app import logs
from app.server import HttpServer, listen
from store.clock import SystemClock
from tests.app.conversation import Conversation
from tests.eventually import eventually

#: Seconds; no test comes near it unless something hangs.
LIMIT = 10.0


#: Bytes of an answer that no socket takes at once.
LARGE = 20_000_000


class Gated:
    """A WSGI application whose answers wait until the test opens the gate; ``/now`` does not wait."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.gone: list[Callable[[], bool]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/large":
            start_response("200 OK", [("Content-Length", str(LARGE))])
            return [b"x" * LARGE]
        if environ["PATH_INFO"] == "/stream":
            start_response("200 OK", [])
            return self._pieces()
        if environ["PATH_INFO"] != "/now":
            self.gone.append(environ["waitress.client_disconnected"])
            self.entered.release()
            assert self.gate.wait(LIMIT)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    def _pieces(self) -> Iterator[bytes]:
        yield b"first"
        assert self.gate.wait(LIMIT)
        yield b"second"


@pytest.fixture
def application() -> Gated:
    return Gated()


@pytest.fixture
def deaths() -> list[str]:
    return []


@pytest.fixture
def server(application: Gated, deaths: list[str]) -> Iterator[HttpServer]:
    server = HttpServer(
        application,
        listen("127.0.0.1", 0),
        SystemClock(),
        threads=2,
        max_body=1000,
        on_death=lambda: deaths.append("died"),
    )
    server.start()
    yield server
    application.gate.set()
    server.stop(LIMIT)


def connect(server: HttpServer) -> Conversation:
    return Conversation(int(server.effective_port))


def stopping(server: HttpServer, timeout: float = LIMIT) -> threading.Thread:
    """Stop in a thread; return once no connection is accepted any more."""
    thread = threading.Thread(target=server.stop, args=(timeout,))
    thread.start()
    eventually(lambda: not server.accepting)
    return thread


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_a_request_in_flight_is_answered_before_the_stop_ends(server: HttpServer, application: Gated) -> None:
    with connect(server) as client:
        client.send(GET)
        assert application.entered.acquire(timeout=LIMIT)
        stop = stopping(server)
        assert stop.is_alive()
        application.gate.set()

        reply = client.read()
        assert (reply.status, reply.headers["Connection"]) == (200, "close")
        assert client.is_over()
        stop.join(LIMIT)
        assert not stop.is_alive()


def test_requests_that_wait_for_a_thread_are_answered_too(server: HttpServer, application: Gated) -> None:
    clients = [connect(server) for _ in range(6)]
    for client in clients:
        client.send(GET)
    for _ in range(2):
        assert application.entered.acquire(timeout=LIMIT)
    eventually(lambda: len(server.task_dispatcher.queue) == 4)
    stop = stopping(server)
    application.gate.set()

    assert [client.read().status for client in clients] == [200] * 6
    stop.join(LIMIT)
    for client in clients:
        client.close()


def test_an_idle_keep_alive_connection_does_not_hold_the_stop_up(
    server: HttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(server) as client:
        assert client.ask("GET", "/now").status == 200
        server.stop(LIMIT)

        assert client.is_over()
        assert not caplog.records


def test_a_new_connection_is_refused_once_the_stop_has_begun(server: HttpServer, application: Gated) -> None:
    with connect(server) as client:
        client.send(GET)
        assert application.entered.acquire(timeout=LIMIT)
        stop = stopping(server)

        with pytest.raises(ConnectionRefusedError):
            connect(server)
        application.gate.set()
        stop.join(LIMIT)


def test_an_open_connection_may_ask_once_more_while_others_are_in_flight(
    server: HttpServer, application: Gated
) -> None:
    with connect(server) as slow, connect(server) as other:
        assert other.ask("GET", "/now").headers["Connection"] is None
        slow.send(GET)
        assert application.entered.acquire(timeout=LIMIT)
        stop = stopping(server)

        assert other.ask("GET", "/now").headers["Connection"] == "close"
        assert other.is_over()
        application.gate.set()
        stop.join(LIMIT)


def test_past_its_time_limit_the_stop_waits_for_nobody_and_says_so(
    server: HttpServer, application: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(server) as client:
        client.send(GET)
        assert application.entered.acquire(timeout=LIMIT)
        stop = stopping(server, timeout=0.2)
        stop.join(LIMIT)

        assert not stop.is_alive()
        assert client.is_over()
        assert "requests are unanswered after 0.2 s" in caplog.text


def test_a_thread_that_ends_late_wakes_no_loop_that_is_gone(server: HttpServer, application: Gated) -> None:
    with connect(server) as client:
        client.send(GET)
        assert application.entered.acquire(timeout=LIMIT)
        server.stop(0.1)
        server.pull_trigger()
        application.gate.set()

        eventually(lambda: not server.task_dispatcher.threads)


def test_a_stop_before_the_start_is_not_lost(application: Gated) -> None:
    server = HttpServer(
        application, listen("127.0.0.1", 0), SystemClock(), threads=2, max_body=1, on_death=lambda: None
    )
    server.stop(LIMIT)
    server.start()

    assert not server.task_dispatcher.threads
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_stopping_twice_is_stopping_once(server: HttpServer) -> None:
    server.stop(LIMIT)
    server.stop(LIMIT)


def test_a_client_that_hangs_up_while_it_waits_is_noticed(server: HttpServer, application: Gated) -> None:
    with connect(server) as client:
        client.send(GET)
        assert application.entered.acquire(timeout=LIMIT)
        assert not application.gone[0]()

    eventually(application.gone[0], timeout=2)


def test_a_loop_that_dies_is_reported(server: HttpServer, deaths: list[str], caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError("no more descriptors")

    server._after_turn = fail
    with caplog.at_level(logging.ERROR):
        server.pull_trigger()
        eventually(lambda: deaths)

    assert "the HTTP server's loop failed" in caplog.text


def test_a_burst_of_requests_is_nothing_to_log_about(
    server: HttpServer, application: Gated, restored_logging: None
) -> None:
    stream = io.StringIO()
    logs.configure("debug", "text", stream)
    clients = [connect(server) for _ in range(8)]
    for client in clients:
        client.send(GET)
    eventually(lambda: len(server.task_dispatcher.queue) == 6)
    application.gate.set()
    assert [client.read().status for client in clients] == [200] * 8
    for client in clients:
        client.close()

    assert stream.getvalue() == ""


def test_an_answer_is_not_held_back_by_the_pipelined_request_behind_it(server: HttpServer, application: Gated) -> None:
    with connect(server) as client:
        client.send(b"GET /now HTTP/1.1\r\nHost: here\r\n\r\n" + GET)
        assert client.read().status == 200
        assert not application.gate.is_set()
        application.gate.set()
        assert client.read().status == 200


def test_a_piece_of_a_stream_leaves_before_the_next_one_is_there(server: HttpServer, application: Gated) -> None:
    with socket.create_connection(("127.0.0.1", server.effective_port), timeout=LIMIT) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: here\r\n\r\n")
        received = b""
        while b"first" not in received:
            received += client.recv(1000)
        application.gate.set()
        while b"second" not in received:
            received += client.recv(1000)


def test_a_large_answer_arrives_whole(server: HttpServer) -> None:
    with connect(server) as client:
        assert len(client.ask("GET", "/large").body) == LARGE


def everything_from(client: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    while data := client.recv(65_536):
        received += data
    return received


def test_a_client_that_closed_its_side_gets_its_answers(server: HttpServer, application: Gated) -> None:
    """As ``nc -N`` does it."""
    with socket.create_connection(("127.0.0.1", server.effective_port), timeout=LIMIT) as client:
        client.sendall(GET)
        assert application.entered.acquire(timeout=LIMIT)
        client.shutdown(socket.SHUT_WR)
        eventually(application.gone[0], timeout=2)
        application.gate.set()
        assert everything_from(client).startswith(b"HTTP/1.1 200 OK")


def test_so_does_one_that_pipelined_them(server: HttpServer) -> None:
    with socket.create_connection(("127.0.0.1", server.effective_port), timeout=LIMIT) as client:
        client.sendall(b"GET /now HTTP/1.1\r\nHost: here\r\n\r\n" * 5)
        client.shutdown(socket.SHUT_WR)
        assert everything_from(client).count(b"HTTP/1.1 200 OK") == 5


def test_a_client_that_closes_its_side_after_each_request_gets_every_answer(server: HttpServer) -> None:
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", server.effective_port), timeout=LIMIT) as client:
            client.sendall(b"GET /now HTTP/1.1\r\nHost: here\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            assert everything_from(client).startswith(b"HTTP/1.1 200 OK")
