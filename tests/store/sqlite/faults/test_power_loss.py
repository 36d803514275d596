"""Promise 1 when the power fails: what was acknowledged, or could be read, is there."""

import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from store.errors import OutcomeUnknown
from store.sqlite import SqliteStore
from tests.fake_clock import FakeClock
from tests.store.samples import all_jobs, create
from tests.store.sqlite.faults.crowd import Crowd, cut_somewhere
from tests.store.sqlite.faults.cuts import Judge, cut_everywhere, record
from tests.store.sqlite.faults.power import EVERYTHING, Remains
from tests.store.sqlite.faults.recorder import Event, Recorder
from tests.store.sqlite.faults.whole import look_into

#: Events from one cut to the next, besides those after each answer; ``python -m tests.soak power`` cuts after each.
_EVERY = 12


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    return Judge(tmp_path_factory.mktemp("judge") / "image")


def test_after_a_power_cut_at_any_moment_the_store_is_as_it_was_told_to_be(tmp_path: Path, judge: Judge) -> None:
    events = record(tmp_path, Recorder())

    complaints = list(cut_everywhere(events, judge, seed=1, every=_EVERY))

    assert [complaint for complaint in complaints if complaint] == []
    assert len(complaints) > 500


def test_what_one_of_many_threads_was_told_or_saw_survives_a_power_cut(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, Recorder(), seed=1)
    events = crowd.work(submissions=40)

    complaints = list(cut_somewhere(events, tmp_path / "image", seed=1, cuts=100))

    assert crowd.errors == []
    assert [complaint for complaint in complaints if complaint] == []


def killed(store: SqliteStore) -> None:
    """Close the files, and leave them as the death of the process does."""
    for connection in (store._database.writer, store._database.checkpointer):
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    store.close()


def test_what_is_stored_after_a_failed_sync_and_a_restart_survives_a_power_cut(tmp_path: Path) -> None:
    """What the sync could not write can still be read, as long as the machine runs, but is not on the disk."""
    recorder = Recorder()

    def start() -> SqliteStore:
        clock, rng = FakeClock(), random.Random(1)
        path = tmp_path / "gofer.db"
        return SqliteStore(path, clock, rng, recorder.fdatasync, fsync=recorder.fsync, vfs=recorder.name)

    store = start()
    before = create(store)
    recorder.fails = True
    with pytest.raises(OutcomeUnknown):
        create(store)
    killed(store)
    recorder.fails = False
    store = start()
    seen = all_jobs(store)
    after = create(store)
    killed(store)

    with closing(store_after_cut(recorder.events, tmp_path / "image")) as store:
        found = all_jobs(store)
    assert {job.id for job in (before, *seen, after)} == {job.id for job in found}


def store_after_cut(events: list[Event], directory: Path) -> SqliteStore:
    """What starts after a power cut that loses all that was not synced."""
    remains = Remains()
    for event in events:
        remains.take(event)
    directory.mkdir()
    for name, content in remains.after_cut(EVERYTHING, random.Random(1)).items():
        (directory / name).write_bytes(content)
    return look_into(directory / "gofer.db", FakeClock())


def no_wait(_: int) -> None:
    """A sync that is skipped."""


def turn_off(store: SqliteStore) -> None:
    """Have SQLite sync nothing."""
    for connection in (store._database.writer, store._database.checkpointer):
        connection.pragma("synchronous", "off")


def answer_at_once(store: SqliteStore) -> None:
    """Have nobody wait for the disk."""
    store._durability.sync_what_was_read = lambda: None  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("meddle", "disk"),
    [(turn_off, {}), (answer_at_once, {}), (lambda _: None, {"fdatasync": no_wait})],
    ids=["synchronous is off", "nobody waits", "the store's own sync is skipped"],
)
def test_a_store_that_does_not_sync_is_found_out(
    tmp_path: Path, judge: Judge, meddle: Callable[[SqliteStore], None], disk: dict[str, object]
) -> None:
    """So the tests above are known to bite."""
    events = record(tmp_path, Recorder(), meddle, **disk)

    assert any(cut_everywhere(events, judge, seed=1, every=_EVERY))


def test_a_disk_that_says_it_has_synced_and_has_not_is_found_out(tmp_path: Path, judge: Judge) -> None:
    events = record(tmp_path, Recorder(lies=True))

    assert any(cut_everywhere(events, judge, seed=1, every=_EVERY))
