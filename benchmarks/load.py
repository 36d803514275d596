"""A load that costs little: keep-alive connections that post the same bytes again and again.

One process, one thread. It runs beside the server on the same few cores, so
it does the least that is honest: requests are bytes made beforehand, and of
an answer it reads the status and, by ``Content-Length``, the end.

Run as ``python -m benchmarks.load PORT PATH BODY CONNECTIONS SECONDS``; prints JSON.
"""

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from benchmarks.table import percentile

#: Seconds of load before counting begins: imports, caches and threads are warm then.
_WARM_UP = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """What a load of a given time came to."""

    #: Answered requests a second.
    rate: float
    #: Seconds from request to answer that 99 in 100 requests took at most.
    p99: float


class UnexpectedAnswer(Exception):
    """The server did not answer 201, so the numbers would mean nothing."""


class Connection:
    """One keep-alive connection with at most one request on its way."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._answer = b""
        self.sent = 0.0

    def send(self) -> None:
        """Put the request on its way; it is far smaller than the socket's buffer."""
        self.sent = time.perf_counter()
        self.socket.sendall(self._request)

    def receive(self) -> bool:
        """Read what is there; say whether the answer is whole."""
        data = self.socket.recv(65536)
        if not data:
            raise UnexpectedAnswer("the server closed the connection")
        self._answer += data
        if not _is_whole(self._answer):
            return False
        if not self._answer.startswith(b"HTTP/1.1 201 "):
            raise UnexpectedAnswer(self._answer[:300].decode(errors="replace"))
        self._answer = b""
        return True


def _is_whole(answer: bytes) -> bool:
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    at = head.index(b"Content-Length: ") + 16
    return len(body) >= int(head[at : at + 9].split(b"\r", 1)[0])


def _request(port: int, path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def post(port: int, path: str, body: bytes, connections: int, seconds: float) -> Load:
    """Keep every connection busy for ``seconds``, after a warm-up."""
    with contextlib.ExitStack() as stack:
        peers: dict[int, Connection] = {}
        poller = stack.enter_context(select.epoll())
        for _ in range(connections):
            peer = Connection(port, _request(port, path, body))
            stack.enter_context(peer.socket)
            peers[peer.socket.fileno()] = peer
            poller.register(peer.socket, select.EPOLLIN)
        for peer in peers.values():
            peer.send()
        _serve(poller, peers, time.perf_counter() + _WARM_UP)
        started = time.perf_counter()
        latencies = _serve(poller, peers, started + seconds)
        elapsed = time.perf_counter() - started
    return Load(len(latencies) / elapsed, percentile(latencies, 99))


def _serve(poller: select.epoll, peers: dict[int, Connection], until: float) -> list[float]:
    """Post again on every connection that has its answer; return the latencies."""
    latencies = []
    while (now := time.perf_counter()) < until:
        for descriptor, _ in poller.poll(until - now):
            peer = peers[descriptor]
            if peer.receive():
                latencies.append(time.perf_counter() - peer.sent)
                peer.send()
    return latencies


def run(port: int, path: str, body: bytes, connections: int, seconds: float) -> Load:
    """The same in a process of its own, so that it shares no interpreter with the caller."""
    command = [sys.executable, "-m", "benchmarks.load", str(port), path, body.decode(), str(connections), str(seconds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, start_new_session=True)
    return Load(**json.loads(done.stdout))


def main(arguments: list[str]) -> None:
    """Load as the arguments say and print the outcome as JSON."""
    port, path, body, connections, seconds = arguments
    print(json.dumps(asdict(post(int(port), path, body.encode(), int(connections), float(seconds)))))


if __name__ == "__main__":
    main(sys.argv[1:])
