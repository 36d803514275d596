"""Promises 1 to 3: what was accepted survives ``kill -9`` at any instant, and ends."""

import contextlib
import http.client
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.system.service import Service

_FINAL = {"completed", "failed", "cancelled"}


class Clients:
    """Threads that submit and read jobs until their service dies under them."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace
        self._lock = threading.Lock()
        # guards: accepted, finals
        self.accepted: set[str] = set()
        self.finals: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def at_work_on(self, service: Service, seed: int) -> Iterator[None]:
        """Submit from three threads and read from one; join them once the service is gone."""
        rngs = [random.Random(f"{seed} {number}") for number in range(3)]
        acts = [partial(self._submit, service, rng) for rng in rngs] + [partial(self._read, service)]
        threads = [threading.Thread(target=_until_gone, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            service.kill()
            for thread in threads:
                thread.join()

    def _submit(self, service: Service, rng: random.Random) -> None:
        seconds = rng.choice([0.0, 0.0, 0.0, 0.01, 0.1])
        answer = service.post("/jobs", {"type": "traced", "payload": {"trace": str(self._trace), "seconds": seconds}})
        assert answer.status == 201, answer
        with self._lock:
            self.accepted.add(answer.json["id"])

    def _read(self, service: Service) -> None:
        jobs = service.get("/jobs?limit=200").json["jobs"]
        with self._lock:
            for job in jobs:
                if job["status"] in _FINAL:
                    assert self.finals.setdefault(job["id"], job) == job, "a final job changed"


def _until_gone(act: Callable[[], None]) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        while True:
            act()


@pytest.mark.parametrize("seed", [1, 2])
def test_every_accepted_job_ends_however_often_the_service_is_killed(
    launch: Callable[..., Service], tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    clients = Clients(tmp_path / "trace")
    for life in range(4):
        service = launch()
        service.wait_until_serving()
        with clients.at_work_on(service, life):
            # Not a wait for something: the instant of the crash is what is random here.
            threading.Event().wait(rng.uniform(0.05, 0.7))
    service = launch()
    service.wait_until_ready()
    service.wait_until_idle()

    executions = _executions(tmp_path / "trace")
    jobs = {job["id"]: job for job in service.jobs()}
    assert len(clients.accepted) > 100
    for job_id in clients.accepted:
        _check_ended(jobs[job_id], executions[job_id])
    crashed = [job_id for job_id in clients.accepted if jobs[job_id]["attempt"] > 1]
    for job_id in crashed:
        _check_attempts(jobs[job_id], [attempt["status"] for attempt in service.attempts(job_id)])
    assert crashed, "some job must have been running when the service was killed"
    assert {job_id: jobs[job_id] for job_id in clients.finals} == clients.finals


def _executions(trace: Path) -> dict[str, list[int]]:
    """Which attempts at each job really ran, by its id."""
    lines = sorted(line.split() for line in trace.read_text().splitlines())
    grouped = itertools.groupby(lines, key=lambda line: line[0])
    return {job_id: sorted(int(attempt) for _, attempt in group) for job_id, group in grouped}


def _check_ended(job: dict[str, Any], executed: list[int]) -> None:
    # A job that had the bad luck to run alone at two of the crashes is held to be their cause.
    assert job["status"] == "completed" or job["error"]["type"] == "Crashed", job
    assert len(set(executed)) == len(executed), "one attempt was executed twice"
    assert set(executed) <= set(range(1, job["attempt"] + 1))
    assert job["attempt"] in executed or job["status"] == "failed"


def _check_attempts(job: dict[str, Any], statuses: list[str]) -> None:
    last = "completed" if job["status"] == "completed" else "crashed"
    assert statuses == ["crashed"] * (job["attempt"] - 1) + [last]
    assert job["attempt"] <= job["max_attempts"]


def test_a_job_that_kills_the_service_is_failed_and_its_neighbours_complete(
    launch: Callable[..., Service], tmp_path: Path
) -> None:
    trace = str(tmp_path / "trace")
    service = launch()
    service.wait_until_ready()
    killer = service.submit("killer", {"trace": trace, "seconds": 0.3})["id"]
    innocent = [service.submit("traced", {"trace": trace, "seconds": 0.6})["id"] for _ in range(3)]
    assert service.wait_for_exit() == 9
    for _ in range(2):
        service = launch()
        assert service.wait_for_exit() == 9, "the killer runs again, alone"

    service = launch()
    service.wait_until_ready()

    failed = service.wait_for_end(killer)
    assert failed["status"] == "failed"
    assert failed["error"]["type"] == "Crashed"
    assert "alone" in failed["error"]["message"]
    assert [attempt["status"] for attempt in service.attempts(killer)] == ["crashed"] * 3
    assert [service.wait_for_end(job_id)["status"] for job_id in innocent] == ["completed"] * 3


def test_a_retry_by_hand_gives_a_job_failed_by_crashes_a_new_chance(
    launch: Callable[..., Service], tmp_path: Path
) -> None:
    service = launch()
    service.wait_until_ready()
    killer = service.submit("killer", {"trace": str(tmp_path / "trace"), "seconds": 0.3}, max_attempts=1)["id"]
    assert service.wait_for_exit() == 9
    service = launch()
    service.wait_until_ready()
    assert service.job(killer)["status"] == "failed"

    service.post(f"/jobs/{killer}/retry")

    assert service.wait_for_exit() == 9


def test_a_job_that_was_acknowledged_just_before_the_crash_is_there(launch: Callable[..., Service]) -> None:
    service = launch()
    service.wait_until_ready()
    job = service.submit("echo", {"last": "words"}, run_at="2999-01-01T00:00:00Z")
    service.kill()

    service = launch()
    service.wait_until_ready()

    assert service.job(job["id"]) == job


def test_an_outcome_that_was_read_survives_the_crash(launch: Callable[..., Service]) -> None:
    service = launch()
    service.wait_until_ready()
    answer = service.post("/jobs", {"type": "echo", "payload": "seen"}, prefer="wait=10")
    assert answer.status == 200
    service.kill()

    service = launch()
    service.wait_until_ready()

    assert service.job(answer.json["id"]) == answer.json
