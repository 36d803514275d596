"""How soon a job starts on a service that has nothing else to do."""

import contextlib
import http.client
import random
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import service
from benchmarks.table import Row, percentile

#: Seconds between two jobs, so that the service is idle again.
_PAUSE = (0.01, 0.03)


@dataclass(frozen=True, slots=True)
class _Sample:
    #: Milliseconds from ``created_at`` to ``started_at``, as the job itself tells.
    to_start: float
    #: Milliseconds from the request to the answer with the job's result, as the client sees it.
    round_trip: float


def measure(jobs: int) -> list[Row]:
    """Submit ``jobs`` single jobs, one after the other, each waiting for its end."""
    with tempfile.TemporaryDirectory() as directory, service.gofer(Path(directory)) as server:
        samples = _samples(server.port, jobs)
    starts = [sample.to_start for sample in samples]
    trips = [sample.round_trip for sample in samples]
    name = f"idle service, {jobs} single jobs: submit to start"
    return [
        Row(f"{name}, median", [percentile(starts, 50)], "ms", 5, at_least=False),
        Row(f"{name}, p99", [percentile(starts, 99)], "ms", 20, at_least=False),
        Row("the same, whole round trip with Prefer: wait, median", [percentile(trips, 50)], "ms"),
        Row("the same, whole round trip with Prefer: wait, p99", [percentile(trips, 99)], "ms"),
    ]


def _samples(port: int, jobs: int) -> list[_Sample]:
    pauses = random.Random(3)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection):
        samples = []
        for number in range(jobs):
            time.sleep(pauses.uniform(*_PAUSE))
            samples.append(_sample(connection, number))
        return samples


def _sample(connection: http.client.HTTPConnection, number: int) -> _Sample:
    started = time.perf_counter()
    submission = {"type": "echo", "payload": {"n": number}}
    job = service.exchange(connection, "POST", "/jobs", submission, {"Prefer": "wait=10"})
    round_trip = time.perf_counter() - started
    return _Sample((_instant(job, "started_at") - _instant(job, "created_at")) * 1000, round_trip * 1000)


def _instant(job: dict[str, Any], key: str) -> float:
    return datetime.fromisoformat(job[key]).timestamp()
