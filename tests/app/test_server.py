"""The orderly stop of the HTTP server, on real sockets."""

import contextlib
import io
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from app import channel, logs
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
        #: How many bytes filled the socket, and a little more.
        self.trickled = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/large":
            start_response("200 OK", [("Content-Length", str(LARGE))])
            return [b"x" * LARGE]
        if environ["PATH_INFO"] in ("/stream", "/lumps"):
            start_response("200 OK", [])
            return self._pieces(b"first" if environ["PATH_INFO"] == "/stream" else b"x" * LARGE)
        if environ["PATH_INFO"] == "/lump":
            start_response("200 OK", [])
            return iter([b"x" * 2 * LARGE])
        if environ["PATH_INFO"] == "/trickle":
            start_response("200 OK", [])
            return self._trickle(environ["waitress.client_disconnected"].__self__)
        if environ["PATH_INFO"] != "/now":
            self.gone.append(environ["waitress.client_disconnected"])
            self.entered.release()
            assert self.gate.wait(LIMIT)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    def _pieces(self, first: bytes) -> Iterator[bytes]:
        yield first
        assert self.gate.wait(LIMIT)
        yield b"second"

    def _trickle(self, connection: channel.Channel) -> Iterator[bytes]:
        sent = 0
        while not connection.total_outbufs_len:
            yield b"x" * 5000
            sent += 5000
        self.trickled = sent
        assert self.gate.wait(LIMIT)


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


