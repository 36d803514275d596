"""Calls that are told to end, by a real engine: on a cancel, at the deadline of the job, on a shutdown."""

import socket
import ssl
import threading
from collections.abc import Iterable
from time import monotonic

import pytest

from store.clock import SystemClock
from store.job import JobStatus
from tests.worker.harness import Harness, NewHarness
from tests.worker.outgoing.caller import Caller
from tests.worker.outgoing.conftest import NewCaller, Serve
from tests.worker.outgoing.raw_server import RawServer, Received, answer
from worker.errors import Cancelled
from worker.outgoing.addresses import AllowList
from worker.outgoing.answer import read_answer
from worker.outgoing.connections import Connections
from worker.outgoing.egress import Egress
from worker.outgoing.leash import Leash
from worker.outgoing.request import Request

#: Seconds in which a call that is told to end must have ended.
PROMPT = 1.0


def harness_of(new_harness: NewHarness, caller: Caller) -> Harness:
    """An engine whose ``http`` jobs the caller's settings hold for."""

    def run(ctx: object, payload: dict[str, object]) -> object:
        return caller.jobs.spec.function(ctx, caller.decode(**payload))  # type: ignore[arg-type]

    made: Harness = new_harness(handlers={"http": run}, grace=5.0, shutdown_timeout=0.1).start()
    return made


def hanging(serve: Serve, **options: object) -> RawServer:
    """Takes requests and says nothing."""
    server: RawServer
    server = serve(lambda request: server.hang(), **options)
    return server


