"""Promises 4 and 5: full buffers, slow and hanging handlers delay jobs; they lose none and take no worker away."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.system.service import Service


def test_five_hundred_jobs_on_one_slow_worker_all_complete_in_order(start: Callable[..., Service]) -> None:
    service = start(GOFER_WORKERS=1)

    with ThreadPoolExecutor(8) as clients:
        ids = list(clients.map(lambda _: service.submit("sleep", 0.005)["id"], range(500)))

    assert service.wait_until_idle()["completed"] == 500
    jobs = list(service.jobs())
    assert {job["id"] for job in jobs} == set(ids)
    assert {(job["status"], job["attempt"]) for job in jobs} == {("completed", 1)}


def test_the_first_submission_that_finds_the_buffer_full_is_logged_once(start: Callable[..., Service]) -> None:
    service = start(GOFER_WORKERS=1)
    service.wait_for_start(service.submit("sleep", 30)["id"])

    for _ in range(130):
        service.submit("echo")

    assert service.stderr.lower().count("full") == 1
    assert service.stats()["pending"] == 130


def test_a_higher_priority_runs_first(start: Callable[..., Service], tmp_path: Path) -> None:
    service = start(GOFER_WORKERS=1)
    service.post("/queues/default/pause")
    trace = str(tmp_path / "trace")
    ids = {n: service.submit("traced", {"trace": trace}, priority=n)["id"] for n in (0, -5, 7, 100, 3)}

    service.post("/queues/default/resume")

    service.wait_until_idle()
    ran = [line.split()[0] for line in Path(trace).read_text().splitlines()]
    assert ran == [ids[n] for n in (100, 7, 3, 0, -5)]


def test_past_the_backlog_limit_jobs_are_refused_until_there_is_room(start: Callable[..., Service]) -> None:
    service = start(GOFER_MAX_BACKLOG=10)
    service.post("/queues/default/pause")
    service.submit_many([{"type": "echo"}] * 10)

    refused = service.post("/jobs", {"type": "echo"})
    service.post("/queues/default/resume")
    service.wait_until_idle()

    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert service.submit("echo")["type"] == "echo"


def test_thousands_of_jobs_complete_and_are_all_listed_once(service: Service) -> None:
    ids = [
        job["id"]
        for start in range(0, 5000, 1000)
        for job in service.submit_many([{"type": "echo", "payload": n} for n in range(start, start + 1000)])
    ]

    assert service.wait_until_idle()["completed"] == 5000
    jobs = list(service.jobs())
    assert [job["id"] for job in jobs] == ids[::-1]
    assert [job["result"] for job in jobs] == list(range(4999, -1, -1))


def test_a_slow_queue_does_not_hold_up_another(start: Callable[..., Service], tmp_path: Path) -> None:
    service = start(GOFER_QUEUES="reports=1")
    slow = [service.submit("deaf", str(tmp_path / "end"), queue="reports")["id"] for _ in range(150)]
    service.wait_for_start(slow[0])

    quick = [service.submit("echo")["id"] for _ in range(20)]

    assert {service.wait_for_end(job)["status"] for job in quick} == {"completed"}
    assert service.stats()["processing"] == 1
    (tmp_path / "end").touch()
    assert service.wait_until_idle()["completed"] == 170


def test_a_handler_that_hangs_is_abandoned_and_its_queue_goes_on(start: Callable[..., Service], tmp_path: Path) -> None:
    service = start(GOFER_WORKERS=1)
    hung = service.submit("deaf", str(tmp_path / "never"), timeout=0.2, max_attempts=1)["id"]
    waiting = service.submit("echo", "after it")["id"]

    assert service.wait_for_end(waiting)["status"] == "completed"

    failed = service.job(hung)
    assert (failed["status"], failed["error"]["type"]) == ("failed", "TimedOut")
    assert service.stats()["abandoned"] == 1
    assert service.stop() == 0


def test_a_job_past_its_timeout_is_told_and_fails(service: Service) -> None:
    job = service.submit("sleep", 60, timeout=0.1, max_attempts=1)["id"]

    failed = service.wait_for_end(job)

    assert (failed["status"], failed["error"]["type"]) == ("failed", "TimedOut")
    assert [attempt["status"] for attempt in service.attempts(job)] == ["timed_out"]


def test_a_running_job_is_cancelled_and_says_so_meanwhile(service: Service, tmp_path: Path) -> None:
    deaf = service.submit("deaf", str(tmp_path / "end"))["id"]
    polite = service.submit("sleep", 60)["id"]
    service.wait_for_start(deaf)
    service.wait_for_start(polite)

    answers = [service.post(f"/jobs/{job}/cancel") for job in (deaf, polite)]

    assert [answer.status for answer in answers] == [202, 202]
    assert service.wait_for_end(polite)["status"] == "cancelled"
    told = service.job(deaf)
    assert (told["status"], told["cancel_requested"]) == ("processing", True)
    (tmp_path / "end").touch()
    assert service.wait_for_end(deaf)["status"] == "completed", "it never looked, and did its work"
