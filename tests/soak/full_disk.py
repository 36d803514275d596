"""A real service works on a disk that is filled and freed again and again, and neither loses nor invents a job.

``python -m tests.soak full_disk --rounds N --seed S``. The seed decides when the disk is filled, how much is left of
it, and for how long.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually
from tests.system.service import PATIENCE, Service
from tests.system.small_disk import SmallDisk

_CLIENTS = 4
#: How long a job takes: mostly no time, or the backlog would take longer than all the rest.
_SECONDS = (0.0,) * 8 + (0.01, 0.1)
#: What is left of the disk, in bytes: nothing at all, or so little that a write is refused half way.
_LEFT = (0, 0, 4_096, 12_288, 28_672, 61_440)


class _Client:
    """Submits jobs until it is told to end, and sends each submission that was refused again, with the same key."""

    def __init__(self, service: Service, trace: Path, rng: random.Random, end: threading.Event) -> None:
        self._service = service
        self._trace = trace
        self._rng = rng
        self._end = end
        self._submitted = 0
        #: The jobs that were accepted.
        self.accepted: set[str] = set()
        self.counts: Counter[str] = Counter()
        #: What went wrong.
        self.broken: list[str] = []
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                self._submit()
                self._read()
                self._end.wait(0.02)
        except Exception as error:
            self.broken.append(f"a client was not answered: {type(error).__name__}: {error}")

    def _submit(self) -> None:
        self._submitted += 1
        key = f"{self.thread.name} {self._submitted}"
        job = {
            "type": "traced",
            "payload": {"trace": str(self._trace), "seconds": self._rng.choice(_SECONDS)},
            "tags": ["x" * self._rng.randrange(1, 60)],
        }
        size = self._rng.choice((1, 1, 1, 10))
        body = job if size == 1 else {"jobs": [job] * size}
        answer = self._service.post("/jobs" if size == 1 else "/jobs/batch", body, idempotency_key=key)
        while answer.status == 503 and answer.json["type"] == "/problems/store_full":
            self.counts["refused"] += 1
            # Until there is room; a client that waits as long as it was asked to would make a long run longer.
            self._end.wait(0.05)
            answer = self._service.post("/jobs" if size == 1 else "/jobs/batch", body, idempotency_key=key)
            if self._end.is_set() and answer.status == 503:
                return
        if answer.status != 201:
            # 200 is a replay: it was stored although it was refused.
            self.broken.append(f"a submission of {size} was answered {answer}")
            return
        jobs = [answer.json] if size == 1 else answer.json["jobs"]
        self.accepted.update(each["id"] for each in jobs)

    def _read(self) -> None:
        for path in ("/jobs?limit=5", "/stats"):
            if (answer := self._service.get(path)).status != 200:
                self.broken.append(f"{path} was answered {answer}")


class FullDiskSoak:
    """One service, and a disk that is filled and freed under it."""

    def __init__(self, directory: Path, seed: int) -> None:
        (directory / "disk").mkdir()
        self._directory = directory
        self._rng = random.Random(f"{seed} disk")
        self._seed = seed
        self._trace = directory / "trace"
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []

    def run(self, rounds: int) -> str:
        """Fill and free the disk so often, and judge; the line of figures."""
        began = time.monotonic()
        # With room for the jobs themselves: the filler, and nothing else, is to fill it.
        disk = SmallDisk(self._directory / "disk", f"{16 + 8 * rounds}m")
        service = Service(self._directory, program=disk.program, GOFER_STORE="sqlite:disk/gofer.db", GOFER_WORKERS=8)
        try:
            service.wait_until_ready()
            clients = self._work(service, disk, rounds)
            self._judge(service, clients)
        finally:
            service.kill()
            disk.close()
        refused, accepted = self.counts["refused"], self.counts["accepted"]
        return (
            f"{rounds} times full, {accepted} jobs accepted and completed at their first attempt, {refused} submissions"
            f" refused and stored later, {self.counts['not ready']} times /ready said why,"
            f" {time.monotonic() - began:.0f} s"
        )

    def _work(self, service: Service, disk: SmallDisk, rounds: int) -> list[_Client]:
        end = threading.Event()
        clients = [
            _Client(service, self._trace, random.Random(f"{self._seed} client {number}"), end)
            for number in range(_CLIENTS)
        ]
        for client in clients:
            client.thread.start()
        try:
            for _ in range(rounds):
                self._fill_and_free(service, disk)
        finally:
            end.set()
            for client in clients:
                client.thread.join()
        return clients

    def _fill_and_free(self, service: Service, disk: SmallDisk) -> None:
        _let_pass(self._rng.uniform(0.0, 0.5))
        disk.fill(leave=self._rng.choice(_LEFT))
        try:
            # /ready looks once a second.
            eventually(lambda: "disk" in service.get("/ready").json.get("detail", ""), PATIENCE)
            self.counts["not ready"] += 1
            _let_pass(self._rng.uniform(0.0, 0.5))
        except AssertionError as error:
            self.broken.append(f"/ready does not tell of the full disk: {error}")
        finally:
            disk.free()
        try:
            eventually(lambda: service.get("/ready").status == 200, PATIENCE)
        except AssertionError as error:
            self.broken.append(f"the service does not heal: {error}")

    def _judge(self, service: Service, clients: list[_Client]) -> None:
        for client in clients:
            self.counts += client.counts
            self.broken += client.broken
        accepted = {job_id for client in clients for job_id in client.accepted}
        self.counts["accepted"] = len(accepted)
        service.wait_until_idle()
        jobs: dict[str, dict[str, Any]] = {job["id"]: job for job in service.jobs()}
        if lost := accepted - jobs.keys():
            self.broken.append(f"{len(lost)} accepted jobs are lost")
        if more := jobs.keys() - accepted:
            self.broken.append(f"{len(more)} jobs were stored although they were refused")
        # Nobody died, so each is run once; its outcome was kept while there was no room.
        self.broken += [f"not as it should be: {job}" for job in jobs.values() if not _is_well(job)]
        executions = Counter(line.split()[0] for line in self._trace.read_text().splitlines())
        self.broken += [f"executed {times} times: {job_id}" for job_id, times in executions.items() if times != 1]
        if (code := service.stop()) != 0:
            self.broken.append(f"the exit code is {code}")


def _is_well(job: dict[str, Any]) -> bool:
    return bool(job["status"] == "completed" and job["attempt"] == 1 and job["result"] == job["id"])


def _let_pass(seconds: float) -> None:
    """Not a wait for something: the instant is what is random here."""
    threading.Event().wait(seconds)


def main(arguments: list[str]) -> int:
    """The soak of the command line; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak full_disk", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        soak = FullDiskSoak(Path(directory), options.seed)
        try:
            figures = soak.run(options.rounds)
        except pytest.skip.Exception as why:
            print(f"cannot be run: {why}", file=sys.stderr)
            return 2
    print(figures)
    for each in soak.broken[:20]:
        print(f"broken (seed {options.seed}): {each}", file=sys.stderr)
    return 1 if soak.broken else 0
