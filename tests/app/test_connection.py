"""One connection, shared by the loop and the threads: how its requests take turns, and how it ends."""

import contextlib
import logging
import random
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from app import channel
from app.channel import Channel
from app.server import HttpServer, listen
from store.clock import SystemClock
from tests.app.conversation import Conversation
from tests.eventually import eventually
from tests.fake_clock import FakeClock

#: Seconds; no test comes near it unless something hangs.
LIMIT = 10.0
#: Bytes of an answer that no socket takes at once.
LARGE = 20_000_000


def asking(path: str, *headers: str) -> bytes:
    """A request without a body."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: here", *headers, "\r\n"]).encode()


class Application:
    """``/gate`` is answered once the test opens the gate, all else at once, with path, host and body."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/gate":
            self.entered.release()
            assert self.gate.wait(LIMIT)
        body = f"{environ['PATH_INFO']} {environ['HTTP_HOST']}".encode() + environ["wsgi.input"].read()
        if environ["PATH_INFO"] == "/large":
            body = b"x" * LARGE
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


@pytest.fixture
def application() -> Iterator[Application]:
    application = Application()
    yield application
    application.gate.set()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def serve(application: Application, clock: Any) -> HttpServer:
    return HttpServer(
        application,
        listen("127.0.0.1", 0),
        clock,
        threads=2,
        max_body=1000,
        on_death=lambda: pytest.fail("the loop died"),
    )


