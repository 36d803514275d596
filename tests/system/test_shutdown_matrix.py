"""Promise 6 in every situation: exit code, time, order, answers, and what becomes of each job."""

import contextlib
import http.client
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import Raw

from store import open_store
from store.clock import SystemClock
from store.job import Job, JobStatus, NewJob
from store.leases import Lease
from store.protocol import JobFilter, JobStore
from tests import processes
from tests.eventually import eventually
from tests.system.service import HANDLERS, PATIENCE, Answer, Service
from tests.system.test_shutdown import ORDER

EACH_SIGNAL = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])

#: Seconds that the stop of a full house may take: what is waited for in turn, and the slowness of the machine.
SHUTDOWN_TIMEOUT, LIMIT = 0.3, 8.0

CONFIG = """
[commands.stubborn]
argv = ["sh", "-c", "trap '' TERM; echo started >&2; setsid sleep 1000 & while :; do sleep 0.05; done"]
grace = 0.2
queue = "commands"
env.MARKER = "{}"
"""


CATCHER = """
import signal
from worker import handler

signal.signal(signal.SIGUSR1, lambda *_: None)

@handler("catcher")
def catcher(ctx, payload):
    pass
"""


@contextlib.contextmanager
def stored(directory: Path) -> Iterator[JobStore]:
    """The store of a service that does not run."""
    with contextlib.closing(open_store(f"sqlite:{directory / 'gofer.db'}", SystemClock(), random.Random(1))) as store:
        yield store


def jobs_of(directory: Path) -> dict[str, Job]:
    """Every job, as the service left it."""
    with stored(directory) as store:
        page = store.list_jobs(JobFilter(), 1000)
        jobs = list(page.jobs)
        while page.next_cursor:
            page = store.list_jobs(JobFilter(), 1000, page.next_cursor)
            jobs += page.jobs
    return {job.id: job for job in jobs}


