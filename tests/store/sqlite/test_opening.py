"""Opening the database file: who may, what is refused, and that refusing changes nothing."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from store import open_store
from store.errors import CannotOpenStore, OutcomeUnknown, SchemaTooNew, StoreInUse, StoreUnavailable
from store.queries import load_migrations, load_queries
from store.sqlite import SqliteStore
from tests.fake_clock import FakeClock
from tests.foreign_program import ask
from tests.store.samples import INTERRUPTED, create, new_job


def open_sqlite(path: Path) -> SqliteStore:
    return SqliteStore(path, FakeClock(), random.Random(1))


def contents(directory: Path) -> dict[str, bytes]:
    """All files but the lock, by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix != ".lock"}


def schema_of(path: Path) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path))
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
    connection.close()
    return rows


def test_a_second_process_is_refused_and_told_who_owns_the_file(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "gofer.db")
    told = second_owner(tmp_path / "gofer.db")
    store.close()
    assert "StoreInUse: the store" in told
    assert f"in use by another process (pid {os.getpid()})" in told


def test_a_second_store_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "gofer.db")
    with pytest.raises(StoreInUse):
        open_sqlite(tmp_path / "gofer.db")
    store.close()


def test_the_file_can_be_opened_again_after_close(tmp_path: Path) -> None:
    open_sqlite(tmp_path / "gofer.db").close()
    open_sqlite(tmp_path / "gofer.db").close()


def test_close_leaves_one_file_that_can_be_copied(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "gofer.db")
    create(store)
    store.close()
    assert {path.name for path in tmp_path.iterdir()} == {"gofer.db", "gofer.db.lock"}


def foreign(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE notes (text)")
    connection.close()


def foreign_that_was_killed(path: Path) -> None:
    """What it wrote last is in the WAL."""
    script = (
        "import apsw, os, sys; db = apsw.Connection(sys.argv[1]); db.execute('CREATE TABLE notes (text)');"
        "db.pragma('journal_mode', 'wal'); db.execute('INSERT INTO notes VALUES (1)'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


def newer(path: Path) -> None:
    open_sqlite(path).close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 999)
    connection.close()


def noise(path: Path) -> None:
    path.write_bytes(b"these are not the bytes of a database " * 100)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (foreign, CannotOpenStore, "another program's database"),
        (foreign_that_was_killed, CannotOpenStore, "another program's database"),
        (newer, SchemaTooNew, "its schema has version 999, but this Gofer knows versions up to"),
        (noise, CannotOpenStore, "not a SQLite database"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_stays_as_it_is(
    tmp_path: Path, make: "object", error: type[Exception], message: str
) -> None:
    path = tmp_path / "gofer.db"
    assert callable(make)
    make(path)
    before = contents(tmp_path)
    with pytest.raises(error, match=message):
        open_sqlite(path)
    assert contents(tmp_path) == before


def test_a_refused_file_is_not_left_locked(tmp_path: Path) -> None:
    path = tmp_path / "gofer.db"
    noise(path)
    with pytest.raises(CannotOpenStore):
        open_sqlite(path)
    path.unlink()
    open_sqlite(path).close()


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotOpenStore, match="it is a directory"):
        open_sqlite(tmp_path)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotOpenStore, match="No such file or directory"):
        open_sqlite(tmp_path / "missing" / "gofer.db")


