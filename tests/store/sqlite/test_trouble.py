"""A write that is refused for the disk's or the file's sake: told by the housekeeping until one works again."""

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from store.errors import StoreFull, StoreUnavailable
from store.sqlite import SqliteStore
from tests.fake_clock import FakeClock
from tests.store.samples import OURS, all_jobs, create, new_job


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    monkeypatch.setattr("store.sqlite.database._BUSY_TIMEOUT", 1)
    store = SqliteStore(tmp_path / "gofer.db", FakeClock(), random.Random(1))
    yield store
    store.close()


@pytest.fixture
def other(tmp_path: Path, store: SqliteStore) -> Iterator[apsw.Connection]:
    """Another program that writes, so that we cannot."""
    connection = apsw.Connection(str(tmp_path / "gofer.db"))
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


def test_the_housekeeping_tells_of_an_outage_that_somebody_met_until_it_is_over(
    store: SqliteStore, other: apsw.Connection
) -> None:
    assert store.maintain() > 0, "nobody has met it"
    with pytest.raises(StoreUnavailable, match="database is locked"):
        create(store)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="database is locked"):
            store.maintain()
    other.execute("ROLLBACK")
    assert store.maintain() > 0
    create(store)


def test_reads_that_go_well_do_not_end_an_outage(store: SqliteStore, other: apsw.Connection) -> None:
    with pytest.raises(StoreUnavailable):
        create(store)
    assert all_jobs(store) == []
    with pytest.raises(StoreUnavailable):
        store.maintain()


def test_a_transaction_that_does_not_fit_is_undone_and_others_go_on(store: SqliteStore) -> None:
    writer = store._database.writer
    writer.pragma("max_page_count", writer.pragma("page_count") + 2)
    with pytest.raises(StoreFull):
        store.create_jobs([new_job(payload=b'"%s"' % (b"x" * 10_000))])
    assert all_jobs(store) == []
    assert store.maintain() > 0, "there is room for a page"
    job = create(store)
    assert store.claim_job(job.id, OURS)


def test_the_probe_writes_and_changes_nothing(store: SqliteStore, tmp_path: Path) -> None:
    store._condition.in_trouble = True
    before, version = (tmp_path / "gofer.db-wal").stat().st_size, store._database.writer.pragma("user_version")
    store.maintain()
    assert (tmp_path / "gofer.db-wal").stat().st_size > before
    assert store._database.writer.pragma("user_version") == version
    assert not store._condition.in_trouble


def test_a_commit_that_fits_into_the_log_is_not_refused_because_the_index_of_the_log_must_grow(
    store: SqliteStore, tmp_path: Path
) -> None:
    """On a full disk that would be an outcome that nobody knows, and end the process."""
    log, index = tmp_path / "gofer.db-wal", tmp_path / "gofer.db-shm"
    before = index.stat()
    assert before.st_blocks * 512 >= before.st_size, "it is on the disk, and not only promised"
    frames = 2 * 4_096
    while log.stat().st_size < frames * 2_072:
        store.create_jobs([new_job(payload=b'"%s"' % (b"x" * 200_000))])
    assert index.stat().st_size == before.st_size
