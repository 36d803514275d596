"""Following a log as a person does: ``curl -N`` against the real service."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.system.service import PATIENCE, Service

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")

Follow = Callable[[Service, str], subprocess.Popen[str]]


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Follow]:
    """Starts ``curl`` on the log of a job."""
    started: list[subprocess.Popen[str]] = []

    def start(service: Service, job_id: str) -> subprocess.Popen[str]:
        url = f"http://127.0.0.1:{service.port}/jobs/{job_id}/logs?follow=1"
        # Nothing of this machine's: neither a ~/.curlrc nor a proxy.
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
        process = subprocess.Popen(["curl", "-fsSN", url], env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    """The next line, without its time."""
    assert process.stdout is not None
    return process.stdout.readline()[25:]


def diary(service: Service, stop: Path) -> str:
    """A job that logs, and logs again once the file is there."""
    job_id: str = service.submit("diary", str(stop))["id"]
    service.wait_for_start(job_id)
    return job_id


def test_curl_shows_the_lines_as_they_come_and_ends_with_the_job(
    service: Service, follow: Follow, tmp_path: Path
) -> None:
    job_id = diary(service, tmp_path / "night")
    curl = follow(service, job_id)
    assert line(curl) == "info  dear diary\n"
    assert service.job(job_id)["status"] == "processing"
    (tmp_path / "night").touch()
    assert line(curl) == "info  good night\n"
    assert line(curl) == ""
    assert curl.wait(PATIENCE) == 0
    assert service.job(job_id)["status"] == "completed"


def test_a_stop_is_not_held_up_by_those_who_follow(service: Service, follow: Follow, tmp_path: Path) -> None:
    job_id = diary(service, tmp_path / "night")
    followers = [follow(service, job_id) for _ in range(3)]
    for curl in followers:
        assert line(curl) == "info  dear diary\n"
    (tmp_path / "night").touch()
    # The job ends by itself, so whatever the stop waits for are the followers.
    assert service.stop() == 0
    assert "unanswered" not in service.stderr
    for curl in followers:
        assert curl.wait(PATIENCE) == 0


def test_a_log_is_bounded_by_the_setting_and_kept_across_a_restart(
    start: Callable[..., Service], tmp_path: Path
) -> None:
    service = start(GOFER_LOG_LINES=1)
    job_id = diary(service, tmp_path / "night")
    eventually(lambda: service.get(f"/jobs/{job_id}/logs").json["lines"])
    (tmp_path / "night").touch()
    service.wait_for_end(job_id)
    service.stop()
    log = start().get(f"/jobs/{job_id}/logs").json
    assert [(kept["number"], kept["message"]) for kept in log["lines"]] == [(2, "good night")]
    assert log["dropped"] == 1
