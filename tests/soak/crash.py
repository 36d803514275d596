"""A real service under load is killed at random instants, again and again, and nothing that it said may turn out false.

``python -m tests.soak crash --kills N --seed S``. The seed decides what the clients do and when the service is killed;
what threads and processes make of it is not the same twice.
"""

import argparse
import contextlib
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from tests.eventually import eventually
from tests.processes import carrying
from tests.soak import trace
from tests.soak.clients import Client, Connection, Crowd, every_job
from tests.soak.ledger import Ledger
from tests.soak.submissions import Submissions
from tests.system.service import PATIENCE, Service

#: Threads of clients.
_CLIENTS = 8
#: So many jobs that wait are enough: for a life, the clients keep away.
_BACKLOG = 2_000
#: Seconds that the last life may take to end all that is left.
_LAST_LIFE = 600.0
#: Lines of the service's log that must not be there; and those of jobs that had two crashes to themselves.
_IS_ERROR = re.compile(r"^\S+ (ERROR|CRITICAL) |^ *Traceback")
_GIVES_UP = re.compile(r"^\S+ ERROR +worker\.lifecycle: job \S+ \(soak[a-z-]*\) failed for good: the service died ")


class CrashSoak:
    """Kills services in ``directory``, which share a store, and keeps the ledger of it."""

    def __init__(self, directory: Path, seed: int, **settings: object) -> None:
        """``settings``: more of the service's."""
        self._directory = directory
        self._settings = settings
        self._rng = random.Random(f"{seed} kills")
        self._submissions = Submissions(directory)
        self.ledger = Ledger()
        clients = [Client(self.ledger, self._submissions, random.Random(f"{seed} client {n}")) for n in range(_CLIENTS)]
        self._crowd = Crowd(clients, self.ledger)
        # Seconds from the start of a process until it serves, as it was last.
        self._start_time = 0.5

    def run(self, kills: int) -> str:
        """Kill the service so often, let the last one end in peace, and judge; the line of figures."""
        began = time.monotonic()
        for life in range(kills):
            with self._service() as service:
                self._live(service)
            # A copy costs more the more jobs there are, so not every time.
            if life % max(1, kills // 20) == 0:
                self._check_store()
        self._end_in_peace()
        return self._figures(kills, time.monotonic() - began)

    @contextlib.contextmanager
    def _service(self) -> Iterator[Service]:
        settings: dict[str, Any] = {**self._submissions.settings, "SOAK": self._directory, **self._settings}
        service = Service(self._directory, **settings)
        try:
            yield service
        finally:
            service.kill()
            self._check_log(service)

    def _live(self, service: Service) -> None:
        """One life: it is killed as it starts, as it stops, as it catches up with its backlog, or in between."""
        chance = self._rng.random()
        if chance < 0.15:
            self.ledger.counts["killed as it started"] += 1
            _let_pass(self._rng.uniform(0.0, 1.2 * self._start_time))
            return
        began = time.monotonic()
        if not self._serves(service):
            return
        self._start_time = time.monotonic() - began
        self._check_newest(service)
        if service.stats()["pending"] > _BACKLOG:
            self.ledger.counts["killed as it caught up"] += 1
            _let_pass(self._rng.uniform(0.5, 2.0))
            return
        doomed = threading.Event()
        with self._crowd.at_work(service.port, doomed):
            _let_pass(self._rng.uniform(0.02, 0.8))
            doomed.set()
            self._check_alive(service)
            if chance < 0.25:
                self.ledger.counts["killed as it stopped"] += 1
                service.send(signal.SIGTERM)
                _let_pass(self._rng.uniform(0.0, 0.4))
            service.kill()

    def _serves(self, service: Service) -> bool:
        """Wait until it does, whatever state the crash has left."""
        try:
            service.wait_until_serving()
        except AssertionError as error:
            self.ledger.accuse("the service does not start again", error)
            return False
        return True

    def _check_newest(self, service: Service) -> None:
        """What was acknowledged before the crash is there, as far as one page shows it; the end looks at all."""
        asked_at = self.ledger.now()
        page = service.get("/jobs?limit=1000").json["jobs"]
        self.ledger.saw(asked_at, page)
        found = {job["id"] for job in page}
        # Ids sort by time. An older one than those of a full page may stand on the next page.
        oldest = min(found) if len(page) == 1000 else ""
        if lost := {job_id for job_id in self.ledger.kept_ids() if job_id > oldest} - found:
            self.ledger.accuse("acknowledged jobs are not there after a crash", sorted(lost))

    def _check_alive(self, service: Service) -> None:
        if service.process.poll() is not None:
            self.ledger.accuse("the service ended by itself", service.process.returncode, service.stderr[-2000:])

    def _check_log(self, service: Service) -> None:
        """Nothing of the service's own may have gone wrong; that a job is given up is an error of the job."""
        for line in service.stderr.splitlines():
            if _IS_ERROR.search(line) and not _GIVES_UP.search(line):
                self.ledger.accuse("the service logged an error", line, service.stderr[-2000:])
                return

    def _check_store(self) -> None:
        """The store as the crash left it: it is whole, and holds what was acknowledged."""
        self.ledger.counts["stores checked as they were left"] += 1
        kept = self.ledger.kept_ids()
        # In a copy: to open the store itself would tidy it up before the service does.
        with tempfile.TemporaryDirectory(dir=self._directory) as name:
            copy = Path(name) / "gofer.db"
            for file in self._directory.glob("gofer.db*"):
                if file.suffix in (".db", ".db-wal"):
                    shutil.copy(file, name)
            verdict, stored = _look_into(copy) if copy.exists() else ("ok", set())
        if verdict != "ok":
            self.ledger.accuse("the database is not whole", verdict)
        if lost := kept - stored:
            self.ledger.accuse("acknowledged jobs are not in the store", len(lost), sorted(lost)[:5])

    def _end_in_peace(self) -> None:
        """The last life ends every job; then everything is compared, and the service stops in good order."""
        with self._service() as service:
            if not self._serves(service):
                return
            self._crowd.settle(service.port)
            try:
                eventually(lambda: service.get("/ready").status == 200, PATIENCE)
                eventually(lambda: _has_ended_all(service), _LAST_LIFE)
            except AssertionError as error:
                self.ledger.accuse("not every job ends", error, service.stats())
            connection = Connection(service.port)
            jobs: dict[str, trace.Job] = {job["id"]: job for job in every_job(connection)}
            self.ledger.close(jobs)
            self._judge_traces(connection, jobs)
            connection.close()
            if (code := service.stop()) != 0:
                self.ledger.accuse("the last stop was not orderly", code)
        self._check_store()
        try:
            eventually(lambda: not carrying(f"SOAK={self._directory}"), PATIENCE)
        except AssertionError:
            self.ledger.accuse("processes outlive the service", carrying(f"SOAK={self._directory}"))

    def _judge_traces(self, connection: Connection, jobs: dict[str, trace.Job]) -> None:
        lines = trace.read(self._submissions.trace)
        self.ledger.counts["executions"] = sum(line.what == "begin" for line in lines)
        suspects: set[tuple[str, int]] = set()
        for job_id in [job_id for job_id, job in jobs.items() if job["attempt"] > 1]:
            attempts = connection.request("GET", f"/jobs/{job_id}/attempts").json["attempts"]
            retries = self.ledger.retries_of(job_id)
            self._accuse(trace.attempt_faults(jobs[job_id], attempts, retries))
            crashed = [attempt["attempt"] for attempt in attempts if attempt["status"] == "crashed"]
            self.ledger.counts["crashed attempts"] += len(crashed)
            if not retries:  # A job that was failed, and retried by hand, is no suspect any more.
                suspects |= {(job_id, attempt + 1) for attempt in crashed}
        self._accuse(trace.faults(lines, jobs))
        self._accuse(trace.solitude_faults(lines, lambda job_id, attempt: (job_id, attempt) in suspects))

    def _accuse(self, faults: Iterator[str]) -> None:
        for fault in faults:
            self.ledger.accuse(fault)

    def _figures(self, kills: int, seconds: float) -> str:
        counts = self.ledger.counts
        return (
            f"{kills} kills ({counts['killed as it started']} while starting, {counts['killed as it stopped']} while "
            f"stopping, {counts['killed as it caught up']} while catching up): {counts['submissions']:,} submissions "
            f"acknowledged, {counts['jobs']:,} jobs; "
            f"{counts['unknown submissions']:,} without an answer, of which {counts['of these stored']:,} were stored; "
            f"{counts['replays']:,} replays, {counts['cancels']:,} cancels, {counts['retries']:,} retries, "
            f"{counts['deletions']:,} deletions; {counts['executions']:,} executions, {counts['crashed attempts']:,} "
            f"attempts crashed; {counts['outcomes seen']:,} outcomes and {counts['sightings']:,} sightings held "
            f"against the ledger; at the end {counts['completed']:,} completed, {counts['failed']:,} failed, "
            f"{counts['cancelled']:,} cancelled; integrity ok {counts['stores checked as they were left']} times; "
            f"{counts['broken']} promises broken; {seconds:.0f} s"
        )


def _look_into(database: Path) -> tuple[str, set[str]]:
    """What SQLite says of a database's integrity, and the ids of the jobs in it."""
    with contextlib.closing(apsw.Connection(str(database))) as connection:
        verdict = "; ".join(row[0] for row in connection.execute("PRAGMA integrity_check"))
        # A service that was killed as it first started may not have made its tables yet.
        has_jobs = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'jobs'").fetchone()
        return verdict, {row[0] for row in connection.execute("SELECT id FROM jobs")} if has_jobs else set()


def _has_ended_all(service: Service) -> bool:
    """Whether no job is left to end; if one is, wait for it for a while."""
    for job in service.get("/jobs?status=pending&limit=1").json["jobs"]:
        service.get(f"/jobs/{job['id']}?wait=5")
        return False
    stats = service.stats()
    return not (stats["pending"] or stats["processing"])


def _let_pass(seconds: float) -> None:
    # Not a wait for something: the instant of the crash is what is random here.
    threading.Event().wait(seconds)


def main(arguments: list[str]) -> int:
    """Run it, print the figures and what was broken; 1 if anything was."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        soak = CrashSoak(Path(name), options.seed)
        print(f"crash soak, seed {options.seed}: {soak.run(options.kills)}")
    for broken in soak.ledger.broken:
        print(f"BROKEN (seed {options.seed}): {broken}", file=sys.stderr)
    return 1 if soak.ledger.broken else 0
