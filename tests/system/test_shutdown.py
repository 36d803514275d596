"""Promise 6: a stop finishes or puts back what runs, in order, within its time, with exit code 0."""

import contextlib
import http.client
import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.system.service import Service

_EACH_SIGNAL = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])

#: Log lines in the order of a stop.
ORDER = ["stopping", "workers joined", "queues closed", "http server stopped", "store closed"]


@_EACH_SIGNAL
def test_a_stop_lets_current_jobs_finish(start: Callable[..., Service], number: signal.Signals) -> None:
    service = start()
    job = service.submit("sleep", 0.5)["id"]
    service.wait_for_start(job)

    service.send(number)

    assert service.wait_for_exit() == 0
    finished = start().job(job)
    assert (finished["status"], finished["attempt"], finished["interruptions"]) == ("completed", 1, 0)


@_EACH_SIGNAL
def test_a_job_that_does_not_finish_in_time_goes_back_and_loses_nothing(
    start: Callable[..., Service], number: signal.Signals
) -> None:
    service = start(GOFER_SHUTDOWN_TIMEOUT=0.3)
    job = service.submit("sleep", 60, max_attempts=1)["id"]
    service.wait_for_start(job)
    service.post("/queues/default/pause")
    began = time.monotonic()

    service.send(number)

    assert service.wait_for_exit() == 0
    assert time.monotonic() - began < 5
    service = start()
    put_back = service.job(job)
    assert (put_back["status"], put_back["attempt"], put_back["interruptions"]) == ("pending", 1, 1)
    assert [attempt["status"] for attempt in service.attempts(job)] == ["interrupted"]


def test_an_interrupted_job_runs_again_after_the_restart(start: Callable[..., Service], tmp_path: Path) -> None:
    service = start(GOFER_SHUTDOWN_TIMEOUT=0.1)
    job = service.submit("deaf", str(tmp_path / "end"), max_attempts=1)["id"]
    service.wait_for_start(job)
    assert service.stop() == 0, "a handler that hangs does not keep the service from stopping"
    (tmp_path / "end").touch()

    ended = start().wait_for_end(job)

    assert (ended["status"], ended["attempt"], ended["interruptions"]) == ("completed", 2, 1)


def test_a_stop_logs_its_steps_in_order(start: Callable[..., Service]) -> None:
    service = start()
    service.wait_for_start(service.submit("sleep", 0.2)["id"])

    service.stop()

    places = [service.stderr.find(step) for step in ORDER]
    assert -1 not in places, service.stderr
    assert places == sorted(places)
    assert "Traceback" not in service.stderr


@_EACH_SIGNAL
def test_an_idle_service_stops_at_once(start: Callable[..., Service], number: signal.Signals) -> None:
    service = start()
    began = time.monotonic()

    service.send(number)

    assert service.wait_for_exit() == 0
    assert time.monotonic() - began < 3


def test_an_impatient_second_signal_ends_it_at_once(start: Callable[..., Service], tmp_path: Path) -> None:
    service = start(GOFER_SHUTDOWN_TIMEOUT=60)
    job = service.submit("deaf", str(tmp_path / "end"))["id"]
    service.wait_for_start(job)
    service.send(signal.SIGTERM)
    service.wait_for_log("stopping")
    began = time.monotonic()

    def is_gone() -> bool:
        service.send(signal.SIGTERM)
        return service.process.poll() is not None

    eventually(is_gone)
    assert service.wait_for_exit() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 2
    (tmp_path / "end").touch()
    assert start().wait_for_end(job)["status"] == "completed"


def test_another_signal_than_the_first_one_ends_it_at_once(start: Callable[..., Service], tmp_path: Path) -> None:
    service = start(GOFER_SHUTDOWN_TIMEOUT=60)
    service.wait_for_start(service.submit("deaf", str(tmp_path / "end"))["id"])
    service.send(signal.SIGTERM)
    service.wait_for_log("stopping")
    service.send(signal.SIGINT)
    assert service.wait_for_exit() == 128 + signal.SIGINT


def test_while_it_stops_it_refuses_jobs_and_is_not_ready_but_answers(
    start: Callable[..., Service], tmp_path: Path
) -> None:
    service = start()
    job = service.submit("deaf", str(tmp_path / "end"))["id"]
    service.wait_for_start(job)
    service.send(signal.SIGTERM)
    service.wait_for_log("stopping")

    single = service.post("/jobs", {"type": "echo"})
    batch = service.post("/jobs/batch", {"jobs": [{"type": "echo"}]})
    ready = service.get("/ready")
    health = service.get("/health")
    seen = service.job(job)
    (tmp_path / "end").touch()

    assert service.wait_for_exit() == 0
    for refused in (single, batch):
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.headers["Content-Type"] == "application/problem+json"
    assert ready.status == 503
    assert health.status == 200
    assert seen["status"] == "processing"


def test_a_request_that_waits_gets_its_answer_when_the_service_stops(start: Callable[..., Service]) -> None:
    service = start(GOFER_SHUTDOWN_TIMEOUT=0.5)
    job = service.submit("sleep", 60)["id"]
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    connection.request("GET", f"/jobs/{job}?wait=60")
    service.wait_for_start(job)

    service.send(signal.SIGTERM)

    response = connection.getresponse()
    seen = json.load(response)
    connection.close()
    assert response.status == 200
    assert (seen["id"], seen["status"] in ("pending", "processing")) == (job, True)
    assert service.wait_for_exit() == 0


def test_every_job_accepted_while_a_stop_begins_is_kept(start: Callable[..., Service]) -> None:
    service = start()
    accepted: list[str] = []

    def submit() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            while (answer := service.post("/jobs", {"type": "echo"})).status == 201:
                accepted.append(answer.json["id"])

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(accepted) > 50)
    service.send(signal.SIGTERM)
    assert service.wait_for_exit() == 0
    for thread in threads:
        thread.join()

    service = start()
    service.wait_until_idle()
    jobs = {job["id"]: (job["status"], job["attempt"]) for job in service.jobs()}
    assert {jobs[job_id] for job_id in accepted} == {("completed", 1)}


def test_a_signal_during_the_start_still_ends_it_in_order(launch: Callable[..., Service]) -> None:
    service = launch()
    service.wait_until_serving()

    assert service.stop() == 0
