"""A real service is kept busy with all that it can do, and holds no more of the machine at the end than when warm.

``python -m tests.soak leaks --minutes N --seed S``. Between two stretches of work the service comes to rest, and is
looked at then: what it holds while it works says nothing.
"""

import argparse
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.eventually import eventually
from tests.soak import usage
from tests.soak.clients import Connection
from tests.soak.submissions import Submissions
from tests.soak.usage import Usage
from tests.system.service import PATIENCE, Service

Job = dict[str, object]

_CLIENTS = 10
#: A handler that outlives its time, so that its thread is abandoned for a second: rests take longer with it.
_DEAF: Job = {"type": "soak-deaf", "payload": 6.0, "timeout": 0.5}
#: Seconds of work between two looks, in a long run.
_STRETCH = 20.0


class Churn:
    """One client that does everything that clients do, well-behaved ones and others."""

    def __init__(self, port: int, submissions: Submissions, rng: random.Random, more: Sequence[Job]) -> None:
        """``more``: jobs that are submitted, too."""
        self._port = port
        self._submissions = submissions
        self._rng = rng
        self._more = more
        self._connection = Connection(port)
        # The job that it submitted last.
        self._last = ""
        self.counts: Counter[str] = Counter()
        #: What went wrong.
        self.errors: list[str] = []
        self._acts: list[Callable[[], object]] = [
            *[self._submit] * 40,
            *[self._submit_and_wait] * 4,
            *[self._submit_batch] * 3,
            *[self._submit_special] * 4,
            *[self._cancel_and_retry] * 4,
            *[self._delete] * 4,
            *[self._list] * 2,
            *[self._follow] * 2,
            *[self._be_refused] * 4,
            *[self._hang_up] * 2,
            *[self._talk_nonsense] * 2,
        ]

    def work(self, until: float, acts: int) -> None:
        """Do one thing after the other until then, on the monotonic clock, and at least so many ``acts``."""
        try:
            while time.monotonic() < until or self.counts["acts"] < acts:
                self._rng.choice(self._acts)()
                self.counts["acts"] += 1
                if self.counts["acts"] % 20 == 0:
                    self._keep_step()
        except Exception as error:
            self.errors.append(repr(error))
        finally:
            self._connection.close()

    def _keep_step(self) -> None:
        """Wait for the last job, so that no backlog grows: a service that cannot keep up never rests."""
        path = f"/jobs/{self._last}?wait=5"
        while self._last and self._send("GET", path)["status"] in ("pending", "processing"):
            self.counts["waits"] += 1

    def _send(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        answer = self._connection.request(method, path, body, headers)
        assert answer.status < 500, answer
        return answer.json if answer.body else None

    def _submit(self) -> str:
        self._last = str(self._send("POST", "/jobs", self._submissions.draw(self._rng))["id"])
        return self._last

    def _submit_and_wait(self) -> None:
        self._send("POST", "/jobs?wait=2", self._submissions.draw(self._rng))

    def _submit_batch(self) -> None:
        jobs = [self._submissions.draw(self._rng) for _ in range(self._rng.randint(2, 20))]
        self._send("POST", "/jobs/batch", {"jobs": jobs})

    def _submit_special(self) -> None:
        address = f"http://127.0.0.1:{self._rng.choice([self._port, self._port, self._port, 1])}/health"
        weighted: list[tuple[int, Job]] = [
            (40, {"type": "http", "payload": {"url": address}}),
            (10, {"type": "soak-dying"}),
            (4, {"type": "soak-command", "payload": {"seconds": "0.9", "code": "0"}, "timeout": 0.1}),
        ]
        weighted += [(10, job) for job in self._more]
        weights, jobs = zip(*weighted, strict=True)
        self._send("POST", "/jobs", {**self._rng.choices(jobs, weights)[0], "max_attempts": 1})

    def _cancel_and_retry(self) -> None:
        job_id = self._submit()
        self._send("POST", f"/jobs/{job_id}/cancel")
        self._send("POST", f"/jobs/{job_id}/retry")

    def _delete(self) -> None:
        job_id = self._submit()
        self._send("GET", f"/jobs/{job_id}?wait=0.5")
        self._send("DELETE", f"/jobs/{job_id}")

    def _list(self) -> None:
        self._send("GET", f"/jobs?limit=50&status={self._rng.choice(['pending', 'completed', 'failed'])}")
        self._send("GET", "/stats")
        self._send("GET", "/queues")

    def _follow(self) -> None:
        answer = self._connection.request("GET", f"/jobs/{self._submit()}/logs?follow=1")
        assert answer.status == 200, answer

    def _be_refused(self) -> None:
        self._send("POST", "/jobs", {"type": "soak", "payload": {"what": "is this?"}})
        self._send("GET", "/jobs/nothing")

    def _hang_up(self) -> None:
        """Ask for something that takes its time, and do not wait for it."""
        job_id = self._submit()
        path = self._rng.choice([f"/jobs/{job_id}?wait=5", f"/jobs/{job_id}/logs?follow=1", "/jobs?limit=1000"])
        self._say(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())

    def _talk_nonsense(self) -> None:
        self._say(
            self._rng.choice(
                [
                    b"",
                    b"\x16\x03\x01\x00",
                    b"GET /jobs HTT",
                    b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
                    b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                ]
            )
        )

    def _say(self, data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE) as peer:
            peer.sendall(data)


class LeakSoak:
    """A service in ``directory``, kept busy in stretches, and looked at between them."""

    def __init__(self, directory: Path, seed: int, more: Sequence[Job] = ()) -> None:
        """``more``: jobs that are submitted, too."""
        self._submissions = Submissions(directory)
        self._seed = seed
        self._more = more
        self._directory = directory
        self.counts: Counter[str] = Counter()
        self.usages: list[Usage] = []
        self._errors: list[str] = []

    def run(self, stretches: int, seconds: float, acts: int = 0) -> str:
        """Work so often, for so many seconds each, and until each client did so many ``acts``; the line of figures.

        On a busy machine little is done in a second, and what nobody did has warmed nothing up, and leaked nothing.
        """
        own = {"GOFER_WORKERS": 6, "GOFER_HTTP_ALLOW": "127.0.0.1", "GOFER_RETENTION": "30s"}
        settings: dict[str, Any] = {**self._submissions.settings, **own}
        service = Service(self._directory, **settings)
        try:
            service.wait_until_ready()
            for stretch in range(stretches):
                self._work(service, stretch, seconds, acts)
                self._look(service)
            assert service.stop() == 0, service.stderr[-2000:]
        finally:
            service.kill()
        return self._figures(stretches * seconds)

    def _work(self, service: Service, stretch: int, seconds: float, acts: int) -> None:
        rngs = [random.Random(f"{self._seed} {stretch} {number}") for number in range(_CLIENTS)]
        churns = [Churn(service.port, self._submissions, rng, self._more) for rng in rngs]
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=churn.work, args=(until, acts)) for churn in churns]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for churn in churns:
            self.counts += churn.counts
            self._errors += churn.errors

    @property
    def broken(self) -> list[str]:
        """What leaked, and what else went wrong, in words."""
        return [*usage.leaks(self.usages), *self._errors]

    def _look(self, service: Service) -> None:
        """Wait until it rests: all jobs ended, and everything that was let go of is gone."""
        eventually(lambda: _is_at_rest(service), 4 * PATIENCE)
        quiet = usage.of(service.process.pid)
        deadline = time.monotonic() + PATIENCE / 10
        while self.usages and time.monotonic() < deadline and _exceeds(quiet, self.usages[-1]):
            # What was hung up is noticed within some seconds.
            threading.Event().wait(0.1)
            quiet = usage.of(service.process.pid)
        self.usages.append(quiet)

    def _figures(self, seconds: float) -> str:
        before, after = usage.growth(self.usages)
        database = (self._directory / "gofer.db").stat().st_size / 1e6
        return (
            f"{seconds / 60:.1f} minutes of churn, {self.counts['acts']:,} acts of {_CLIENTS} clients: "
            f"{before} when warm; {after} at the end; {database:.1f} MB of database; {len(self.broken)} leaks"
        )


def _is_at_rest(service: Service) -> bool:
    stats = service.stats()
    return not any(stats[name] for name in ("pending", "processing", "busy", "abandoned_alive"))


def _exceeds(new: Usage, old: Usage) -> bool:
    return new.threads > old.threads or new.descriptors > old.descriptors or new.processes > old.processes


def main(arguments: list[str]) -> int:
    """Run it, print the figures and what leaked; 1 if anything did."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak leaks", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        soak = LeakSoak(Path(name), options.seed, [_DEAF])
        print(f"leak soak, seed {options.seed}: {soak.run(max(3, round(options.minutes * 60 / _STRETCH)), _STRETCH)}")
    for quiet in soak.usages:
        print(f"  {quiet}", file=sys.stderr)
    for broken in soak.broken:
        print(f"BROKEN (seed {options.seed}): {broken}", file=sys.stderr)
    return 1 if soak.broken else 0
