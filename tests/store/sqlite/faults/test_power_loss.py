"""Promise 1 when the power fails: what was acknowledged, or could be read, is there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from store.sqlite import SqliteStore
from tests.store.sqlite.faults.crowd import Crowd, cut_somewhere
from tests.store.sqlite.faults.cuts import Judge, cut_everywhere, record
from tests.store.sqlite.faults.recorder import Recorder

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
