"""Finished jobs are deleted when their time is over, by status."""

from collections.abc import Callable

from tests.eventually import eventually
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
