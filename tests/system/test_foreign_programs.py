"""What other programs do to the database's files while the service runs."""

import contextlib
import http.client
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.foreign_program import ask
from tests.system.service import Service

LOCKED = "sqlite3.OperationalError: database is locked"
LATER: dict[str, Any] = {"type": "echo", "run_at": "2999-01-01T00:00:00Z"}


def submit(service: Service) -> str:
    """A job that stays pending; its id."""
    job_id: str = service.submit(**LATER)["id"]
    return job_id


@pytest.mark.parametrize("name", ["gofer.db", "gofer.db-wal", "gofer.db-shm"])
@pytest.mark.parametrize(
    "lose", [Path.unlink, lambda path: path.rename(path.with_name("elsewhere"))], ids=["deleted", "renamed"]
)
def test_nothing_is_acknowledged_any_more_once_a_file_of_the_database_is_gone(
    start: Callable[..., Service], name: str, lose: Callable[[Path], object]
) -> None:
    service = start()
    submit(service)
    lose(service.directory / name)

    with contextlib.suppress(OSError, http.client.HTTPException):  # It may have ended before it has answered.
        assert service.post("/jobs", LATER).status == 503
    assert service.wait_for_exit() == 3
    last = service.stderr.splitlines()[-1]
    assert re.search(f"CRITICAL gofer: ended: .*/{name} was deleted or replaced while it was in use$", last)


def test_a_log_that_is_deleted_while_nobody_asks_for_anything_ends_the_service_too(service: Service) -> None:
    service.directory.joinpath("gofer.db-wal").unlink()
    assert service.wait_for_exit() == 3
    assert service.stderr.endswith("/gofer.db-wal was deleted or replaced while it was in use\n")


def test_a_stop_does_not_say_that_all_is_well_once_the_database_is_gone(service: Service) -> None:
    submit(service)
    service.directory.joinpath("gofer.db").unlink()
    assert service.stop() == 3
    assert "/gofer.db was deleted or replaced while it was in use" in service.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "sql", ["SELECT count(*) FROM jobs", "PRAGMA integrity_check", "PRAGMA wal_checkpoint(TRUNCATE)"]
)
def test_a_program_that_looks_into_the_database_costs_no_job(start: Callable[..., Service], sql: str) -> None:
    service = start()
    acknowledged = {submit(service) for _ in range(5)}
    assert ask(service.directory / "gofer.db", sql) in ("5", "ok", "0 0 0")
    acknowledged |= {submit(service) for _ in range(5)}
    service.kill()
    again = start()
    assert {job["id"] for job in again.jobs()} == acknowledged


def test_another_program_cannot_take_the_log_away(start: Callable[..., Service]) -> None:
    """As ``PRAGMA journal_mode = delete`` would, which SQLite does once nobody else has the database open."""
    service = start()
    acknowledged = {submit(service)}
    assert ask(service.directory / "gofer.db", "PRAGMA journal_mode = delete") == LOCKED
    acknowledged.add(submit(service))
    service.kill()
    assert {job["id"] for job in start().jobs()} == acknowledged


def test_a_backup_that_is_made_while_the_service_runs_is_a_store(start: Callable[..., Service]) -> None:
    service = start()
    acknowledged = {submit(service) for _ in range(5)}
    assert ask(service.directory / "gofer.db", "VACUUM INTO 'backup.db'") == ""
    later = submit(service)
    assert service.stop() == 0
    restored = start(GOFER_STORE="sqlite:backup.db")
    assert {job["id"] for job in restored.jobs()} == acknowledged
    assert later not in acknowledged
