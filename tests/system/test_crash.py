"""Promises 1 to 3: what was accepted survives ``kill -9``, and ends. Under load, at random instants: tests/soak."""

from collections.abc import Callable
from pathlib import Path

from tests.system.service import Service


def test_a_job_that_kills_the_service_is_failed_and_its_neighbours_complete(
    launch: Callable[..., Service], tmp_path: Path
) -> None:
    trace = str(tmp_path / "trace")
    service = launch()
    service.wait_until_ready()
    killer = service.submit("killer", {"trace": trace, "seconds": 0.3})["id"]
    innocent = [service.submit("traced", {"trace": trace, "seconds": 0.6})["id"] for _ in range(3)]
    assert service.wait_for_exit() == 9
    for _ in range(2):
        service = launch()
        assert service.wait_for_exit() == 9, "the killer runs again, alone"

    service = launch()
    service.wait_until_ready()

    failed = service.wait_for_end(killer)
    assert failed["status"] == "failed"
    assert failed["error"]["type"] == "Crashed"
    assert "alone" in failed["error"]["message"]
    assert [attempt["status"] for attempt in service.attempts(killer)] == ["crashed"] * 3
    assert [service.wait_for_end(job_id)["status"] for job_id in innocent] == ["completed"] * 3


def test_a_retry_by_hand_gives_a_job_failed_by_crashes_a_new_chance(
    launch: Callable[..., Service], tmp_path: Path
) -> None:
    service = launch()
    service.wait_until_ready()
    killer = service.submit("killer", {"trace": str(tmp_path / "trace"), "seconds": 0.3}, max_attempts=1)["id"]
    assert service.wait_for_exit() == 9
    service = launch()
    service.wait_until_ready()
    assert service.job(killer)["status"] == "failed"

    service.post(f"/jobs/{killer}/retry")

    assert service.wait_for_exit() == 9


def test_a_job_that_was_acknowledged_just_before_the_crash_is_there(launch: Callable[..., Service]) -> None:
    service = launch()
    service.wait_until_ready()
    job = service.submit("echo", {"last": "words"}, run_at="2999-01-01T00:00:00Z")
    service.kill()

    service = launch()
    service.wait_until_ready()

    assert service.job(job["id"]) == job


def test_an_outcome_that_was_read_survives_the_crash(launch: Callable[..., Service]) -> None:
    service = launch()
    service.wait_until_ready()
    answer = service.post("/jobs", {"type": "echo", "payload": "seen"}, prefer="wait=10")
    assert answer.status == 200
    service.kill()

    service = launch()
    service.wait_until_ready()

    assert service.job(answer.json["id"]) == answer.json
