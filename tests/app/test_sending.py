"""Two threads that send on one connection send each byte once."""

import socket
import threading
from collections.abc import Iterator

import pytest

from app.channel import Channel
from app.server import HttpServer, listen
from store.clock import SystemClock

#: Seconds that the first to send waits for another one; in vain, if all is well.
_PATIENCE = 0.2


class Narrow(socket.socket):
    """A socket on which who sends first waits until another thread sends, too."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        self.is_taken = threading.Event()
        self.is_shared = threading.Event()

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        if self.is_taken.is_set():
            self.is_shared.set()
        else:
            self.is_taken.set()
            self.is_shared.wait(_PATIENCE)
        return super().send(data, flags)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    server = HttpServer(
        lambda *_: [], listen("127.0.0.1", 0), SystemClock(), threads=1, max_body=1000, on_death=lambda: None
    )
    yield server
    server.stop(1)


def test_the_loop_and_a_thread_that_has_answered_do_not_both_send_an_answer(server: HttpServer) -> None:
    ours, theirs = socket.socketpair()
    narrow = Narrow(ours)
    channel = Channel(server, narrow, ("", 0), server.adj, map={})
    channel.write_soon(b"an answer")
    answering = threading.Thread(target=channel.flush)
    answering.start()
    assert narrow.is_taken.wait(10)

    channel.handle_write()  # as the loop does when no request is in line

    answering.join()
    channel.handle_close()
    with theirs:
        assert theirs.makefile("rb").read() == b"an answer"
    assert not channel.will_close
