"""How much memory a backlog takes: none that grows with it, for the jobs are on disk."""

import tempfile
from pathlib import Path

from benchmarks import service
from benchmarks.drain import store_jobs
from benchmarks.table import Row


def measure(jobs: int) -> list[Row]:
    """Compare an empty service with one that holds ``jobs`` pending ones, and with that one restarted."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with service.gofer(directory) as server:
            server.call("POST", "/queues/default/pause")
            empty = server.resident_mb()
            store_jobs(server, jobs)
            full = server.resident_mb()
        with service.gofer(directory) as server:
            server.call("GET", "/jobs?limit=50")
            restarted = server.resident_mb()
            assert server.call("GET", "/stats")["pending"] == jobs
    return [
        _row(f"resident memory, {jobs:,} pending jobs, beyond empty service", full, empty),
        _row("the same after a restart", restarted, empty),
    ]


def _row(name: str, resident: float, empty: float) -> Row:
    return Row(name, [resident - empty], "MB", 30, at_least=False, detail=f"{resident:.0f} MB to {empty:.0f} MB")