def test_a_stop_releases_the_spare_descriptors_for_good(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the next look at idle connections, which takes them again, is due at that moment."""
    monkeypatch.setattr("app.server._SWEEP", 0.0)
    server._next_sweep = 0.0
    server.stop(LIMIT)
    assert server._spare_files._descriptors == []


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


def test_those_who_have_connected_are_answered_although_they_were_not_accepted_yet(server: HttpServer) -> None:
    busy, go_on = threading.Event(), threading.Event()

    def hold_the_loop() -> None:
        busy.set()
        assert go_on.wait(LIMIT)

    server._call_in_loop(hold_the_loop)
    assert busy.wait(LIMIT)
    clients = [connect(server) for _ in range(30)]
    for client in clients:
        client.send(b"GET /now HTTP/1.1\r\nHost: here\r\n\r\n")
    stop = threading.Thread(target=server.stop, args=(LIMIT,))
    stop.start()
    eventually(lambda: server.stopping)
    go_on.set()

    assert [client.read().status for client in clients] == [200] * 30
    stop.join(LIMIT)
    for client in clients:
        client.close()


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


def test_so_is_one_that_had_pipelined_another_request(server: HttpServer, application: Gated) -> None:
    """The loop reads no more then."""
    with connect(server) as client:
        client.send(GET + GET)
        assert application.entered.acquire(timeout=LIMIT)
        eventually(lambda: [len(each.requests) for each in server.active_channels.values()] == [2])
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

    lines = stream.getvalue().splitlines()
    assert len(lines) == 8
    assert all("gofer.access" in line for line in lines)


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


def test_a_piece_that_the_socket_did_not_take_leaves_before_the_next_one_is_there(
    server: HttpServer, application: Gated
) -> None:
    with socket.create_connection(("127.0.0.1", server.effective_port), timeout=LIMIT) as client:
        client.sendall(b"GET /trickle HTTP/1.1\r\nHost: here\r\n\r\n")
        left = eventually(lambda: application.trickled)
        client.settimeout(LIMIT / 2)  # before the answer is given up
        while left > 0:
            left -= client.recv(65_536).count(b"x")
        assert not application.gate.is_set()


def test_the_next_piece_waits_for_a_client_that_reads_slowly(server: HttpServer, application: Gated) -> None:
    with socket.create_connection(("127.0.0.1", server.effective_port), timeout=LIMIT) as client:
        client.sendall(b"GET /lumps HTTP/1.1\r\nHost: here\r\n\r\n")
        application.gate.set()
        (connection,) = eventually(lambda: list(server.active_channels.values()))
        eventually(lambda: connection.total_outbufs_len > 0)
        assert connection.requests
        assert everything_from(client).endswith(b"second\r\n0\r\n\r\n")


def test_a_client_that_does_not_read_a_stream_is_given_up(
    server: HttpServer, application: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "_STALL", 0.1)
    monkeypatch.setattr(channel, "_STALL_CHECK", 0.01)
    with socket.create_connection(("127.0.0.1", server.effective_port), timeout=LIMIT) as client:
        client.sendall(b"GET /lumps HTTP/1.1\r\nHost: here\r\n\r\n")
        application.gate.set()
        eventually(lambda: server.active_channels)
        eventually(lambda: not server.active_channels)


def test_a_client_that_pipelines_and_reads_nothing_keeps_no_thread(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_connection(("127.0.0.1", server.effective_port), timeout=LIMIT) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n" * 4)
        (connection,) = eventually(lambda: list(server.active_channels.values()))
        eventually(lambda: connection._is_kept_back and server.task_dispatcher.active_count == 0)
        assert connection.requests
        # Nor does it keep its connection for ever.
        monkeypatch.setattr(channel, "_STALL", 0.1)
        monkeypatch.setattr("app.server._SWEEP", 0.01)
        server._next_sweep = 0.0
        eventually(lambda: server.pull_trigger() or not server.active_channels)


def test_what_a_client_pipelined_is_answered_once_it_reads(server: HttpServer) -> None:
    with connect(server) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n" * 3)
        (connection,) = eventually(lambda: list(server.active_channels.values()))
        eventually(lambda: connection._is_kept_back)
        assert [len(client.read().body) for _ in range(3)] == [LARGE] * 3


def test_the_end_of_a_stream_waits_for_nobody(server: HttpServer) -> None:
    with socket.create_connection(("127.0.0.1", server.effective_port), timeout=LIMIT) as client:
        client.sendall(b"GET /lump HTTP/1.1\r\nHost: here\r\n\r\n")
        (connection,) = eventually(lambda: list(server.active_channels.values()))
        eventually(lambda: connection.total_outbufs_len and not connection.requests)
        assert connection.total_outbufs_len > connection.adj.outbuf_high_watermark
        assert everything_from(client).endswith(b"x\r\n0\r\n\r\n")


def test_a_client_that_does_not_read_its_answer_is_idle_after_a_while(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_connection(("127.0.0.1", server.effective_port), timeout=LIMIT) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        (connection,) = eventually(lambda: list(server.active_channels.values()))
        eventually(lambda: connection.total_outbufs_len and not connection.requests)
        monkeypatch.setattr("app.server._IDLE", 0.1)
        monkeypatch.setattr("app.server._SWEEP", 0.01)
        server._next_sweep = 0.0
        eventually(lambda: server.pull_trigger() or not server.active_channels)


def test_a_large_answer_arrives_whole(server: HttpServer) -> None:
    with connect(server) as client:
        assert len(client.ask("GET", "/large").body) == LARGE


def everything_from(client: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    return b"".join(iter(lambda: client.recv(65_536), b""))


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


def test_a_client_that_sends_urgent_data_is_hung_up_on(server: HttpServer) -> None:
    """Nobody would ever read it, so the loop would be told of it again and again."""
    with connect(server) as client:
        client.socket.send(b"!", socket.MSG_OOB)
        assert client.is_over()


def test_those_who_ask_nothing_make_room_for_those_who_do(
    server: HttpServer, application: Gated, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.server._TIME_TO_ASK", 0.0)
    server.adj.connection_limit = 8
    with connect(server) as waiting, contextlib.ExitStack() as crowd:
        waiting.send(GET)
        assert application.entered.acquire(timeout=LIMIT)
        for start in [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nab"] * 10:
            crowd.enter_context(connect(server)).send(start)
            with connect(server) as client:
                assert client.ask("GET", "/now").status == 200
        application.gate.set()
        assert waiting.read().status == 200
    assert len([record for record in caplog.records if record.name == "app.server"]) == 1


def test_who_has_waited_for_long_has_time_to_read_the_answer(server: HttpServer, application: Gated) -> None:
    with connect(server) as client:
        client.send(GET)
        assert application.entered.acquire(timeout=LIMIT)
        (connection,) = server.active_channels.values()
        assert connection.owes_since() is None
        asked = connection.last_activity
        application.gate.set()
        assert client.read().status == 200
        assert eventually(connection.owes_since) > asked


def test_who_waits_for_an_answer_does_not_make_room(
    server: HttpServer, application: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    server.adj.connection_limit = 8
    with contextlib.ExitStack() as crowd:
        clients = [crowd.enter_context(connect(server)) for _ in range(12)]
        for client in clients:
            client.send(GET.replace(b"Host", b"Connection: close\r\nHost"))
        for _ in range(2):
            assert application.entered.acquire(timeout=LIMIT)
        application.gate.set()
        assert [client.read().status for client in clients] == [200] * 12
    assert not [record for record in caplog.records if record.name == "waitress"]
