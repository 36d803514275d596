"""Slow and hostile clients: others are served meanwhile, and the service does not spin."""

import contextlib
import http.client
import itertools
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.system.service import PATIENCE, PROGRAM, Service

#: Seconds in which ``/health`` must be answered, whatever else goes on.
SOON = 1.0
#: Seconds after which the place of a waiting client that went away is free.
FREE = 2.0
#: How often is looked. All looks but one must be good: a machine that others use, too, is slow for a moment, which
#: holds up one of them; a service that is slow is so again and again.
LOOKS = 3
#: Bytes that a body without end may get to send: twice what is read of one, and what is under way.
ENOUGH = 64 << 20
#: Seconds for which the use of the processor is measured, and the share of one processor that is no spinning.
WINDOW, CALM = 0.5, 0.5

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all: each test must leave it as good as new, which is the point."""
    service = Service(tmp_path_factory.mktemp("service"))
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.kill()


@contextlib.contextmanager
def crowd(service: Service, size: int, *starts: bytes) -> Iterator[list[socket.socket]]:
    """Connections, each of which begins in one of some ways."""
    with contextlib.ExitStack() as opened:
        clients = []
        for n in range(size):
            clients.append(opened.enter_context(connect(service)))
            if starts:
                clients[-1].sendall(starts[n % len(starts)])
        yield clients


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE)


def everybody_else_is_served(service: Service) -> None:
    assert is_usual(lambda: _time_of(lambda: service.get("/health").status == 200) < SOON)
    job = service.post("/jobs?wait=10", {"type": "echo", "payload": 1})
    assert (job.status, job.json["result"]) == (200, 1)


def is_usual(look: Callable[[], bool]) -> bool:
    """Whether all looks but one are good; ends as soon as it is known."""
    good = (True for _ in range(LOOKS) if look())
    return sum(itertools.islice(good, LOOKS - 1)) == LOOKS - 1


def _time_of(act: Callable[[], object]) -> float:
    """Seconds until it came out true."""
    began = time.monotonic()
    assert act()
    return time.monotonic() - began


def nothing_spins(service: Service) -> None:
    """What spins does so each time."""
    assert any(_use_of_processor(service) < CALM for _ in range(LOOKS))


def _use_of_processor(service: Service) -> float:
    """Its share. Not a wait for something: what is measured is the passing of time."""
    before = _processor_time(service)
    with pytest.raises(subprocess.TimeoutExpired):
        service.process.wait(WINDOW)
    return (_processor_time(service) - before) / WINDOW


def _processor_time(service: Service) -> float:
    """Seconds."""
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_idle_connections(service: Service) -> None:
    with crowd(service, 500):
        everybody_else_is_served(service)
        nothing_spins(service)


def test_dripped_headers_and_bodies(service: Service) -> None:
    with crowd(service, 200, GET[:10], POST + b"Content-Length: 1000\r\n\r\n{", POST + b"X: ") as clients:
        for _ in range(5):
            for client in clients:
                client.sendall(b"x")
            everybody_else_is_served(service)
        nothing_spins(service)


def test_clients_that_closed_their_side(service: Service) -> None:
    with crowd(service, 100, b"", GET[:10], POST + b"Content-Length: 1000\r\n\r\n{", GET) as clients:
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        everybody_else_is_served(service)
        nothing_spins(service)
        assert clients[3].recv(100).startswith(b"HTTP/1.1 200 OK")


def test_clients_that_closed_their_side_and_wait_for_a_job(service: Service) -> None:
    job = service.submit("sleep", 60)["id"]
    with crowd(service, 20, GET.replace(b"/health", f"/jobs/{job}?wait=60".encode())) as clients:
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        assert all(client.recv(100).startswith(b"HTTP/1.1 200 OK") for client in clients)
        nothing_spins(service)
    service.post(f"/jobs/{job}/cancel")


def test_bytes_that_are_no_http(service: Service) -> None:
    with crowd(service, 100, b"\x16\x03\x01\x02\x00\x01\x00", b"\0" * 1000, b"\r\n" * 1000, os.urandom(1000)):
        everybody_else_is_served(service)
        nothing_spins(service)


def test_urgent_data(service: Service) -> None:
    with crowd(service, 10, b"", GET[:10], POST + b"Content-Length: 1000\r\n\r\n{") as clients:
        size = len(service.stderr)
        for client in clients:
            client.send(b"!", socket.MSG_OOB)
        everybody_else_is_served(service)
        nothing_spins(service)
        assert len(service.stderr) < size + 2000


def test_clients_that_pipeline_and_do_not_read(service: Service) -> None:
    """Too few to hold a thread each would be enough, if they could hold one at all."""
    service.post("/queues/default/pause")
    for _ in range(10):
        service.submit_many([{"type": "echo", "payload": "x" * 40_000}] * 20)
    service.post("/queues/default/resume")
    with crowd(service, 20, GET.replace(b"/health", b"/jobs?limit=1000") * 8):
        # Until each has an answer that it does not read.
        eventually(lambda: service.stderr.count("method='GET' path='/jobs'") >= 20, PATIENCE)
        everybody_else_is_served(service)
        eventually(lambda: service.get("/health").status == 200)


@pytest.mark.parametrize(
    "head", [b"Transfer-Encoding: chunked", b"Content-Length: 99999999999"], ids=["chunked", "with a length"]
)
def test_bodies_without_end(service: Service, head: bytes) -> None:
    """They are read to the bound, refused, and hung up on."""
    with ThreadPoolExecutor(3) as pool:
        floods = [pool.submit(flood, service, POST + head + b"\r\n\r\n") for _ in range(3)]
        while not all(each.done() for each in floods):
            everybody_else_is_served(service)
    for each in floods:
        assert each.result().startswith(b"HTTP/1.1 413 ")
    nothing_spins(service)


def flood(service: Service, start: bytes) -> bytes:
    """Send a body, and read meanwhile, until the service hangs up; the answer."""
    answer, piece = b"", b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    with connect(service) as client:
        client.sendall(start)
        try:
            for _ in range(ENOUGH // len(piece)):
                client.sendall(piece)
                if select.select([client], [], [], 0)[0]:
                    answer += client.recv(10_000)
        except ConnectionError:
            # A flooder that was held up may not have read it yet.
            return answer or client.recv(10_000)
    pytest.fail("nobody hangs up")


def with_files(number: int) -> tuple[str, ...]:
    """The program with a limit of open files."""
    code = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({number},) * 2)"
    return (sys.executable, "-c", f"{code}; os.execv(sys.argv[1], sys.argv[1:])", *PROGRAM)


def test_more_connections_than_there_may_be(launch: Callable[..., Service]) -> None:
    service = launch(program=with_files(128))
    service.wait_until_ready()
    with crowd(service, 150, b"", GET[:10], POST + b"Content-Length: 1000\r\n\r\n{"):
        everybody_else_is_served(service)
        nothing_spins(service)
        everybody_else_is_served(service)
    assert service.stderr.count("too many connections") == 1


def test_descriptors_used_up(launch: Callable[..., Service], tmp_path: Path) -> None:
    service = launch(program=with_files(128))
    service.wait_until_ready()
    job = service.submit("hoarder", str(tmp_path / "end"))["id"]
    eventually(lambda: service.get(f"/jobs/{job}/logs").json["lines"])

    with crowd(service, 40, GET):
        for _ in range(5):
            everybody_else_is_served(service)
        nothing_spins(service)

    assert service.stderr.count("no file descriptor is left") == 1
    (tmp_path / "end").touch()
    assert service.wait_for_end(job)["status"] == "completed"
    everybody_else_is_served(service)


def _hang_up(client: socket.socket) -> None:
    client.close()


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _close_its_side(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("leave", [_hang_up, _reset, _close_its_side])
def test_a_waiting_client_that_goes_away_frees_its_place_within_two_seconds(
    start: Callable[..., Service], leave: Callable[[socket.socket], None]
) -> None:
    service = start(GOFER_THREADS=4)
    job = service.submit("sleep", 60)["id"]

    def may_wait() -> bool:
        """Without a free place the answer comes at once."""
        began = time.monotonic()
        service.get(f"/jobs/{job}?wait=0.2")
        return time.monotonic() - began >= 0.2

    def time_until_free(path: str) -> float:
        # Two of them get a place each, unless our own question was faster.
        with crowd(service, 6, GET.replace(b"/health", path.encode())) as clients:
            eventually(lambda: not may_wait())
            for client in clients:
                leave(client)
            return _time_of(lambda: eventually(may_wait))

    for path in (f"/jobs/{job}?wait=60", f"/jobs/{job}/logs?follow=1"):
        assert is_usual(lambda path=path: time_until_free(path) < FREE)


def test_health_is_answered_while_all_of_this_goes_on(service: Service) -> None:
    """Over one connection that is kept, as a load balancer has it."""
    kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
    with contextlib.closing(kept), crowd(service, 300, b"", GET[:10], POST + b"X: ", b"\r\n", GET * 20):
        times = []
        for _ in range(20):
            began = time.monotonic()
            kept.request("GET", "/health")
            assert kept.getresponse().read()
            times.append(time.monotonic() - began)
        assert sorted(times)[-LOOKS] < SOON