def dripping(serve: Serve) -> RawServer:
    """Sends a body, marked by the end of the connection, that has none."""

    def script(request: Received) -> Iterable[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        yield from server.drip(b"x")

    server: RawServer = serve(script)
    return server


@pytest.fixture(params=["no answer", "a body without an end"])
def endless(request: pytest.FixtureRequest, serve: Serve) -> RawServer:
    return hanging(serve) if request.param == "no answer" else dripping(serve)


def submitted(harness: Harness, server: RawServer, **fields: object) -> str:
    """A job whose request the server has got."""
    job_id = harness.submit("http", {"url": server.url}, **fields)
    assert server.asked.acquire(timeout=5)
    return job_id


def test_a_cancel_ends_it_at_once(new_harness: NewHarness, caller: Caller, endless: RawServer) -> None:
    harness = harness_of(new_harness, caller)
    job_id = submitted(harness, endless)
    begun = monotonic()
    harness.engine.cancel(job_id)
    job = harness.final(job_id)

    assert monotonic() - begun < PROMPT
    assert (job.status, job.error, job.result) == (JobStatus.CANCELLED, None, None)


def test_the_jobs_deadline_ends_it(new_harness: NewHarness, caller: Caller, endless: RawServer) -> None:
    harness = harness_of(new_harness, caller)
    begun = monotonic()
    job = harness.final(submitted(harness, endless, timeout=0.2, max_attempts=1))

    assert monotonic() - begun < 0.2 + PROMPT
    assert job.error and job.error.type == "TimedOut"
    assert "ran past its timeout of 0.2 s" in job.error.message


def test_a_shutdown_gives_it_back(new_harness: NewHarness, caller: Caller, endless: RawServer) -> None:
    harness = harness_of(new_harness, caller)
    job_id = submitted(harness, endless)
    begun = monotonic()
    harness.engine.stop()
    job = harness.job(job_id)

    assert monotonic() - begun < 0.1 + PROMPT
    assert (job.status, job.interruptions, job.failures) == (JobStatus.PENDING, 1, 0)


def told_to_end(caller: Caller, url: str, asked: threading.Semaphore) -> float:
    """Tell a call to end once ``asked`` says that it is under way; the seconds that it took to do so."""
    told: list[float] = []

    def tell() -> None:
        assert asked.acquire(timeout=5)
        told.append(monotonic())
        caller.ctx.cancelled.set()

    teller = threading.Thread(target=tell)
    teller.start()
    with pytest.raises(Cancelled):
        caller.call(url)
    teller.join()
    return monotonic() - told[0]


def test_an_encrypted_call_ends_as_well(
    serve: Serve, new_caller: NewCaller, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server = hanging(serve, tls=server_tls)
    assert told_to_end(new_caller(tls=client_tls), server.url, server.asked) < PROMPT


def test_a_handshake_ends_as_well(caller: Caller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        greeted, over = threading.Semaphore(0), threading.Event()

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                greeted.release()
                over.wait(5)

        thread = threading.Thread(target=greet)
        thread.start()
        assert told_to_end(caller, f"https://127.0.0.1:{listener.getsockname()[1]}/", greeted) < PROMPT
        over.set()
        thread.join()


def test_a_call_on_a_kept_connection_ends_as_well(
    serve: Serve, new_caller: NewCaller, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server: RawServer
    server = serve(lambda request: answer() if request.target == "/1" else server.hang(), tls=server_tls)
    caller = new_caller(tls=client_tls)
    caller.call(server.url + "/1")
    assert server.asked.acquire(timeout=5)
    assert told_to_end(caller, server.url + "/2", server.asked) < PROMPT
    assert server.connections == 1


def test_a_call_that_was_told_before_it_began_looks_nothing_up(new_caller: NewCaller) -> None:
    asked: list[str] = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    caller: Caller = new_caller(resolver=resolver)
    caller.ctx.cancelled.set()
    with pytest.raises(Cancelled):
        caller.call("http://some.example/")
    assert asked == []


def test_a_connection_that_nobody_takes_ends_as_well(new_caller: NewCaller) -> None:
    looked = threading.Semaphore(0)

    def resolver(host: str, port: int) -> list[str]:
        looked.release()
        return ["127.0.0.1"]

    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.socket() as waiting:
        waiting.connect(listener.getsockname())  # The only place in its line.
        url = f"http://some.example:{listener.getsockname()[1]}/"
        assert told_to_end(new_caller(resolver=resolver), url, looked) < PROMPT


def test_a_call_that_waits_for_a_name_ends_with_the_look_up(new_caller: NewCaller) -> None:
    looking, found = threading.Semaphore(0), threading.Event()

    def resolver(host: str, port: int) -> list[str]:
        looking.release()
        caller.ctx.cancelled.wait()
        found.set()
        return ["127.0.0.1"]

    caller: Caller = new_caller(resolver=resolver)
    server = RawServer(lambda request: answer())
    with server:
        told_to_end(caller, f"http://some.example:{server.port}/", looking)
    assert found.is_set()
    assert server.connections == 0


def test_a_call_that_is_done_with_its_connection_leaves_it_alone(serve: Serve) -> None:
    """The next call may have it already when this one is told to end."""
    told = threading.Event()

    def script(request: Received) -> bytes | Iterable[bytes]:
        return answer() if request.target == "/1" else in_two_parts()

    def in_two_parts() -> Iterable[bytes]:
        yield answer(b"a", length=2)
        assert told.wait(5)
        yield b"b"

    server = serve(script)
    connections = Connections(Egress(AllowList.of(["127.0.0.1"])))
    first, second = Leash(SystemClock(), 5), Leash(SystemClock(), 5)
    read_answer(connections.send(Request("POST", server.url + "/1", {}), first), 100)
    response = connections.send(Request("POST", server.url + "/2", {}), second)
    first.stop()
    told.set()

    assert read_answer(response, 100).body == b"ab"
    assert server.connections == 1
    second.let_go()
    connections.close()


def test_a_leash_that_was_told_lets_nothing_be_waited_for() -> None:
    leash = Leash(SystemClock(), 5)
    leash.stop()
    leash.stop()
    with pytest.raises(Cancelled):
        leash.remaining()
    leash.let_go()
    leash.let_go()
