"""Another program reads the database and does not end: no job is lost to the log that cannot start anew."""

from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from tests.eventually import eventually
from tests.system.service import PATIENCE, Service

#: A module of handlers that makes the log's bound one that a test reaches. The handler ends when it is let.
_HANDLERS = """
import time
from pathlib import Path

from store.sqlite import checkpointer
from worker import handler

checkpointer._FULL = 4_000


@handler("waiting")
def wait(ctx, path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)
"""


@pytest.fixture
def service(start: Callable[..., Service], tmp_path: Path) -> Service:
    (tmp_path / "small_log.py").write_text(_HANDLERS)
    return start(GOFER_HANDLERS=tmp_path / "small_log.py")


@pytest.fixture
def reader(service: Service) -> Iterator[apsw.Connection]:
    """The other program, in the middle of its reading."""
    connection = apsw.Connection(str(service.directory / "gofer.db"), flags=apsw.SQLITE_OPEN_READONLY)
    connection.execute("BEGIN; SELECT count(*) FROM jobs").fetchall()
    yield connection
    connection.close()


def test_what_running_jobs_come_to_is_kept_until_the_reader_ends(
    service: Service, reader: apsw.Connection, tmp_path: Path
) -> None:
    running = service.submit("waiting", str(tmp_path / "end"))["id"]
    service.wait_for_start(running)

    refused = eventually(lambda: _refusal(service), PATIENCE)
    (tmp_path / "end").touch()
    service.wait_for_log("worker.executor: the store does not work: nothing is written, because the write-ahead log")

    assert refused == "/problems/store_unavailable"
    assert "another program" in service.get("/ready").json["detail"]
    assert service.job(running)["status"] == "processing"
    reader.execute("ROLLBACK")
    ended = service.wait_for_end(running)
    assert (ended["status"], ended["attempt"]) == ("completed", 1)
    eventually(lambda: service.get("/ready").status == 200, PATIENCE)


def _refusal(service: Service) -> str | None:
    """The kind of problem that a submission meets."""
    job = {"type": "echo", "payload": "x" * 500_000, "run_at": "2999-01-01T00:00:00Z"}
    answer = service.post("/jobs", job)
    return None if answer.status == 201 else str(answer.json["type"])
