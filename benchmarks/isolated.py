"""What it costs to call a handler in a process of its own; a bare ProcessPoolExecutor has less to do around it."""

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks import service
from benchmarks.drain import drained
from benchmarks.isolated_handlers import noop
from benchmarks.table import Row, median_of

_HANDLERS = Path(__file__).with_name("isolated_handlers.py")


def measure(rounds: int, jobs: int) -> list[Row]:
    """Run ``jobs`` with each in every round, one after the other, fresh each time."""
    own, peer = [], []
    for number in range(rounds):
        # Every second round in the opposite order, so that a drift of the machine favours nobody.
        if number % 2:
            own.append(_gofer(jobs))
        peer.append(_pool(jobs))
        if not number % 2:
            own.append(_gofer(jobs))
    name = f"one of {jobs:,} stored no-ops isolated, 1 worker, to ProcessPoolExecutor(1)"
    detail = f"{median_of(own, _ms):.2f} ms to {median_of(peer, _ms):.2f} ms"
    ratios = [ours / theirs for ours, theirs in zip(own, peer, strict=True)]
    return [Row(name, ratios, "x", 2.0, at_least=False, detail=detail)]


def _ms(seconds: float) -> float:
    return seconds * 1000


def _gofer(jobs: int) -> float:
    """Seconds for each job, stored beforehand and run to the end by the whole service."""
    with (
        tempfile.TemporaryDirectory() as directory,
        service.gofer(Path(directory), GOFER_WORKERS=1, GOFER_HANDLERS=_HANDLERS) as server,
    ):
        # The first one waits for the process.
        server.call("POST", "/jobs", {"type": "noop"}, {"Prefer": "wait=60"})
        return drained(server, jobs, "noop") / jobs


def _pool(jobs: int) -> float:
    """Seconds for each call, one after the other."""
    with ProcessPoolExecutor(1) as pool:
        pool.submit(noop).result()
        started = time.perf_counter()
        for _ in range(jobs):
            pool.submit(noop).result()
        return (time.perf_counter() - started) / jobs