@pytest.mark.parametrize("url", ["", "sqlite:", "mysql://host/db", "memory:x", "gofer.db"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(CannotOpenStore, match="write sqlite:PATH or memory:"):
        open_store(url, FakeClock(), random.Random(1))


def test_applying_every_migration_step_by_step_gives_the_schema_of_a_fresh_file(tmp_path: Path) -> None:
    open_sqlite(tmp_path / "fresh.db").close()
    connection = apsw.Connection(str(tmp_path / "stepwise.db"))
    for script in load_migrations("sqlite"):
        connection.execute(script)
    connection.close()
    assert schema_of(tmp_path / "stepwise.db") == schema_of(tmp_path / "fresh.db")


def test_lines_that_were_logged_before_they_had_numbers_are_kept_and_get_them(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "gofer.db"))
    connection.execute(load_migrations("sqlite")[0])
    connection.execute("PRAGMA application_id = 0x474F4652; PRAGMA user_version = 1")
    insert_job = (
        "INSERT INTO jobs (id, type, queue, priority, payload, max_attempts, timeout, created_at, run_at)"
        " VALUES (?, 'echo', 'default', 0, 'null', 5, 60, 0, 0)"
    )
    one, other = "01a20c2a-c6f9-72bc-969e-ad5505ad248e", "01a20c2a-c70f-79d7-8183-2347f836eb1c"
    connection.executemany(insert_job, [(one,), (other,)])
    insert_line = "INSERT INTO log_lines (job, attempt, time, level, message) VALUES (?, ?, ?, 'info', ?)"
    connection.executemany(insert_line, [(1, 1, 0, "a"), (2, 1, 1, "b"), (1, 1, 2, "c"), (1, 2, 3, "d")])
    connection.close()

    store = open_sqlite(tmp_path / "gofer.db")
    lines = store.list_log(one)
    assert [(line.number, line.attempt, line.message) for line in lines] == [(1, 1, "a"), (2, 1, "c"), (3, 2, "d")]
    assert [(line.number, line.message) for line in store.list_log(other)] == [(1, "b")]
    store.close()


def test_a_file_of_the_first_version_keeps_its_jobs(tmp_path: Path) -> None:
    job_id = "01a20c2a-c6f9-72bc-969e-ad5505ad248e"
    connection = apsw.Connection(str(tmp_path / "gofer.db"))
    connection.execute(load_migrations("sqlite")[0])
    connection.pragma("application_id", 0x474F4652)
    connection.pragma("user_version", 1)
    connection.execute(
        "INSERT INTO jobs (id, type, queue, priority, payload, max_attempts, timeout, created_at, run_at,"
        " idempotency_key) VALUES (?, 'echo', 'default', 0, '1', 5, 60, 0, 0, 'key')",
        (job_id,),
    )
    connection.close()
    store = open_sqlite(tmp_path / "gofer.db")
    job = store.get_job(job_id)
    assert (bytes(job.payload), job.traceparent, job.submitted_by) == (b"1", None, None)
    assert store.create_jobs([new_job(idempotency_key="key")])[0].replayed
    store.close()


def test_a_file_of_before_tells_instants_that_were_given_from_others(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "gofer.db"))
    for script in load_migrations("sqlite")[:4]:
        connection.execute(script)
    connection.execute("PRAGMA application_id = 0x474F4652; PRAGMA user_version = 4")
    insert_job = (
        "INSERT INTO jobs (id, type, queue, priority, payload, max_attempts, timeout, created_at, started_at,"
        " run_at, attempt, status) VALUES (?, 'echo', 'default', 0, '1', 5, 60, 10, 11, ?, ?, ?)"
    )
    at_once, later, retry, running = (f"01a20c2a-c6f9-72bc-969e-ad5505ad248{digit}" for digit in "abcd")
    jobs = [(at_once, 10, 0, "pending"), (later, 11, 0, "pending"), (retry, 11, 1, "pending")]
    connection.executemany(insert_job, [*jobs, (running, 11, 1, "processing")])
    connection.close()

    store = open_sqlite(tmp_path / "gofer.db")
    assert [job_id for job_id in (at_once, later, retry) if store.get_job(job_id).run_at_given] == [later]
    store.finish_job(running, 1, INTERRUPTED)
    assert not store.get_job(running).run_at_given
    store.close()


def test_every_query_fits_the_schema(tmp_path: Path) -> None:
    open_sqlite(tmp_path / "gofer.db").close()
    connection = apsw.Connection(str(tmp_path / "gofer.db"))
    for sql in load_queries("sqlite").values():
        nothing = dict.fromkeys(re.findall(r":(\w+)", sql)) or [None] * sql.count("?")
        connection.execute("EXPLAIN " + sql, nothing).fetchall() if "?1" not in sql else None
    connection.close()


def test_the_queries_that_give_jobs_name_the_same_columns() -> None:
    """One function reads all of these rows. Behind them stands the job's number, under different names."""
    queries = load_queries("sqlite")
    names = ("get_job", "list_jobs", "list_jobs_by_kind", "list_jobs_by_tag", "processing_jobs", "claim_job")
    found = [re.findall(r"\n    id, (type, queue, status, [^;]*?), \w+(?:\nFROM|$)", queries[name]) for name in names]
    assert all(len(lists) == 1 for lists in found)
    assert len({lists[0] for lists in found}) == 1


def test_a_link_to_the_file_is_the_file(tmp_path: Path) -> None:
    tmp_path.joinpath("real").mkdir()
    link = tmp_path / "gofer.db"
    link.symlink_to(tmp_path / "real" / "jobs.db")
    store = open_sqlite(link)
    create(store)
    with pytest.raises(StoreInUse):
        open_sqlite(tmp_path / "real" / "jobs.db")
    store.close()
    assert {path.name for path in tmp_path.joinpath("real").iterdir()} == {"jobs.db", "jobs.db.lock"}


