"""Pausing and resuming a queue while the service runs and across restarts."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.system.service import Service


def test_a_paused_queue_stores_jobs_and_runs_none_until_it_is_resumed(service: Service) -> None:
    service.post("/queues/default/pause")
    job = service.submit("echo", "later")["id"]
    waited = service.get(f"/jobs/{job}?wait=0.3").json

    service.post("/queues/default/resume")

    assert waited["status"] == "pending"
    assert service.wait_for_end(job)["status"] == "completed"


def test_a_pause_survives_a_kill(start: Callable[..., Service]) -> None:
    service = start()
    service.post("/queues/default/pause")
    job = service.submit("echo", "later")["id"]
    service.kill()

    service = start()

    assert service.get("/queues/default").json["paused"] is True
    assert service.get(f"/jobs/{job}?wait=0.3").json["status"] == "pending"
    service.post("/queues/default/resume")
    assert service.wait_for_end(job)["status"] == "completed"


def test_a_pause_lets_the_running_job_finish(service: Service) -> None:
    job = service.submit("sleep", 0.3)["id"]
    service.wait_for_start(job)

    service.post("/queues/default/pause")

    assert service.wait_for_end(job)["status"] == "completed"


def test_jobs_already_buffered_do_not_run_once_the_queue_is_paused(start: Callable[..., Service]) -> None:
    service = start(GOFER_WORKERS=1)
    running = service.submit("sleep", 0.4)["id"]
    service.wait_for_start(running)
    buffered = [service.submit("echo")["id"] for _ in range(20)]

    service.post("/queues/default/pause")

    service.wait_for_end(running)
    assert service.get(f"/jobs/{buffered[0]}?wait=0.3").json["status"] == "pending"
    assert service.stats()["pending"] == 20
    service.post("/queues/default/resume")
    assert service.wait_until_idle()["completed"] == 21


def test_a_later_job_starts_at_its_time_on_an_idle_service(service: Service) -> None:
    later = datetime.now(UTC) + timedelta(seconds=0.5)

    job = service.wait_for_end(service.submit("echo", run_at=later.isoformat())["id"])

    late = datetime.fromisoformat(job["started_at"]) - later
    assert timedelta() <= late < timedelta(seconds=0.5)
