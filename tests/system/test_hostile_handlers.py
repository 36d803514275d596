"""Handlers that do their worst: what the user reads of the job, and that the service goes on."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually
from tests.foreign_program import ask
from tests.processes import is_alive
from tests.system import hostile_handlers
from tests.system.service import HANDLERS, PATIENCE, Service

WORKERS = 3
SETTINGS: dict[str, Any] = {"GOFER_HANDLERS": hostile_handlers.__file__, "GOFER_WORKERS": WORKERS}
#: Types of jobs: the handler runs in a thread of the service, or in a process of its own.
THREAD, PROCESS = "hostile", "contained"
KINDS = [THREAD, PROCESS]

#: How the service says that it cannot go on.
HTTP_ENDED = "the HTTP server ended by itself"
CLOSED = "the service's descriptors were closed by somebody else, such as a handler"

#: What the user reads of a handler that raises: type and message.
RAISED = {
    "BaseException": ("BaseException", "base"),
    "SystemExit": ("SystemExit", "3"),
    "KeyboardInterrupt": ("KeyboardInterrupt", ""),
    "GeneratorExit": ("GeneratorExit", ""),
    "StopIteration": ("StopIteration", ""),
    "MemoryError": ("MemoryError", ""),
    "spiteful": ("Spiteful", "(the exception's text is not to be had: its __str__ raised RuntimeError)"),
    "anonymous": ("BaseException", ""),
    "masked": ("Masked", ""),
    "undecided": ("Undecided", "the handler asked for another attempt"),
    "huge": ("ValueError", "x" * 4096 + " … (cut; it had 10000000 characters)"),
    "surrogate": ("ValueError", "\ufffd\ufffd\ufffd and \ufffd"),
    "group": ("ExceptionGroup", "many (1000 sub-exceptions)"),
    "exit": ("SystemExit", "0"),
    "recurse": ("RecursionError", "maximum recursion depth exceeded"),
    "trace": ("RuntimeError", "traced"),
}
#: What the user reads of one that returns what cannot be kept: the message of an InvalidResult.
REFUSED = {
    "NaN": "the result contains nan, which JSON does not have",
    "infinity": "the result contains inf, which JSON does not have",
    "bytes": "the result contains bytes, which JSON does not have; decode or encode them",
    "cycle": "the result is nested too deeply, or contains itself",
    "lone surrogate": "the result contains text that is not Unicode (a lone surrogate)",
    "100 MB": "the result has 100000002 bytes as JSON; 1048576 are allowed",
    "deep": "the result is nested more than 64 levels deep",
    "very deep": "the result is nested too deeply, or contains itself",
    "huge int": "the result is no JSON value: Exceeds the limit (4300 digits) for integer string conversion; "
    "use sys.set_int_max_str_digits() to increase the limit",
    "keys": "the result has the key 1; JSON's keys are strings",
    "generator": "the result is no JSON value: Encoding objects of type generator is unsupported",
    "coroutine": "the result is no JSON value: Encoding objects of type coroutine is unsupported",
    "lambda": "the result is no JSON value: Encoding objects of type function is unsupported",
    "puzzle": "the result is no JSON value: Encoding objects of type Puzzle is unsupported",
    "puzzle inside": "the result is no JSON value: Encoding objects of type Puzzle is unsupported",
    "words": "the result is no JSON value: Encoding objects of type Words is unsupported",
    "remains": "the result is no JSON value: Encoding objects of type Remains is unsupported",
    "class": "the result is no JSON value: Encoding objects of type type is unsupported",
    "modules": "the result is no JSON value: Encoding objects of type module is unsupported",
}
#: What the user reads of one that returns all the same: its result.
RETURNED = {
    "big int": 2**70,
    "minus zero": -0.0,
    "raise in a thread": "raised elsewhere",
    "leak threads": "leaked",
    "fork and return": "the one and only",
    "fork and raise": "the one and only",
    "fork and exit": 7,
    "fork and terminate": -signal.SIGTERM,
}
#: What one changes for the whole Python of its process, where it stays, and what the user reads then.
CHANGED = {
    "environment": "done",
    "time zone": "done",
    "gc": "done",
    "warnings": "done",
    "no stdout": "changed",
    "no stderr": "changed",
    "unhook logging": "unhooked",
    "json.dumps": "changed",
    "mute": "mute",
}
#: What the system keeps for each process.
KEPT_BY_THE_SYSTEM = {"chdir": "done", "umask": "done"}
#: The same, as far as a handler in a thread cannot change it, or would for the whole service.
KEPT_ALONE = {
    "nice": "done",
    "ignore signals": "ignored",
    "block signals": "done",
    "alarm": "set",
    "limit files": "limited",
    "close pipes": "closed",
}
#: What the user reads of one that only reads the files of the database, which is not as harmless as it seems.
READ = {"read database": "read", "copy database": "copied"}
#: What the user reads of one that closes what belongs to its process, if that is one of its own: a ProcessDied.
CONTAINED = {
    "close all": "the handler closed its process's connection; the process was killed",
    "close sockets": "the handler's process ended with exit code 1",
}
#: Those that have a test of their own.
SINGLE = {"entries", "fork and hang", "log a million lines", "log on and on", "never return", "recurse in C"}
#: In a thread it cannot be contained: with which words, or one of which, the service ends.
FATAL = {
    "close all": f"({HTTP_ENDED}|{CLOSED})",
    "close sockets": HTTP_ENDED,
    "close listener": HTTP_ENDED,
    "replace listener": HTTP_ENDED,
    "limit files": HTTP_ENDED,
    "close pipes": CLOSED,
    "close database": "descriptors of /.*/gofer.db were closed by somebody else, such as a handler",
}


@contextlib.contextmanager
def serving(directory: Path, **settings: object) -> Iterator[Service]:
    """A service until the end of the block."""
    service = Service(directory, **{**SETTINGS, **settings})
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.kill()


@pytest.fixture(scope="module")
def unreturned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose handlers do not return, for each kind one."""
    with serving(tmp_path_factory.mktemp("unreturned"), GOFER_SHUTDOWN_TIMEOUT=0.1) as service:
        for kind in KINDS:
            service.submit(kind, "never return", max_attempts=1, timeout=0.1)
        yield service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, unreturned: Service) -> Iterator[Service]:
    """One service that must survive all the others. The first one's time runs meanwhile."""
    with serving(tmp_path_factory.mktemp("hostile")) as service:
        yield service


