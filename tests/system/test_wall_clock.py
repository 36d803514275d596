"""The wall clock of a running service is set forward by an hour, and back by two."""

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.eventually import eventually
from tests.system import settable_clock
from tests.system.service import PATIENCE, Service

PROGRAM = (sys.executable, settable_clock.__file__)


def set_clock(service: Service, seconds: float) -> None:
    new = service.directory / "new"
    new.write_text(str(seconds))
    new.replace(service.directory / settable_clock.FILE)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def first_attempt_over(service: Service, job_id: str) -> dict[str, Any]:
    eventually(lambda: len(service.attempts(job_id)) == 1 and service.job(job_id)["status"] == "pending", PATIENCE)
    return service.job(job_id)


def test_what_waits_for_time_to_pass_waits_as_long_and_what_waits_for_an_instant_gets_it(
    launch: Callable[..., Service], tmp_path: Path
) -> None:
    service = launch(program=PROGRAM, GOFER_HANDLERS=settable_clock.__file__, TZ="Europe/Berlin")
    service.wait_until_ready()
    later = service.submit("later")
    first = first_attempt_over(service, later["id"])
    in_half_an_hour = instant(later["created_at"]) + timedelta(minutes=30)
    appointment = service.submit("echo", run_at=in_half_an_hour.isoformat())
    running = service.submit("sleep", {"seconds": 4}, timeout=60)
    service.wait_for_start(running["id"])

    set_clock(service, 3600)

    service.wait_for_log("the wall clock was set forward by 3600.0 s; 1 waiting jobs were moved along")
    moved = service.job(later["id"])
    moved_by = instant(moved["run_at"]) - instant(first["run_at"]) - timedelta(hours=1)
    assert abs(moved_by) < timedelta(seconds=0.1)
    assert moved["attempt"] == 1
    assert service.wait_for_end(appointment["id"])["status"] == "completed"

    set_clock(service, -3600)

    service.wait_for_log("the wall clock was set back by 7200.0 s; 1 waiting jobs were moved along")
    assert service.wait_for_end(service.submit("echo")["id"])["status"] == "completed"
    assert service.wait_for_end(running["id"])["attempt"] == 1
    assert service.wait_for_end(later["id"])["attempt"] == 2
    attempts = service.attempts(later["id"])
    passed = instant(attempts[1]["started_at"]) - instant(attempts[0]["finished_at"]) + timedelta(hours=1)
    assert settable_clock.WAIT - 0.01 <= passed.total_seconds() <= settable_clock.WAIT + PATIENCE
    # Whatever local time is.
    assert all(job["created_at"].endswith("Z") for job in service.jobs())
    assert service.stderr.splitlines()[0].split()[0].endswith("Z")
    assert service.stop() == 0
