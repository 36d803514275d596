"""Finished jobs are deleted when their time is over, by status."""

import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

from tests.eventually import eventually
from tests.soak.crowded_store import CrowdedStore
from tests.system.service import PATIENCE, Service


def test_finished_jobs_are_deleted_when_their_time_is_over_and_others_are_kept(start: Callable[..., Service]) -> None:
    service = start()
    completed = service.wait_for_end(service.submit("echo")["id"])["id"]
    failed = service.wait_for_end(service.submit("sleep", 60, timeout=0.01, max_attempts=1)["id"])["id"]
    pending = service.submit("echo", run_at="2999-01-01T00:00:00Z")["id"]
    service.stop()

    service = start(GOFER_RETENTION="completed=0.01s")

    eventually(lambda: service.get(f"/jobs/{completed}").status == 404, PATIENCE)
    assert service.job(failed)["status"] == "failed"
    assert service.job(pending)["status"] == "pending"
    assert service.get(f"/jobs/{completed}/attempts").status == 404


def test_submissions_go_on_while_very_many_jobs_are_deleted(start: Callable[..., Service], tmp_path: Path) -> None:
    CrowdedStore(tmp_path / "gofer.db", 20_000, mixed=True)
    service = start(GOFER_RETENTION="completed=1s")
    left, submitted = [service.stats()["completed"]], []

    while left[-1] > 0 and len(left) < 10_000:
        submitted.append(service.submit("echo")["id"])
        left.append(service.stats()["completed"])

    assert left[-1] == 0
    # Deleted while one job was submitted: mostly nothing, and never much of it all.
    gone = [before - after for before, after in itertools.pairwise(left)]
    assert statistics.median(gone) <= 500
    assert service.stats()["pending"] == 5_600 + len(submitted)
