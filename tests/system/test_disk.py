"""What a disk does to the service that is full, fails, or holds something else than was written; and what is said."""

import random
import shutil
import sqlite3
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually
from tests.system.service import PATIENCE, ROOT, Answer, Service, run_to_end
from tests.system.small_disk import SmallDisk

FULL = "The disk that holds the store is full"
ON_DISK = "sqlite:disk/gofer.db"
PAGE_SIZE = 2_048


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SmallDisk]:
    """A disk of 3 MiB, mounted at ``disk`` in the test's directory for whoever is started with its ``program``.

    Another size is an indirect parameter.
    """
    (tmp_path / "disk").mkdir()
    disk = SmallDisk(tmp_path / "disk", getattr(request, "param", "3m"))
    yield disk
    disk.close()


def submit_until_refused(service: Service) -> Answer:
    """The refusal: what is left of the WAL's last block may take a job or two."""
    answers = (service.post("/jobs", {"type": "echo", "payload": "x" * 2_000}) for _ in range(100))
    return next(answer for answer in answers if answer.status != 201)


def not_ready(service: Service) -> str | None:
    """Why ``/ready`` says that it is not; None if it is."""
    answer = service.get("/ready")
    return None if answer.status == 200 else answer.json["detail"]


def refusal(service: Service) -> str:
    """The one line with which a start ends."""
    assert service.wait_for_exit() == 2
    (line,) = service.stderr.splitlines()
    return line


def test_a_full_disk_refuses_jobs_says_why_keeps_outcomes_and_heals_by_itself(
    launch: Callable[..., Service], disk: SmallDisk, tmp_path: Path
) -> None:
    service = launch(program=disk.program, GOFER_STORE=ON_DISK, GOFER_WORKERS=2)
    service.wait_until_ready()
    running = service.submit("deaf", str(tmp_path / "go"))["id"]
    service.wait_for_start(running)
    disk.fill()

    refused = submit_until_refused(service)
    assert (refused.status, refused.headers["Content-Type"]) == (503, "application/problem+json")
    assert (refused.json["type"], refused.headers["Retry-After"]) == ("/problems/store_full", "30")
    assert refused.json["detail"] == f"{FULL}; nothing was stored."
    assert eventually(lambda: not_ready(service)) == f"the store does not work: {FULL}; nothing was stored"
    paths = ("/jobs", f"/jobs/{running}", f"/jobs/{running}/attempts", f"/jobs/{running}/logs", "/stats", "/queues")
    assert [service.get(path).status for path in (*paths, "/health")] == [200] * (len(paths) + 1)

    (tmp_path / "go").touch()
    service.wait_for_log("worker.executor: the store does not work")
    assert service.job(running)["status"] == "processing"
    assert service.get("/ready").status == 503

    disk.free()
    ended = service.wait_for_end(running)
    assert (ended["status"], ended["attempt"], ended["result"]) == ("completed", 1, "heard nothing")
    eventually(lambda: not_ready(service) is None, PATIENCE)
    assert service.wait_for_end(service.submit("echo")["id"])["status"] == "completed"
    assert service.stop() == 0
    # Once by each that met it, and not each second.
    assert service.stderr.count("ERROR") == 2


@pytest.mark.parametrize("disk", ["12m"], indirect=True)
def test_what_is_large_comes_and_goes_whole_although_the_disk_is_full_that_temporary_files_are_on(
    launch: Callable[..., Service], disk: SmallDisk, tmp_path: Path
) -> None:
    service = launch(program=disk.program, GOFER_STORE=ON_DISK, TMPDIR=tmp_path / "disk")
    service.wait_until_ready()
    service.post("/queues/default/pause")
    # The last one is of the size for which Python would choose the directory, once and for all.
    submitted = [service.submit("echo", "x" * size)["id"] for size in (300_000, 300_000, 300_000, 900_000)]
    page = service.get("/jobs?limit=1000")
    disk.fill()
    submit_until_refused(service)

    refused = service.post("/jobs", {"type": "echo", "payload": "x" * 900_000})

    assert (refused.status, refused.headers["Content-Type"]) == (503, "application/problem+json")
    assert (refused.json["type"], refused.headers["Retry-After"]) == ("/problems/store_full", "30")
    again = service.get("/jobs?limit=1000")
    assert (again.status, again.headers["Content-Type"]) == (200, "application/json")
    assert [job for job in again.json["jobs"] if job["id"] in submitted] == page.json["jobs"]

    disk.free()
    eventually(lambda: not_ready(service) is None, PATIENCE)
    service.submit("echo", "x" * 900_000)
    assert service.stop() == 0
    assert "waitress" not in service.stderr
    assert "Traceback" not in service.stderr


def test_a_service_can_be_stopped_while_the_disk_is_full_and_started_once_it_is_not(
    launch: Callable[..., Service], disk: SmallDisk, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"program": disk.program, "GOFER_STORE": ON_DISK, "GOFER_SHUTDOWN_TIMEOUT": 0.2}
    service = launch(**settings)
    service.wait_until_ready()
    running = service.submit("deaf", str(tmp_path / "go"))["id"]
    waiting = service.submit("echo", run_at="2999-01-01T00:00:00Z")
    service.wait_for_start(running)
    disk.fill()
    submit_until_refused(service)
    (tmp_path / "go").touch()
    service.wait_for_log("worker.executor: the store does not work")

    assert service.stop() == 0
    assert f"the outcome of job {running} was not stored before the end; the job will run again" in service.stderr
    assert "full" in refusal(launch(**settings))

    disk.free()
    service = launch(**settings)
    service.wait_until_ready()
    assert service.wait_for_end(running)["status"] == "completed"
    assert service.job(waiting["id"]) == waiting


