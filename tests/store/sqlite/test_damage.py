"""A damaged file: found as jobs are kept in it, or at the start, and never used again before it is whole."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from store.errors import CannotOpenStore, StoreDamaged, StoreUnavailable
from store.job import JobStatus
from store.protocol import JobFilter
from store.sqlite import SqliteStore
from tests.fake_clock import FakeClock
from tests.store.samples import DONE, OURS, all_jobs, create, new_job

PAGE = 2_048


def open_sqlite(path: Path) -> SqliteStore:
    return SqliteStore(path, FakeClock(), random.Random(1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that is closed and holds a few hundred jobs; ``backup.db`` beside it is a copy."""
    path = tmp_path / "gofer.db"
    store = open_sqlite(path)
    store.create_jobs([new_job(payload=b'"%d %s"' % (number, b"x" * 1_000)) for number in range(300)])
    store.close()
    shutil.copy(path, tmp_path / "backup.db")
    return path


def scramble(path: Path, first_page: int, last_page: int | None = None) -> None:
    """Write noise over pages of the file, the first of which has the number 1."""
    content = bytearray(path.read_bytes())
    begin, end = (first_page - 1) * PAGE, len(content) if last_page is None else last_page * PAGE
    content[begin:end] = random.Random(1).randbytes(end - begin)
    with path.open("r+b") as file:
        file.write(content)


def halve(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 // PAGE * PAGE)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "the schema": lambda path: scramble(path, 1),
    "all but the first page": lambda path: scramble(path, 2),
    "one half is gone": halve,
    "the header": lambda path: path.write_bytes(b"\0" * 100 + path.read_bytes()[100:]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_that_a_start_meets_is_said_and_the_file_stays_as_it_is(
    path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    before = path.read_bytes()
    with pytest.raises(CannotOpenStore, match=r"the database is damaged|not a SQLite database"):
        open_sqlite(path)
    assert path.read_bytes() == before


def read(store: SqliteStore) -> object:
    return all_jobs(store)


def write(store: SqliteStore) -> object:
    return store.create_jobs([new_job() for _ in range(100)])


@pytest.mark.parametrize("operation", [read, write])
def test_damage_that_shows_later_ends_the_use_of_the_file(
    path: Path, tmp_path: Path, operation: Callable[[SqliteStore], object]
) -> None:
    store = open_sqlite(path)
    scramble(path, 12)
    with pytest.raises(StoreDamaged, match=r"the database is damaged \(.*\); restore a backup of it"):
        operation(store)
    with pytest.raises(StoreUnavailable, match="nothing is written any more, because the store has failed"):
        create(store)
    with pytest.raises(StoreDamaged):
        store.maintain()
    store.close()

    before = path.read_bytes()
    with pytest.raises(CannotOpenStore, match="the database is damaged"):
        open_sqlite(path)
    assert path.read_bytes() == before
    shutil.copy(tmp_path / "backup.db", path)
    store = open_sqlite(path)
    assert len(all_jobs(store)) == 300
    store.close()


def test_text_that_was_never_written_is_damage_too(path: Path) -> None:
    """SQLite does not notice; its pages have no checksums."""
    content = path.read_bytes()
    assert content.count(b'"250 xxx') == 1
    path.write_bytes(content.replace(b'"250 xxx', b'"250 \xff\xff\xff'))
    store = open_sqlite(path)
    with pytest.raises(StoreDamaged, match="text that is not UTF-8"):
        read(store)
    with pytest.raises(StoreDamaged):
        store.maintain()
    store.close()


def test_a_start_after_damage_looks_through_the_whole_file_and_one_after_that_does_not(path: Path) -> None:
    store = open_sqlite(path)
    store._condition.fail(StoreDamaged())
    store.close()
    lock_file = path.with_name("gofer.db.lock")
    assert lock_file.read_text().endswith("\ndamaged\n")
    assert path.exists()
    scramble(path, 100, 101)  # A part that no start reads.
    for _ in range(2):
        with pytest.raises(CannotOpenStore, match=r"the database is damaged \(.+\); restore a backup of it"):
            open_sqlite(path)
    shutil.copy(path.with_name("backup.db"), path)
    open_sqlite(path).close()
    assert "damaged" not in lock_file.read_text()


def test_a_file_without_damage_is_used_though_the_last_owner_thought_otherwise(path: Path) -> None:
    store = open_sqlite(path)
    store._condition.fail(StoreDamaged())
    store.close()
    store = open_sqlite(path)
    (job,) = store.list_jobs(JobFilter(), 1).jobs
    claimed = store.claim_job(job.id, OURS)
    assert claimed
    assert store.finish_job(job.id, 1, DONE).status is JobStatus.COMPLETED
    store.close()


def test_a_job_in_a_status_that_there_is_not_is_said_at_the_start(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE jobs SET status = 'asleep' WHERE number = 7")
    connection.close()

    with pytest.raises(CannotOpenStore, match=r"damaged \('asleep' is not a valid JobStatus\)"):
        open_sqlite(path)
