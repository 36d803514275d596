"""A real service on a store with a million jobs is as quick as on an empty one.

``python -m tests.soak load --jobs N``. Everything is measured over HTTP, and in milliseconds, so on a machine that has
something else to do it proves nothing. The disk needs room for some 3 GB.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import apsw

from benchmarks.table import percentile
from tests.eventually import eventually
from tests.soak import usage
from tests.soak.clients import Connection
from tests.soak.crowded_store import CrowdedStore
from tests.system.service import PATIENCE, Answer, Service

#: Measurements of one listing, of which the median counts.
_TIMES = 5
#: Jobs that are run, and counted, in a round; rounds of each service, and one before that is not counted.
_DRAINED, _ROUNDS = 1_000, 15
#: Clients that submit while old jobs are deleted, and for how many seconds.
_SUBMITTERS, _SUBMITTING = 4, 15.0
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """One figure and its limit."""

    name: str
    value: float
    limit: float
    unit: str
    #: Else it is to stay below the limit.
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is within the limit."""
        return self.value >= self.limit if self.at_least else self.value < self.limit

    def __str__(self) -> str:
        value = f"{self.value:,.0f}" if self.value >= 100 else f"{self.value:.2g}"
        return f"{self.name} {value} {self.unit} ({'≥' if self.at_least else '<'} {self.limit:,g})"


