"""Another program that reads the database and does not end: what it keeps in the write-ahead log has a bound."""

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from store.errors import StoreUnavailable
from store.sqlite import SqliteStore
from tests.fake_clock import FakeClock
from tests.store.samples import EVERYTHING, create, new_job

MIB = 1024 * 1024


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    """A store whose log is full at 4,000 frames of 2 KiB."""
    monkeypatch.setattr("store.sqlite.checkpointer._FULL", 4_000)
    monkeypatch.setattr("store.sqlite.checkpointer._RESTART", 2_000)
    store = SqliteStore(tmp_path / "gofer.db", FakeClock(), random.Random(1), lambda _: None)
    create(store)
    yield store
    store.close()


@pytest.fixture
def reader(tmp_path: Path, store: SqliteStore) -> Iterator[apsw.Connection]:
    """Another program in the middle of its reading."""
    connection = apsw.Connection(str(tmp_path / "gofer.db"), flags=apsw.SQLITE_OPEN_READONLY)
    connection.execute("BEGIN; SELECT count(*) FROM jobs").fetchall()
    yield connection
    connection.close()


def write(store: SqliteStore) -> None:
    """A MiB."""
    store.create_jobs([new_job(payload=b'"%s"' % (b"x" * MIB))])


def write_until_refused(store: SqliteStore) -> None:
    """With a look at the files after each MiB, as once a second."""
    with pytest.raises(StoreUnavailable, match="another program has been reading"):
        for _ in range(20):
            write(store)
            store.maintain()


def test_without_a_reader_the_log_starts_anew_again_and_again(store: SqliteStore) -> None:
    for _ in range(30):
        write(store)
        store.maintain()
    assert store._database.wal.stat().st_size < 10 * MIB


def test_a_page_that_has_been_read_keeps_nothing_in_the_log(store: SqliteStore) -> None:
    for _ in range(30):
        write(store)
        assert store.list_jobs(EVERYTHING, 1).next_cursor is not None
        store.maintain()
    assert store._database.wal.stat().st_size < 10 * MIB


def test_at_its_bound_nothing_is_written_and_what_is_there_can_be_read(
    store: SqliteStore, reader: apsw.Connection
) -> None:
    write_until_refused(store)
    size = store._database.wal.stat().st_size
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="another program has been reading"):
            write(store)
        with pytest.raises(StoreUnavailable, match="another program has been reading"):
            store.maintain()
    assert store._database.wal.stat().st_size == size < 10 * MIB
    assert store.list_jobs(EVERYTHING, 1).jobs


def test_when_the_reader_ends_it_heals_by_itself(store: SqliteStore, reader: apsw.Connection) -> None:
    write_until_refused(store)
    reader.execute("ROLLBACK")
    for _ in range(10):
        store.maintain()
        write(store)
    assert store._database.wal.stat().st_size < 10 * MIB


def test_a_reader_that_comes_late_does_not_keep_the_log_full_either(
    store: SqliteStore, reader: apsw.Connection
) -> None:
    """What is left behind it is less than is worth a checkpoint otherwise."""
    for _ in range(7):
        write(store)
    reader.execute("ROLLBACK; BEGIN; SELECT count(*) FROM jobs").fetchall()
    write_until_refused(store)
    reader.execute("ROLLBACK")
    store.maintain()
    write(store)
