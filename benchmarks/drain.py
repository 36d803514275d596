"""How fast stored jobs are run: a backlog of ``echo`` jobs against the same number of huey tasks."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import service
from benchmarks.table import Row

_WORKERS = 4
_BATCH = 1000


def measure(rounds: int, jobs: int) -> list[Row]:
    """Drain ``jobs`` with each in every round, one after the other, fresh each time."""
    own, peer = [], []
    for number in range(rounds):
        # Every second round in the opposite order, so that a drift of the machine favours nobody.
        if number % 2:
            own.append(_rate(_gofer, jobs))
        peer.append(_rate(_huey, jobs))
        if not number % 2:
            own.append(_rate(_gofer, jobs))
    name = f"drain of {jobs:,} stored jobs, {_WORKERS} workers, to huey fsync"
    return [Row.ratio(name, own, peer, 3.0)]


def _rate(drain: Callable[[Path, int], float], jobs: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        return jobs / drain(Path(directory), jobs)


def _gofer(directory: Path, jobs: int) -> float:
    with service.gofer(directory, GOFER_WORKERS=_WORKERS) as server:
        return drained(server, jobs)


def drained(server: service.Server, jobs: int, job_type: str = "echo") -> float:
    """Store jobs; the seconds from the call that resumes the queue until all are counted as completed."""
    server.call("POST", "/queues/default/pause")
    last = store_jobs(server, jobs, job_type)
    before = server.call("GET", "/stats")["completed"]
    started = time.perf_counter()
    server.call("POST", "/queues/default/resume")
    # Waiting for the last one costs the service nothing; a moment later its neighbours have ended, too.
    while server.call("GET", f"/jobs/{last}?wait=60")["finished_at"] is None:
        pass
    while server.call("GET", "/stats")["completed"] < before + jobs:
        time.sleep(0.005)
    return time.perf_counter() - started


def store_jobs(server: service.Server, jobs: int, job_type: str = "echo") -> str:
    """Submit ``jobs`` jobs of a type in batches; return the last one's id."""
    last = ""
    for start in range(0, jobs, _BATCH):
        batch = [{"type": job_type, "payload": {"n": n}} for n in range(start, min(start + _BATCH, jobs))]
        last = server.call("POST", "/jobs/batch", {"jobs": batch})["jobs"][-1]["id"]
    return last


def _huey(directory: Path, jobs: int) -> float:
    command = [sys.executable, "-m", "benchmarks.huey_peer", str(directory / "huey.db"), str(jobs), str(_WORKERS)]
    # A session of its own, as for the services: Ctrl-C reaches only us, and run() ends what it started.
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=service.environment({}), start_new_session=True
    )
    return float(done.stdout)
