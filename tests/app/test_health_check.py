"""Asking from outside whether a service is alive."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Thread

import pytest

from app import health_check
from app.health_check import Unhealthy


@contextmanager
def answering(reply: bytes, host: str = "127.0.0.1") -> Iterator[int]:
    """A server that answers one request; gives its port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        thread = Thread(target=_answer, args=(listener, reply))
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def _answer(listener: socket.socket, reply: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(reply)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("host", "at"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")]
)
def test_it_is_asked_where_it_listens(host: str, at: str) -> None:
    with answering(OK, at) as port:
        health_check.check(host, port)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "answers with the status 503"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answers with the status 404"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer: SSH-2.0-OpenSSH_9.2"),
        (b"", "does not answer: Remote end closed connection without response"),
    ],
)
def test_what_answers_otherwise_is_not_it(reply: bytes, said: str) -> None:
    with answering(reply) as port, pytest.raises(Unhealthy) as caught:
        health_check.check("127.0.0.1", port)

    assert str(caught.value) == f"127.0.0.1 port {port} {said}"


def test_where_nobody_listens_it_is_not_alive() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(Unhealthy, match=f"127.0.0.1 port {port} does not answer: Connection refused"):
        health_check.check("127.0.0.1", port)


def test_one_that_hangs_is_not_alive() -> None:
    """The kernel takes the connection, and nobody ever reads from it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener, pytest.raises(Unhealthy, match="timed out"):
        health_check.check("127.0.0.1", listener.getsockname()[1], timeout=0.05)


def test_a_port_that_the_service_chose_is_not_known() -> None:
    with pytest.raises(Unhealthy, match="GOFER_PORT is 0"):
        health_check.check("127.0.0.1", 0)
