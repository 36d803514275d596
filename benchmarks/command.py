"""What a declared command costs beyond the program itself: jobs of ``/bin/true`` against bare ``subprocess.run``."""

import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks import service
from benchmarks.drain import drained
from benchmarks.table import Row

_PROGRAM = "/bin/true"
_DECLARATION = f"""
[commands.true]
argv = ["{_PROGRAM}", "{{n}}"]
params.n.pattern = "[0-9]+"
"""
#: Milliseconds that a job may take longer than the bare program.
_TARGET = 3.0


def measure(rounds: int, jobs: int) -> list[Row]:
    """Run ``jobs`` programs in each way in every round, one after the other, with one worker."""
    own, bare = [], []
    for number in range(rounds):
        # Every second round in the opposite order, so that a drift of the machine favours nobody.
        if number % 2:
            own.append(_service(jobs))
        bare.append(_bare(jobs))
        if not number % 2:
            own.append(_service(jobs))
    more = [ours - theirs for ours, theirs in zip(own, bare, strict=True)]
    detail = f"{median(own):.2f} ms to {median(bare):.2f} ms"
    name = f"a job of {_PROGRAM} beyond subprocess.run, {jobs:,} jobs, 1 worker"
    return [Row(name, more, "ms", _TARGET, at_least=False, detail=detail)]


def _bare(runs: int) -> float:
    """Milliseconds of one run, without a service."""
    started = time.perf_counter()
    for _ in range(runs):
        subprocess.run([_PROGRAM], check=True)
    return (time.perf_counter() - started) / runs * 1000


def _service(jobs: int) -> float:
    """Milliseconds of one job, stored beforehand and run to the end by the whole service."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "gofer.toml").write_text(_DECLARATION)
        with service.gofer(directory, GOFER_WORKERS=1, GOFER_CONFIG="gofer.toml") as server:
            # The first one starts the guardian, too.
            server.call("POST", "/jobs", {"type": "true", "payload": {"n": 0}}, {"Prefer": "wait=60"})
            return drained(server, jobs, "true") / jobs * 1000