def run(service: Service, kind: str, way: str, **options: object) -> dict[str, Any]:
    """Have a handler do something, once; the job when it has ended."""
    return service.wait_for_end(service.submit(kind, way, **{"max_attempts": 1, **options})["id"])


def check_that_it_goes_on(service: Service) -> None:
    """It is alive and ready, accepts, stores and runs jobs, and no place of a worker is lost."""
    assert service.wait_for_end(service.submit("decent", 41)["id"])["result"] == 42
    assert service.get("/health").status == 200
    eventually(lambda: service.get("/ready").status == 200, PATIENCE)
    eventually(lambda: service.stats()["processing"] == 0, PATIENCE)
    (queue,) = service.get("/queues").json["queues"]
    assert (queue["workers"], queue["pending"]) == (WORKERS, 0)


def outcome(job: dict[str, Any]) -> tuple[str, int, str, str]:
    """What the user reads of a job that failed."""
    return job["status"], job["attempt"], job["error"]["type"], job["error"]["message"]


def test_each_way_is_tried() -> None:
    known = {*hostile_handlers.RAISES, *hostile_handlers.RETURNS, *hostile_handlers.DOES}
    tables = (RAISED, REFUSED, RETURNED, CHANGED, KEPT_BY_THE_SYSTEM, KEPT_ALONE, READ, CONTAINED, FATAL)
    assert known == {*SINGLE, *(way for table in tables for way in table)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", RAISED)
def test_what_is_raised_fails_the_attempt(service: Service, kind: str, way: str) -> None:
    assert outcome(run(service, kind, way)) == ("failed", 1, *RAISED[way])
    check_that_it_goes_on(service)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", REFUSED)
def test_a_result_that_cannot_be_kept_fails_the_attempt_and_says_why(service: Service, kind: str, way: str) -> None:
    assert outcome(run(service, kind, way)) == ("failed", 1, "InvalidResult", REFUSED[way])
    check_that_it_goes_on(service)


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_that_raises_when_it_is_read_fails_the_attempt_with_that(service: Service, kind: str) -> None:
    assert outcome(run(service, kind, "entries")) == ("failed", 1, "RuntimeError", "no entries")
    check_that_it_goes_on(service)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", RETURNED)
def test_what_does_no_harm_completes(service: Service, kind: str, way: str) -> None:
    """A copy that was forked off never acts as the service: its result would be another one."""
    job = run(service, kind, way)
    assert (job["status"], job["attempt"]) == ("completed", 1)
    # As text: to Python, 0.0 equals -0.0.
    assert json.dumps(job["result"]) == json.dumps(RETURNED[way])
    check_that_it_goes_on(service)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_attempt_is_tried_again(service: Service, kind: str) -> None:
    """Whatever was raised, it is an attempt like any other."""
    job = service.submit(kind, "SystemExit", max_attempts=2)
    eventually(lambda: service.job(job["id"])["attempt"] == 1, PATIENCE)
    ended = service.wait_for_end(job["id"])
    assert outcome(ended) == ("failed", 2, "SystemExit", "3")


@pytest.mark.parametrize("way", {**KEPT_BY_THE_SYSTEM, **KEPT_ALONE})
def test_what_a_handler_changes_in_its_own_process_does_not_reach_the_next_one(service: Service, way: str) -> None:
    before = run(service, "next", None)["result"]
    job = run(service, PROCESS, way)
    assert (job["status"], job["result"]) == ("completed", {**KEPT_BY_THE_SYSTEM, **KEPT_ALONE}[way])
    assert run(service, "next", None)["result"] == before
    check_that_it_goes_on(service)


def test_what_a_handler_changes_for_the_whole_service_does_not_stop_it(start: Callable[..., Service]) -> None:
    """It goes on, stops in order, and the next one starts with the same files."""
    service = start(**SETTINGS)
    for way, result in {**CHANGED, **KEPT_BY_THE_SYSTEM}.items():
        for kind in KINDS:
            job = run(service, kind, way)
            assert (way, job["status"], job["result"]) == (way, "completed", result)
        check_that_it_goes_on(service)
    assert service.stop() == 0
    again = start(**SETTINGS)
    assert again.job(job["id"])["status"] == "completed"
    check_that_it_goes_on(again)


def test_a_million_lines_do_not_grow_the_service_and_the_last_are_kept(service: Service) -> None:
    before = memory(service)
    job_id = service.submit(THREAD, "log a million lines", max_attempts=1)["id"]
    assert service.wait_for_end(job_id)["result"] == "logged"
    lines = service.get(f"/jobs/{job_id}/logs").json["lines"]
    assert [line["message"] for line in lines] == [f"line {number}" for number in range(999_000, 1_000_000)]
    assert memory(service) < before + 50
    check_that_it_goes_on(service)


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_that_logs_for_ever_neither_stalls_the_service_nor_grows_it(service: Service, kind: str) -> None:
    job_id = service.submit(kind, "log on and on", max_attempts=1)["id"]
    eventually(lambda: len(service.get(f"/jobs/{job_id}/logs").json["lines"]) == 1000, PATIENCE)
    before = memory(service)
    assert service.get("/health").status == 200
    assert service.wait_for_end(service.submit("decent", 41)["id"])["result"] == 42
    assert memory(service) < before + 50
    assert service.post(f"/jobs/{job_id}/cancel").status == 202
    assert service.wait_for_end(job_id)["status"] == "cancelled"
    check_that_it_goes_on(service)


def test_a_handler_that_never_returns_costs_neither_a_worker_nor_the_stop(unreturned: Service) -> None:
    """In a thread, it is left alone; in a process, that is killed; both some seconds after the job's time is up."""
    service = unreturned
    what = "attempt 1 did not end within 5 s after its timeout of 0.1 s; its thread was abandoned"
    assert [outcome(service.wait_for_end(job["id"])) for job in reversed(list(service.jobs()))] == [
        ("failed", 1, "TimedOut", what),
        ("failed", 1, "TimedOut", "attempt 1 ran past its timeout of 0.1 s"),
    ]
    check_that_it_goes_on(service)
    last = service.submit(THREAD, "never return")["id"]
    service.wait_for_start(last)
    assert service.stop() == 0
    assert "does not end; its thread is abandoned" in service.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", READ)
def test_a_handler_that_reads_the_database_itself_costs_no_job(
    start: Callable[..., Service], kind: str, way: str
) -> None:
    """Neither it nor a program that reads afterwards may take the database for one that nobody else has open."""
    service = start(**SETTINGS)
    acknowledged = {run(service, kind, way)["id"]}
    assert service.job(*acknowledged)["result"] == READ[way]
    assert ask(service.directory / "gofer.db", "SELECT count(*) FROM jobs") == "1"
    check_that_it_goes_on(service)
    acknowledged |= {service.submit("decent", n, run_at="2100-01-01T00:00:00Z")["id"] for n in range(10)}
    service.kill()
    again = start(**SETTINGS)
    assert acknowledged <= {job["id"] for job in again.jobs()}


@pytest.mark.parametrize("end", [Service.stop, Service.kill])
def test_a_copy_that_outlives_its_service_keeps_nobody_from_the_store_or_the_port(
    start: Callable[..., Service], end: Callable[[Service], object]
) -> None:
    """Not at the start, and not at the end, when the database is to be left alone by all to be put in order."""
    service = start(**SETTINGS)
    copy = run(service, THREAD, "fork and hang")["result"]
    try:
        check_that_it_goes_on(service)
        end(service)
        again = start(**SETTINGS, GOFER_PORT=service.port)
        assert is_alive(copy)
        check_that_it_goes_on(again)
        assert again.stop() == 0
        assert not again.directory.joinpath("gofer.db-wal").exists()
        assert is_alive(copy)
    finally:
        os.kill(copy, signal.SIGKILL)


def test_a_copy_ends_with_its_process(service: Service) -> None:
    """Or with the next handler that leaves something behind there."""
    copy = run(service, PROCESS, "fork and hang")["result"]
    assert is_alive(copy)
    assert run(service, PROCESS, "chdir")["status"] == "completed"
    eventually(lambda: not is_alive(copy), PATIENCE)


def test_a_recursion_in_c_costs_a_handlers_process_and_no_other(service: Service) -> None:
    said = "the handler's process was killed by SIGSEGV"
    assert outcome(run(service, PROCESS, "recurse in C")) == ("failed", 1, "ProcessDied", said)
    check_that_it_goes_on(service)


@pytest.mark.parametrize("way", CONTAINED)
def test_a_process_whose_descriptors_were_closed_costs_its_attempt_alone(service: Service, way: str) -> None:
    assert outcome(run(service, PROCESS, way)) == ("failed", 1, "ProcessDied", CONTAINED[way])
    check_that_it_goes_on(service)


@pytest.mark.parametrize("way", FATAL)
def test_a_service_whose_descriptors_were_closed_ends_and_says_so(start: Callable[..., Service], way: str) -> None:
    """Nothing is lost: the job that did it is a suspect."""
    service = start(**SETTINGS)
    waiting = service.submit("decent", 1, run_at="2100-01-01T00:00:00Z")["id"]
    with contextlib.suppress(OSError, http.client.HTTPException):  # It may die before it has answered.
        service.submit("lasting", way, max_attempts=1)
    eventually(lambda: has_ended_when_asked(service), PATIENCE)
    assert service.process.returncode == 3
    assert re.search(f"ended: {FATAL[way]}$", service.stderr, re.MULTILINE)
    again = start(GOFER_HANDLERS=HANDLERS)
    assert again.job(waiting)["status"] == "pending"
    (job,) = (job for job in again.jobs() if job["type"] == "lasting")
    assert [attempt["status"] for attempt in again.attempts(job["id"])][:1] == ["crashed"]


def has_ended_when_asked(service: Service) -> bool:
    """Whether it has ended. Without a client that comes, the HTTP server notices after some seconds only."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", service.port)).close()
    return service.process.poll() is not None


def memory(service: Service) -> float:
    """MB of memory that the service has at the moment."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{service.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
