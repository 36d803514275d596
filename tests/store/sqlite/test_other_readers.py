"""Others who only read the database's files, in this process too: none of them may take the log away."""

import contextlib
import errno
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.errors import OutcomeUnknown
from store.sqlite import SqliteStore, ownership
from tests.fake_clock import FakeClock
from tests.foreign_program import ask
from tests.store.samples import all_jobs, create


def open_sqlite(path: Path) -> SqliteStore:
    return SqliteStore(path, FakeClock(), random.Random(1))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = open_sqlite(tmp_path / "gofer.db")
    yield store
    store.close()


def read_with_another_sqlite(database: Path) -> None:
    """Python's own, whose locks are ours for the kernel: both are the process's."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("SELECT count(*) FROM jobs").fetchall()


def copy_and_ask(database: Path) -> None:
    """The copy's end drops SQLite's locks, since they are the process's; the program comes from outside."""
    for name in ("gofer.db", "gofer.db-wal", "gofer.db-shm"):
        shutil.copy(database.with_name(name), database.with_name(f"copy-of-{name}"))
    ask(database, "SELECT count(*) FROM jobs")


READS = [read_with_another_sqlite, copy_and_ask]


def ids_after_a_crash(database: Path, copy: Path) -> set[str]:
    """The jobs of a store whose process died in this moment."""
    for suffix in ("", "-wal"):
        if database.with_name(database.name + suffix).exists():
            shutil.copy(database.with_name(database.name + suffix), copy.with_name(copy.name + suffix))
    store = open_sqlite(copy)
    found = {job.id for job in all_jobs(store)}
    store.close()
    return found


@pytest.mark.parametrize("read", READS)
def test_whoever_only_reads_leaves_the_log_where_it_is(
    store: SqliteStore, tmp_path: Path, read: Callable[[Path], None]
) -> None:
    database = tmp_path / "gofer.db"
    acknowledged = {create(store).id}
    for _ in range(3):
        read(database)
        acknowledged.add(create(store).id)
        store.maintain()
    assert ids_after_a_crash(database, tmp_path / "crashed.db") == acknowledged


@pytest.mark.parametrize("read", READS)
def test_the_end_of_the_store_folds_the_log_all_the_same(
    store: SqliteStore, tmp_path: Path, read: Callable[[Path], None]
) -> None:
    create(store)
    read(tmp_path / "gofer.db")
    store.close()
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith("copy-of-")}
    assert left == {"gofer.db", "gofer.db.lock"}


def test_where_the_log_cannot_be_held_its_loss_is_noticed_before_anybody_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every system has locks that belong to a descriptor."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(ownership.fcntl, "fcntl", refuse)
    store = open_sqlite(tmp_path / "gofer.db")
    acknowledged = {create(store).id}
    read_with_another_sqlite(tmp_path / "gofer.db")
    with pytest.raises(OutcomeUnknown, match=r"gofer\.db-wal was deleted or replaced"):
        create(store)
    assert ids_after_a_crash(tmp_path / "gofer.db", tmp_path / "crashed.db") == acknowledged
    store.close()