class Asker:
    """A client in a thread that asks for one thing and keeps the answer."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self.answer: Answer | None = None
        self._ask = ask
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.answer = self._ask()

    def end(self) -> Answer:
        self._thread.join(PATIENCE)
        assert self.answer is not None, "no answer"
        return self.answer


class Batches:
    """A client in a thread that submits batches until it is refused."""

    def __init__(self, service: Service) -> None:
        self.accepted: list[list[str]] = []
        #: The answer that ended it; None if there was none.
        self.last: Answer | None = None
        #: Nobody listened any more, so it could not even ask.
        self.was_late = False
        self._service = service
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        batch = {"jobs": [{"type": "echo", "queue": "busy"}] * 20}
        try:
            while (answer := self._service.post("/jobs/batch", batch)).status == 201:
                self.accepted.append([job["id"] for job in answer.json["jobs"]])
            self.last = answer
        except ConnectionRefusedError:
            self.was_late = True
        except (OSError, http.client.HTTPException):
            pass  # there is no answer

    def end(self) -> None:
        self._thread.join(PATIENCE)

    def end_refused(self) -> None:
        """For a stop in order: whatever it asked has been answered, if only that this is the end."""
        self.end()
        assert self.last is not None or self.was_late, "no answer"
        assert self.last is None or self.last.status == 503, self.last


def followed(service: Service, job_id: str) -> socket.socket:
    """A connection on which the log of a job is followed, once something of it has come."""
    client = socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE)
    client.sendall(f"GET /jobs/{job_id}/logs?follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    received = b""
    while b"dear diary" not in received:
        received += client.recv(10_000)
    return client


def rest_of(client: socket.socket) -> bytes:
    with client:
        return b"".join(iter(lambda: client.recv(65_536), b""))


@EACH_SIGNAL
def test_a_full_house(start: Callable[..., Service], tmp_path: Path, number: signal.Signals) -> None:
    """Everything that can hold a stop up, at the same time."""
    (tmp_path / "gofer.toml").write_text(CONFIG.format(tmp_path))
    service = start(
        GOFER_CONFIG="gofer.toml",
        GOFER_SHUTDOWN_TIMEOUT=SHUTDOWN_TIMEOUT,
        GOFER_WORKERS=1,
        GOFER_QUEUES="hung=1,commands=1,diaries=1,busy=2",
    )
    running = {
        "sleep": service.submit("sleep", 60, max_attempts=1)["id"],
        "deaf": service.submit("deaf", str(tmp_path / "never"), queue="hung", max_attempts=1)["id"],
        "stubborn": service.submit("stubborn", max_attempts=1)["id"],
        "diary": service.submit("diary", str(tmp_path / "never"), queue="diaries", max_attempts=1)["id"],
    }
    for job_id in running.values():
        service.wait_for_start(job_id)
    # More than the buffer holds.
    waiting = [job["id"] for job in service.submit_many([{"type": "echo"}] * 150)]
    followers = [followed(service, running["diary"]) for _ in range(2)]
    eventually(lambda: service.get(f"/jobs/{running['stubborn']}/logs").json["lines"])
    askers = [Asker(lambda: service.get(f"/jobs/{running['sleep']}?wait=60")) for _ in range(3)]
    batches = [Batches(service) for _ in range(3)]
    eventually(lambda: all(len(each.accepted) > 2 for each in batches), PATIENCE)
    began = time.monotonic()

    service.send(number)

    assert service.wait_for_exit() == 0
    assert time.monotonic() - began < LIMIT
    places = [service.stderr.find(step) for step in ORDER]
    assert -1 not in places, service.stderr
    assert places == sorted(places)
    assert "Traceback" not in service.stderr
    # Whoever had asked has got an answer.
    assert {asker.end().status for asker in askers} == {200}
    assert {rest_of(follower)[-5:] for follower in followers} == {b"0\r\n\r\n"}
    for each in batches:
        each.end_refused()
    # And every job is as it should be.
    jobs = jobs_of(tmp_path)
    for job in (jobs[job_id] for job_id in running.values()):
        assert (job.status, job.attempt, job.interruptions, job.failures) == (JobStatus.PENDING, 1, 1, 0), job
    assert {(jobs[job_id].status, jobs[job_id].attempt) for job_id in waiting} == {(JobStatus.PENDING, 0)}
    accepted = {job_id for each in batches for batch in each.accepted for job_id in batch}
    assert accepted | set(waiting) | set(running.values()) == set(jobs), "batches are accepted whole or not at all"
    assert {(jobs[job_id].status, jobs[job_id].attempt) for job_id in accepted} <= {
        (JobStatus.COMPLETED, 1),
        (JobStatus.PENDING, 0),
    }
    assert processes.carrying(f"MARKER={tmp_path}") == {}


def prepare(directory: Path) -> set[str]:
    """A store in which there is something to do at the start: one job is a suspect, others wait."""
    lease = Lease("before", 30.0)
    with stored(directory) as store:
        new = [NewJob(type="sleep", payload=Raw(b"60")), *[NewJob(type="echo", payload=Raw(b"1"))] * 20]
        suspect, *others = [created.job for created in store.create_jobs(new)]
        store.claim_job(suspect.id, lease)
    return {job.id for job in (suspect, *others)}


@EACH_SIGNAL
@pytest.mark.parametrize("seed", range(3))
def test_at_whatever_instant_of_its_start(
    launch: Callable[..., Service], tmp_path: Path, number: signal.Signals, seed: int
) -> None:
    known = prepare(tmp_path)
    service = launch(GOFER_SHUTDOWN_TIMEOUT=0.1)
    # Not a wait for something: the instant of the signal is what is random here.
    with pytest.raises(subprocess.TimeoutExpired):
        service.process.wait(random.Random(f"{number} {seed}").uniform(0.0, 1.0))

    service.send(number)

    # Before there is anything to stop in order, the signal has its usual effect.
    assert service.wait_for_exit(LIMIT) in (0, -number)
    assert "Traceback" not in service.stderr
    jobs = jobs_of(tmp_path)
    assert set(jobs) == known
    assert {job.failures for job in jobs.values() if job.type == "echo"} == {0}


@EACH_SIGNAL
def test_while_it_runs_suspects_alone(launch: Callable[..., Service], tmp_path: Path, number: signal.Signals) -> None:
    known = prepare(tmp_path)
    service = launch(GOFER_SHUTDOWN_TIMEOUT=0.1)
    service.wait_until_serving()

    service.send(number)

    assert service.wait_for_exit(LIMIT) == 0
    jobs = jobs_of(tmp_path)
    assert set(jobs) == known
    assert {job.status for job in jobs.values()} == {JobStatus.PENDING}


def test_a_flood_of_the_signal_ends_it_soon_and_loses_nothing(start: Callable[..., Service], tmp_path: Path) -> None:
    service = start(GOFER_QUEUES="busy=2")
    batches = Batches(service)
    eventually(lambda: len(batches.accepted) > 5, PATIENCE)
    began = time.monotonic()

    while service.process.poll() is None and time.monotonic() - began < LIMIT:
        service.send(signal.SIGTERM)

    # The last: it was as good as over, and the interpreter had put the usual effect of signals back.
    assert service.wait_for_exit(0) in (0, 128 + signal.SIGTERM, -signal.SIGTERM)
    batches.end()
    accepted = {job_id for batch in batches.accepted for job_id in batch}
    assert accepted <= set(jobs_of(tmp_path))


def test_signals_that_mean_nothing_to_it_change_nothing(start: Callable[..., Service], tmp_path: Path) -> None:
    """Not even where a module of handlers catches one, which wakes the thread that waits for ours."""
    (tmp_path / "catcher.py").write_text(CATCHER)
    service = start(GOFER_HANDLERS=f"{HANDLERS},catcher.py", GOFER_QUEUES="busy=2")
    batches = Batches(service)
    eventually(lambda: batches.accepted, PATIENCE)

    for _ in range(1000):
        for number in (signal.SIGUSR1, signal.SIGCHLD, signal.SIGCONT, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH):
            service.send(number)

    assert service.get("/ready").status == 200
    assert "stopping" not in service.stderr
    before = len(batches.accepted)
    eventually(lambda: len(batches.accepted) > before, PATIENCE)
    assert service.stop() == 0
    batches.end_refused()