class LoadSoak:
    """Services in directories below ``directory``."""

    def __init__(self, directory: Path, jobs: int) -> None:
        self._directory = directory
        self._jobs = jobs
        #: The worst of each kind of listing, for who wants to know which it was.
        self.slowest: list[tuple[float, str]] = []

    def run(self) -> Iterator[Line]:
        """Measure one thing after the other."""
        empty, pending, mixed = (self._made(name) for name in ("empty", "pending", "mixed"))
        CrowdedStore(empty / "gofer.db", 0)
        crowded = CrowdedStore(pending / "gofer.db", self._jobs)
        yield from self._start_and_list(empty, pending, crowded)
        yield self._dispatch(empty, pending)
        crowded = CrowdedStore(mixed / "gofer.db", self._jobs, mixed=True)
        with _Running(mixed) as service:
            yield self._listing("listings, mixed jobs", service, crowded)
        yield from self._retention(mixed)
        yield from self._open_reader(self._made("read"))

    def _made(self, name: str) -> Path:
        directory = self._directory / name
        directory.mkdir()
        return directory

    def _start_and_list(self, empty: Path, pending: Path, crowded: CrowdedStore) -> Iterator[Line]:
        with _Running(empty) as service:
            _walk(service)
            memory = usage.of(service.process.pid).memory
        with _Running(pending) as service:
            yield Line("start", service.started_in, 2, "s")
            yield self._listing("listings, all pending", service, crowded)
            yield self._median("/stats", service, ["/stats", "/queues"])
            _walk(service)
            yield Line("memory", usage.of(service.process.pid).memory - memory, 50, "MB more than empty")

    def _listing(self, name: str, service: "_Running", crowded: CrowdedStore) -> Line:
        deep = [("cursor", str(self._jobs // 2))]
        queries = [query + more for query in _filters(crowded) for more in ([], deep)]
        return self._median(name, service, ["/jobs?" + urlencode(query) for query in queries])

    def _median(self, name: str, service: "_Running", paths: Sequence[str]) -> Line:
        """The slowest of these, by the median of its times."""
        connection = Connection(service.port)
        # One after the other, and all of them again: what else the machine does for a while does not meet one alone.
        rounds = [[_milliseconds(connection, path) for path in paths] for _ in range(_TIMES)]
        connection.close()
        medians = [
            (statistics.median(times), path) for times, path in zip(zip(*rounds, strict=True), paths, strict=True)
        ]
        self.slowest += sorted(medians)[-5:]
        return Line(f"slowest of {len(paths)} {name}", max(medians)[0], 50, "ms")

    def _dispatch(self, empty: Path, pending: Path) -> Line:
        """Both wait beside each other, and run by turns."""
        with _Running(empty) as few, _Running(pending) as many:
            rounds = [(_drain(few, submit=_DRAINED), _drain(many, submit=0)) for _ in range(_ROUNDS + 1)][1:]
        few_rate, many_rate = (statistics.median(rates) for rates in zip(*rounds, strict=True))
        name = f"dispatch of {many_rate:.0f} jobs/s, to {few_rate:.0f} with {_DRAINED:,} jobs,"
        # Of neighbours, so that a drift of the machine favours nobody.
        return Line(name, statistics.median(many / few for few, many in rounds), 0.8, "times", at_least=True)

    def _retention(self, mixed: Path) -> Iterator[Line]:
        with _Running(mixed, GOFER_RETENTION="completed=1s") as service:
            before = service.stats()["completed"]
            latencies = _submit_for(service.port, _SUBMITTING)
            deleted = before - service.stats()["completed"]
        yield Line("deleted meanwhile", deleted, min(10_000, before), "jobs", at_least=True)
        name = f"p99 of {len(latencies)} submissions while old jobs are deleted"
        yield Line(name, percentile(latencies, 99), 250, "ms")

    def _open_reader(self, directory: Path) -> Iterator[Line]:
        with _Running(directory) as service:
            service.post("/queues/default/pause")
            reader = apsw.Connection(str(directory / "gofer.db"), flags=apsw.SQLITE_OPEN_READONLY)
            reader.execute("BEGIN; SELECT count(*) FROM jobs").fetchall()
            refused = _submit_until_refused(service)
            said_why = "another program" in refused.json["detail"] and service.get("/jobs?limit=1").status == 200
            size = (directory / "gofer.db-wal").stat().st_size / _MIB
            reader.close()
            began = time.monotonic()
            eventually(lambda: service.get("/ready").status == 200, 2 * PATIENCE)
            service.submit("echo")
            healed = time.monotonic() - began
        yield Line("write-ahead log beside an open reader", size, 1_280, "MiB")
        yield Line("refusals that say why", said_why, 1, "of 1", at_least=True)
        yield Line("healed", healed, 30, "s")


class _Running(Service):
    """A service that is ready, until the end of its ``with``."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        began = time.monotonic()
        super().__init__(directory, GOFER_QUEUES="reports=1", GOFER_MAX_BACKLOG=10**9, **settings)
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        #: Seconds.
        self.started_in = time.monotonic() - began

    def __enter__(self) -> "_Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _filters(crowded: CrowdedStore) -> Iterator[list[tuple[str, str]]]:
    """Every combination of filters: with values that go together, that do not, and that no job has."""
    values = {
        "status": ("completed", "pending", "failed", "processing"),
        "type": ("echo", "sleep", "nothing"),
        "queue": ("default", "reports"),
        "tag": ("many", "others", "nothing"),
        "created_after": (crowded.created_at(0.2), crowded.created_at(0.7), crowded.created_at(1.1)),
        "created_before": (crowded.created_at(0.8), crowded.created_at(0.3), crowded.created_at(-0.1)),
    }
    choices = [[None, *each[:2]] for each in values.values()]
    for chosen in itertools.product(*choices):
        yield [(name, value) for name, value in zip(values, chosen, strict=True) if value is not None]
    for name, each in values.items():
        for value in each[2:]:
            yield [(name, value)]
            yield from ([(name, value), (other, values[other][0])] for other in values if other != name)


def _milliseconds(connection: Connection, path: str) -> float:
    began = time.perf_counter()
    answer = connection.request("GET", path)
    elapsed = time.perf_counter() - began
    assert answer.status == 200, answer
    return elapsed * 1000


def _walk(service: Service) -> None:
    """Have all caches filled that listings fill."""
    for path in ("/jobs?limit=1000", "/jobs?status=pending&limit=1000", "/jobs?tag=many&limit=1000") * 3:
        assert service.get(path).status == 200


def _drain(service: Service, submit: int) -> float:
    """Jobs a second, of a queue that is paused before and after."""
    if submit:
        service.submit_many([{"type": "echo", "payload": {"n": n}} for n in range(submit)])
    before = service.stats()["completed"]
    connection = Connection(service.port)
    began = time.perf_counter()
    connection.request("POST", "/queues/default/resume")
    # The last few are left out: when there are no more, the workers run dry.
    while (done := connection.request("GET", "/stats").json["completed"] - before) < 0.9 * _DRAINED:
        threading.Event().wait(0.002)
    elapsed = time.perf_counter() - began
    connection.request("POST", "/queues/default/pause")
    connection.close()
    eventually(lambda: service.stats()["processing"] == 0, PATIENCE)
    return float(done / elapsed)


def _submit_for(port: int, seconds: float) -> list[float]:
    """The milliseconds that each submission took."""
    until = time.monotonic() + seconds
    latencies: list[float] = []

    def submit() -> None:
        connection = Connection(port)
        while time.monotonic() < until:
            began = time.perf_counter()
            answer = connection.request("POST", "/jobs", {"type": "echo", "payload": {"n": 1}})
            latencies.append((time.perf_counter() - began) * 1000)
            assert answer.status == 201, answer
        connection.close()

    threads = [threading.Thread(target=submit) for _ in range(_SUBMITTERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


def _submit_until_refused(service: Service) -> Answer:
    payload = "x" * 1_000_000
    for _ in range(2_000):
        answer = service.post("/jobs", {"type": "echo", "payload": payload})
        if answer.status != 201:
            return answer
    raise AssertionError("the write-ahead log grows without bound")


def measured(jobs: int) -> tuple[list[Line], list[tuple[float, str]]]:
    """All lines, and the slowest listings."""
    with tempfile.TemporaryDirectory() as name:
        soak = LoadSoak(Path(name), jobs)
        lines: list[Line] = []
        for line in soak.run():
            print(f"  {line}", file=sys.stderr)
            lines.append(line)
    return lines, soak.slowest


def main(arguments: list[str]) -> int:
    """Run it, print the figures and what is beyond its limit; 1 if anything is."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak load", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    options: Any = parser.parse_args(arguments)
    lines, slowest = measured(options.jobs)
    print(f"load soak, {options.jobs:,} jobs: " + "; ".join(str(line) for line in lines))
    broken = [line for line in lines if not line.holds]
    for milliseconds, path in slowest if broken else []:
        print(f"  {milliseconds:.1f} ms: {path}", file=sys.stderr)
    for line in broken:
        print(f"BROKEN: {line}", file=sys.stderr)
    return 1 if broken else 0