@pytest.mark.parametrize("name", [":memory:", "file:x.db?mode=memory", "a b%20c.db"])
def test_a_name_that_sqlite_knows_otherwise_is_a_file_all_the_same(tmp_path: Path, name: str) -> None:
    open_sqlite(tmp_path / name).close()
    assert (tmp_path / name).is_file()


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotOpenStore, match="name too long"):
        open_sqlite(tmp_path / ("x" * 5000))


def second_owner(path: Path) -> str:
    """What another process is told that tries to open the store."""
    script = (
        "import random, sys; from pathlib import Path; from store.sqlite import SqliteStore;"
        "from store.clock import SystemClock; SqliteStore(Path(sys.argv[1]), SystemClock(), random.Random())"
    )
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_whoever_deletes_the_lock_file_is_refused_all_the_same(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "gofer.db")
    tmp_path.joinpath("gofer.db.lock").unlink()
    assert "StoreInUse" in second_owner(tmp_path / "gofer.db")
    store.close()


def test_whoever_comes_through_a_hard_link_is_refused(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "gofer.db")
    tmp_path.joinpath("other.db").hardlink_to(tmp_path / "gofer.db")
    assert "StoreInUse" in second_owner(tmp_path / "other.db")
    store.close()


@pytest.mark.parametrize("name", ["gofer.db", "gofer.db-wal", "gofer.db-shm"])
def test_a_file_that_is_deleted_underneath_fails_the_store(tmp_path: Path, name: str) -> None:
    store = open_sqlite(tmp_path / "gofer.db")
    store.maintain()
    tmp_path.joinpath(name).unlink()
    with pytest.raises(OutcomeUnknown, match=f"{name} was deleted or replaced while it was in use"):
        store.maintain()
    with pytest.raises(StoreUnavailable, match="nothing is written any more"):
        create(store)
    store.close()


def test_the_end_of_a_store_says_that_its_database_is_gone(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "gofer.db")
    create(store)
    tmp_path.joinpath("gofer.db").unlink()
    with pytest.raises(OutcomeUnknown, match="deleted or replaced"):
        store.close()


@pytest.mark.parametrize("name", ["gofer.db", "gofer.db-wal"])
def test_nobody_hears_that_a_write_to_a_file_that_was_emptied_holds(tmp_path: Path, name: str) -> None:
    """As ``: > gofer.db`` would, or a program that rotates logs."""
    store = open_sqlite(tmp_path / "gofer.db")
    create(store)
    os.truncate(tmp_path / name, 0)
    with pytest.raises(OutcomeUnknown, match="emptied"):
        create(store)
    store.close()


def test_a_log_that_a_checkpoint_has_emptied_is_none_that_is_lost(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "gofer.db")
    for _ in range(3):
        create(store)
        assert ask(tmp_path / "gofer.db", "PRAGMA wal_checkpoint(TRUNCATE)") == "0 0 0"
        assert tmp_path.joinpath("gofer.db-wal").stat().st_size == 0
        store.flush()
        store.maintain()
    store.close()


@pytest.mark.parametrize("is_empty", [False, True])
def test_a_log_without_its_database_is_not_deleted(tmp_path: Path, *, is_empty: bool) -> None:
    """SQLite would, so whoever had moved the database away for a moment would have lost what the log held."""
    alone = tmp_path / "alone"
    alone.mkdir()
    store = open_sqlite(tmp_path / "gofer.db")
    create(store)
    log = alone.joinpath("gofer.db-wal")
    log.write_bytes(tmp_path.joinpath("gofer.db-wal").read_bytes())
    store.close()
    if is_empty:
        alone.joinpath("gofer.db").touch()
    before = log.read_bytes()
    with pytest.raises(CannotOpenStore, match=r"gofer\.db-wal beside it holds what was written to another one"):
        open_sqlite(alone / "gofer.db")
    assert log.read_bytes() == before


@pytest.mark.parametrize("name", ["gofer.db", "gofer.db-wal", "gofer.db-shm"])
def test_nobody_hears_that_a_write_to_a_file_that_was_deleted_holds(tmp_path: Path, name: str) -> None:
    store = open_sqlite(tmp_path / "gofer.db")
    create(store)
    tmp_path.joinpath(name).unlink()
    with pytest.raises(OutcomeUnknown, match=f"unknown whether that holds: .*{name} was deleted or replaced"):
        create(store)
    with pytest.raises(OutcomeUnknown, match="deleted or replaced"):
        store.maintain()
    store.close()