@pytest.fixture
def server(application: Application, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    # As in the program: it warns of every request that finds no thread idle.
    monkeypatch.setattr(logging.getLogger("waitress.queue"), "disabled", True)
    server = serve(application, SystemClock())
    server.start()
    yield server
    application.gate.set()
    server.stop(LIMIT)


def connect(server: HttpServer) -> Conversation:
    return Conversation(int(server.effective_port))


def only_connection(server: HttpServer) -> Any:
    (connection,) = eventually(lambda: list(server.active_channels.values()))
    return connection


@pytest.fixture
def held_loop(server: HttpServer) -> Iterator[threading.Event]:
    """Set it to let the loop go on; it is held from the moment when it is cleared and ``hold`` was called."""
    go_on = threading.Event()
    yield go_on
    go_on.set()


def hold(server: HttpServer, go_on: threading.Event) -> None:
    """Have the loop do nothing until ``go_on``; return when it stands still."""
    held = threading.Event()

    def wait() -> None:
        held.set()
        assert go_on.wait(LIMIT)

    server._call_in_loop(wait)
    assert held.wait(LIMIT)


def test_the_headers_of_one_request_do_not_become_those_of_the_next(server: HttpServer) -> None:
    """Not even if the first asks for leave to send, and has nothing to send."""
    with connect(server) as client:
        client.send(b"GET /1 HTTP/1.1\r\nHost: one\r\nExpect: 100-continue\r\n\r\n")
        assert client.read().body == b"/1 one"
        client.send(b"GET /2 HTTP/1.1\r\nHost: two\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n")
        assert client.read().body == b"/2 two"


class Unhurried(Channel):
    """A thread that has answered all that is in line stands still before it looks whether more may come."""

    looks = threading.Semaphore(0)
    go_on = threading.Event()
    _is_last = False

    @property
    def sends_no_more(self) -> bool:
        if threading.current_thread().name != "waitress-loop" and not self.requests and not self.go_on.is_set():
            self.looks.release()
            assert self.go_on.wait(LIMIT)
        return self._is_last

    @sends_no_more.setter
    def sends_no_more(self, value: bool) -> None:
        self._is_last = value


def test_a_last_request_that_comes_when_all_others_are_answered_is_answered_too(
    server: HttpServer, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Unhurried, "looks", threading.Semaphore(0))
    monkeypatch.setattr(Unhurried, "go_on", threading.Event())
    server.channel_class = Unhurried
    with connect(server) as client:
        client.send(asking("/now"))
        assert Unhurried.looks.acquire(timeout=LIMIT)
        assert client.read().status == 200
        client.send(asking("/gate"))
        client.socket.shutdown(socket.SHUT_WR)
        eventually(lambda: only_connection(server)._is_last)
        Unhurried.go_on.set()
        eventually(lambda: server.task_dispatcher.active_count == 1)
        for _ in range(2):  # the loop has done what it was told
            hold(server, Unhurried.go_on)
        application.gate.set()
        assert client.read().body == b"/gate here"
        assert client.is_over()


def test_a_request_that_was_kept_back_is_answered_although_the_loop_has_sent_nothing(
    server: HttpServer, held_loop: threading.Event
) -> None:
    """A thread may have sent what it was kept back for."""
    with connect(server) as client:
        server.adj.outbuf_high_watermark = LARGE // 10
        client.send(asking("/large") * 2)
        connection = only_connection(server)
        eventually(lambda: connection._is_kept_back)
        hold(server, held_loop)
        reading = threading.Thread(target=client.read)
        reading.start()
        eventually(lambda: (connection._flush_some(), not connection.total_outbufs_len)[1])
        reading.join(LIMIT)
        held_loop.set()
        assert len(client.read().body) == LARGE


def test_only_the_loop_closes_a_connection(
    server: HttpServer, application: Application, held_loop: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """It would stumble over one that goes while it looks at all of them."""
    with connect(server) as client:
        client.send(asking("/gate"))
        client.send(b"POST /2 HTTP/1.1\r\nHost: two\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert application.entered.acquire(timeout=LIMIT)
        connection = only_connection(server)
        eventually(lambda: connection.request)
        hold(server, held_loop)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    application.gate.set()
    eventually(lambda: connection.sent_continue)
    eventually(lambda: server.task_dispatcher.active_count == 0)
    assert list(server.active_channels.values()) == [connection]
    held_loop.set()
    eventually(lambda: not server.active_channels)
    assert not caplog.records


def test_a_thread_may_find_the_connection_closed(server: HttpServer) -> None:
    with connect(server) as client:
        client.ask("GET", "/now")
        connection = only_connection(server)
    eventually(lambda: not server.active_channels and connection.socket is None)
    connection.hang_up()
    connection.send_continue()
    connection.flush()
    assert connection._has_hung_up()


@pytest.mark.parametrize("more", [b"\r\n", asking("/now"), b"x" * 1_000_000], ids=["a line", "a request", "much"])
def test_what_a_client_sends_after_its_last_request_does_not_cost_it_the_answer(
    server: HttpServer, more: bytes
) -> None:
    """Closing a connection on what was not read resets it, and throws away what was not sent."""
    with connect(server) as client:
        client.send(asking("/large", "Connection: close"))
        connection = only_connection(server)
        eventually(lambda: connection.total_outbufs_len and not connection.requests)
        client.send(more)
        assert len(client.read().body) == LARGE
        assert client.socket.recv(1) == b""


def test_a_client_that_does_not_close_after_the_last_answer_is_hung_up_on(application: Application) -> None:
    clock = FakeClock()
    server = serve(application, clock)
    server.start()
    with connect(server) as client:
        assert client.ask("GET", "/now", b"", "Connection: close").status == 200
        assert client.is_over()
        connection = only_connection(server)
        clock.advance(1)
        server.pull_trigger()
        client.send(b"x")
        eventually(lambda: connection._discarded)
        clock.advance(6)
        server.pull_trigger()
        eventually(lambda: not server.active_channels)
    server.stop(LIMIT)


def test_so_is_one_that_goes_on_and_on(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_DISCARDED", 100_000)
    with connect(server) as client:
        assert client.ask("GET", "/now", b"", "Connection: close").status == 200
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                client.send(b"x" * 10_000)
    eventually(lambda: not server.active_channels)


def test_a_connection_that_is_over_makes_room_for_others_at_once(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.server._TIME_TO_ASK", 10 * LIMIT)
    server.adj.connection_limit = 4
    with contextlib.ExitStack() as crowd:
        for _ in range(50):
            client = crowd.enter_context(connect(server))
            assert client.ask("GET", "/now", b"", "Connection: close").status == 200
        assert len(server.active_channels) <= 2


class Talker:
    """A client that pipelines what it asks, in pieces, and knows the answers."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.answers: list[bytes] = []
        self.words = b"".join(self._request(f"/{seed}/{number}") for number in range(self._rng.randint(1, 60)))

    def _request(self, path: str) -> bytes:
        rng = self._rng
        body = rng.randbytes(rng.choice([0, 0, 1, 100, 900]))
        self.answers.append(f"{path} here".encode() + body)
        head = f"POST {path} HTTP/1.1\r\nHost: here\r\n" + rng.choice(["", "Expect: 100-continue\r\n"])
        if rng.random() < 0.5:
            return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        cuts = sorted({0, len(body), *(rng.randint(0, len(body)) for _ in range(5))})
        chunks = [b"%x\r\n%b\r\n" % (end - begin, body[begin:end]) for begin, end in pairwise(cuts)]
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"".join(chunks) + b"0\r\n\r\n"

    def talk(self, client: Conversation) -> None:
        """Say everything; then, perhaps, close this side."""
        most = self._rng.choice([3, 100, 5000, 100_000])
        rest = self.words
        while rest:
            size = self._rng.randint(1, most)
            client.send(rest[:size])
            rest = rest[size:]
        if self._rng.random() < 0.5:
            client.socket.shutdown(socket.SHUT_WR)

    def meet(self, server: HttpServer) -> list[bytes]:
        """Hold the conversation; what was answered."""
        with connect(server) as client:
            if self._rng.random() < 0.3:
                client.send(self.words[: self._rng.randrange(len(self.words))])
                return self.answers  # it hangs up, and does not care
            talking = threading.Thread(target=self.talk, args=(client,))
            talking.start()
            answers = []
            while len(answers) < len(self.answers):
                reply = client.read()
                if reply.status != 100:
                    answers.append(reply.body)
            talking.join(LIMIT)
            return answers


def test_every_answer_is_the_one_to_its_request_whatever_comes_when(server: HttpServer) -> None:
    talkers = [Talker(seed) for seed in range(100)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda talker: talker.meet(server), talkers))
    assert answers == [talker.answers for talker in talkers]
    eventually(lambda: not server.active_channels)
