"""How fast jobs are accepted: ``POST /jobs`` against a bare Flask service that gives the same body back."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import load, service
from benchmarks.load import Load
from benchmarks.table import Row, median_of

_BODY = b'{"type": "echo", "payload": {"order": 4711, "customer": "c-0815", "items": [1, 2, 3]}}'
_CONNECTIONS = 16


def measure(rounds: int, seconds: float) -> list[Row]:
    """Load each service for ``seconds`` in each round, one after the other, fresh each time."""
    contestants: list[Callable[[Path, float], Load]] = [_echo, _paused, _running]
    loads: dict[Callable[[Path, float], Load], list[Load]] = {which: [] for which in contestants}
    for _ in range(rounds):
        for which in contestants:
            with tempfile.TemporaryDirectory() as directory:
                loads[which].append(which(Path(directory), seconds))
        # The opposite order next time, so that a drift of the machine favours nobody.
        contestants.reverse()
    return [
        _row("queue paused", loads[_paused], loads[_echo], 0.60),
        _row("4 workers running", loads[_running], loads[_echo], 0.50),
    ]


def _echo(directory: Path, seconds: float) -> Load:
    with service.echo(directory) as server:
        return _post(server, seconds)


def _paused(directory: Path, seconds: float) -> Load:
    with service.gofer(directory) as server:
        server.call("POST", "/queues/default/pause")
        return _post(server, seconds)


def _running(directory: Path, seconds: float) -> Load:
    with service.gofer(directory, GOFER_WORKERS=4) as server:
        outcome = _post(server, seconds)
        _check_that_jobs_ran(server.call("GET", "/stats"))
        return outcome


def _check_that_jobs_ran(stats: dict[str, int]) -> None:
    """A service that stored jobs and let them lie would win the comparison unfairly.

    What waits in the end may only wait because every worker has its hands full.
    """
    submitted = stats["pending"] + stats["processing"] + stats["completed"]
    idle = stats["workers"] - stats["busy"]
    if stats["completed"] < 0.5 * submitted or (stats["pending"] > 0.1 * submitted and idle):
        raise RuntimeError(f"the workers did not run the jobs: {stats}")


def _post(server: service.Server, seconds: float) -> Load:
    return load.run(server.port, "/jobs", _BODY, _CONNECTIONS, seconds)


def _row(name: str, own: list[Load], peer: list[Load], target: float) -> Row:
    p99 = median_of(own, lambda one: one.p99) * 1000
    return Row.ratio(
        f"POST /jobs, {_CONNECTIONS} connections, {name}, to bare Flask",
        [one.rate for one in own],
        [one.rate for one in peer],
        target,
        note=f"; p99 {p99:.0f} ms",
    )
