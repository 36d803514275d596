"""A running service for tests: the real process, its standard error, and HTTP to it."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.eventually import eventually

ROOT = Path(__file__).resolve().parent.parent.parent
HANDLERS = Path(__file__).with_name("handlers.py")
#: How it is started.
PROGRAM = (sys.executable, str(ROOT / "run.py"))

#: Seconds that a start or a stop may take on a busy machine.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Service:
    """One process of the service. It keeps its files in ``directory``, so a second one there takes over the store."""

    def __init__(self, directory: Path, *, program: Sequence[str] = PROGRAM, **settings: object) -> None:
        self.directory = directory
        #: Where it listens; known once it serves.
        self.port = 0
        # Port 0 lets the service choose: a port that we chose could be taken before it is bound.
        own = {"GOFER_PORT": 0, "GOFER_STORE": "sqlite:gofer.db", "GOFER_HANDLERS": HANDLERS}
        descriptor, name = tempfile.mkstemp(".log", "stderr-", directory)
        self._log = Path(name)
        with open(descriptor, "wb") as log:  # noqa: PTH123  # a descriptor has no path
            self.process = subprocess.Popen(
                program,
                cwd=directory,
                env=environment({**own, **settings}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def stderr(self) -> str:
        """What the process has written so far."""
        return self._log.read_text(errors="replace")

    def wait_until_serving(self) -> None:
        """Until the start line is there. Jobs are accepted then; suspects may still be running by themselves."""
        self.wait_for_log("serving on http://")
        started = re.search(r"serving on http://[^ ]+:(\d+)\b", self.stderr)
        assert started is not None
        self.port = int(started[1])

    def wait_until_ready(self) -> None:
        """Until ``/ready`` says so."""
        self.wait_until_serving()
        eventually(lambda: self.get("/ready").status == 200, PATIENCE)

    def wait_for_log(self, text: str) -> None:
        """Until ``text`` has been logged."""
        eventually(lambda: self._is_logged(text), PATIENCE)

    def _is_logged(self, text: str) -> bool:
        if text in self.stderr:
            return True
        assert self.process.poll() is None, f"exit code {self.process.returncode}:\n{self.stderr}"
        return False

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request on a connection of its own. Raises OSError or HTTPException when the service is gone."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def get(self, path: str) -> Answer:
        """GET."""
        return self.request("GET", path)

    def post(self, path: str, body: object = None, **headers: str) -> Answer:
        """POST, with ``headers`` such as ``idempotency_key="k"``."""
        return self.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def submit(self, type: str, payload: object = None, **options: object) -> dict[str, Any]:  # noqa: A002
        """Submit a job that must be accepted; return it."""
        answer = self.post("/jobs", {"type": type, "payload": payload, **options})
        assert answer.status == 201, answer
        job: dict[str, Any] = answer.json
        return job

    def submit_many(self, jobs: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
        """Submit a batch that must be accepted; return its jobs."""
        answer = self.post("/jobs/batch", {"jobs": jobs})
        assert answer.status == 201, answer
        created: list[dict[str, Any]] = answer.json["jobs"]
        return created

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as it is now."""
        answer = self.get(f"/jobs/{job_id}")
        assert answer.status == 200, answer
        job: dict[str, Any] = answer.json
        return job

    def jobs(self) -> Iterator[dict[str, Any]]:
        """Every job, newest first, by following the pages."""
        path: str | None = "/jobs?limit=1000"
        while path is not None:
            page = self.get(path).json
            yield from page["jobs"]
            path = page["next"]

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        """The job's attempts, first to last."""
        attempts: list[dict[str, Any]] = self.get(f"/jobs/{job_id}/attempts").json["attempts"]
        return attempts

    def stats(self) -> dict[str, Any]:
        """The numbers of ``/stats``."""
        stats: dict[str, Any] = self.get("/stats").json
        return stats

    def wait_for_end(self, job_id: str) -> dict[str, Any]:
        """Wait until a job is final; return it."""
        job = eventually(lambda: self._final(job_id), 2 * PATIENCE)
        assert job is not None
        return job

    def _final(self, job_id: str) -> dict[str, Any] | None:
        job: dict[str, Any] = self.get(f"/jobs/{job_id}?wait=10").json
        return job if job["status"] in ("completed", "failed", "cancelled") else None

    def wait_for_start(self, job_id: str) -> None:
        """Wait until a job's handler runs."""
        eventually(lambda: self.job(job_id)["status"] == "processing", PATIENCE)

    def wait_until_idle(self) -> dict[str, Any]:
        """Wait until no job is pending or processing; return the stats."""
        stats = eventually(self._idle_stats, 2 * PATIENCE)
        assert stats is not None
        return stats

    def _idle_stats(self) -> dict[str, Any] | None:
        stats = self.stats()
        return None if stats["pending"] + stats["processing"] else stats

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait_for_exit(self, within: float = PATIENCE) -> int:
        """Wait for the process to end; return its exit code."""
        return self.process.wait(within)

    def stop(self) -> int:
        """SIGTERM, and wait; return the exit code."""
        self.send(signal.SIGTERM)
        return self.wait_for_exit()

    def kill(self) -> None:
        """SIGKILL, as a crash of the machine's kind would be: nothing can be tidied up."""
        self.process.kill()
        self.process.wait()


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment with nothing of the service's in it but ``settings``."""
    inherited = {key: value for key, value in os.environ.items() if key != "PORT" and not key.startswith("GOFER_")}
    return {**inherited, **{key: str(value) for key, value in settings.items()}}


def run_to_end(directory: Path, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run the program where it is expected to end by itself."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=directory,
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