def test_a_disk_that_is_read_only_ends_the_start(launch: Callable[..., Service], disk: SmallDisk) -> None:
    disk.forbid_writes()

    line = refusal(launch(program=disk.program, GOFER_STORE=ON_DISK))

    assert line.startswith("gofer: cannot open the store ")
    assert line.endswith("gofer.db.lock: Read-only file system")


def failing_disk(directory: Path) -> tuple[str, str]:
    """A service that cannot sync any more once the file ``broken`` is there."""
    program = directory / "failing_disk.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import os, sys
            sys.path.insert(0, {str(ROOT)!r})

            def fdatasync(descriptor, sync=os.fdatasync):
                if os.path.exists("broken"):
                    raise OSError(5, os.strerror(5))
                sync(descriptor)

            os.fdatasync = fdatasync
            import run
            sys.exit(run.main())
            """
        )
    )
    return (sys.executable, str(program))


def test_a_sync_that_fails_ends_the_process_with_a_clear_line_and_the_next_start_finds_all(
    launch: Callable[..., Service], tmp_path: Path
) -> None:
    service = launch(program=failing_disk(tmp_path))
    service.wait_until_ready()
    acknowledged = service.submit("echo", run_at="2999-01-01T00:00:00Z")
    (tmp_path / "broken").touch()

    answer = service.post("/jobs", {"type": "echo", "run_at": "2999-01-01T00:00:00Z"})

    assert (answer.status, answer.json["type"]) == (503, "/problems/outcome_unknown")
    assert "Retry-After" not in answer.headers
    assert service.wait_for_exit() == 3
    last = service.stderr.splitlines()[-1]
    assert "CRITICAL gofer: ended: it was written, but it is unknown whether that holds: " in last
    assert last.endswith("Input/output error")
    assert "Traceback" not in service.stderr
    (tmp_path / "broken").unlink()
    service = launch()
    service.wait_until_ready()
    jobs = list(service.jobs())
    assert jobs[-1] == acknowledged
    assert len(jobs) <= 2


def test_a_sync_that_fails_while_nobody_asks_for_anything_ends_the_process_too(
    launch: Callable[..., Service], tmp_path: Path
) -> None:
    service = launch(program=failing_disk(tmp_path))
    service.wait_until_ready()
    running = service.submit("deaf", str(tmp_path / "go"))["id"]
    service.wait_for_start(running)
    (tmp_path / "broken").touch()
    (tmp_path / "go").touch()

    assert service.wait_for_exit() == 3
    (tmp_path / "broken").unlink()
    service = launch()
    service.wait_until_ready()
    assert service.wait_for_end(running)["status"] == "completed"


def test_a_database_that_turns_out_to_be_damaged_ends_the_process_and_is_not_used_before_it_is_whole(
    launch: Callable[..., Service], tmp_path: Path
) -> None:
    service = launch()
    service.wait_until_ready()
    service.submit_many([{"type": "echo", "payload": "x" * 2_000, "run_at": "2999-01-01T00:00:00Z"}] * 300)
    assert service.stop() == 0
    path, backup = tmp_path / "gofer.db", tmp_path / "backup.db"
    shutil.copy(path, backup)
    service = launch()
    service.wait_until_ready()
    with path.open("r+b") as file:
        file.seek(20 * PAGE_SIZE)
        file.write(random.Random(1).randbytes(100 * PAGE_SIZE))

    answer = service.get("/jobs?limit=1000")

    assert (answer.status, answer.json["type"]) == (503, "/problems/store_damaged")
    assert service.wait_for_exit() == 3
    last = service.stderr.splitlines()[-1]
    assert "CRITICAL gofer: ended: the database is damaged (" in last
    assert last.endswith("; restore a backup of it")
    line = refusal(launch())
    assert "the database is damaged" in line
    assert "restore a backup of it" in line

    for left in tmp_path.glob("gofer.db*"):
        left.unlink()
    shutil.copy(backup, path)
    service = launch()
    service.wait_until_ready()
    assert service.stats()["pending"] == 300


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "the database is damaged"),
        (lambda path: path.write_bytes(b"x" * 100 + path.read_bytes()[100:]), "the file is not a SQLite database"),
    ],
    ids=["half", "header"],
)
def test_a_file_that_is_damaged_ends_the_start_in_one_line_and_stays_as_it_is(
    service: Service, damage: Callable[[Path], object], said: str
) -> None:
    service.submit_many([{"type": "echo", "run_at": "2999-01-01T00:00:00Z"}] * 100)
    assert service.stop() == 0
    path = service.directory / "gofer.db"
    damage(path)
    before = path.read_bytes()

    done = run_to_end(service.directory, GOFER_STORE="sqlite:gofer.db", GOFER_PORT=0)

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("gofer: cannot open the store ")
    assert said in line
    assert path.read_bytes() == before


def test_somebody_elses_lock_on_the_database_is_an_outage_and_heals(service: Service) -> None:
    other = sqlite3.connect(service.directory / "gofer.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    answer = service.post("/jobs", {"type": "echo"})

    assert (answer.status, answer.json["type"]) == (503, "/problems/store_unavailable")
    assert "database is locked" in str(eventually(lambda: not_ready(service), PATIENCE))
    other.execute("ROLLBACK")
    other.close()
    eventually(lambda: not_ready(service) is None, PATIENCE)
    assert service.wait_for_end(service.submit("echo")["id"])["status"] == "completed"
