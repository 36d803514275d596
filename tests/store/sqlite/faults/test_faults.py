"""Promise 1 on a disk that fails: everybody is told the truth, and nothing is half done."""

import errno
import random
from collections import Counter
from pathlib import Path

import pytest

from store.errors import StoreUnavailable
from store.sqlite import writer
from tests.store.sqlite.faults.faults import WAYS, Fault, every_fault
from tests.store.sqlite.faults.script import LONG_LOG
from tests.store.sqlite.faults.throng import try_throng
from tests.store.sqlite.faults.trial import try_fault

#: Faults of each kind of call; ``python -m tests.soak faults`` tries all.
_OF_EACH_KIND = 14


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How many calls of each kind the script makes on a disk that works."""
    whole, broken = try_fault(None, tmp_path_factory.mktemp("whole") / "store")
    assert broken == []
    assert set(whole.counts) == set(WAYS)
    return whole.counts


@pytest.mark.parametrize("kind", WAYS)
def test_whatever_call_to_the_disk_fails_the_store_holds_what_was_acknowledged(
    tmp_path: Path, counts: Counter[str], kind: str
) -> None:
    faults = [fault for fault in every_fault(counts) if fault.kind == kind]
    struck = 0

    for number, fault in enumerate(random.Random(5).sample(faults, min(_OF_EACH_KIND, len(faults)))):
        met, broken = try_fault(fault, tmp_path / str(number))
        assert broken == [], str(fault)
        struck += met.failed > 0

    assert struck > 0


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_whatever_call_fails_each_of_many_threads_was_told_the_truth(tmp_path: Path, first: int) -> None:
    struck = 0

    for seed in range(first, first + 10):
        fault, has_struck, broken = try_throng(tmp_path / str(seed), seed)
        assert broken == [], f"seed {seed}: {fault}"
        struck += has_struck

    assert struck > 0


def test_a_commit_that_is_in_the_log_but_not_in_its_index_is_unknown(tmp_path: Path) -> None:
    """Nobody sees it then, until the log is read at the next start."""
    maps = try_fault(None, tmp_path / "whole", LONG_LOG, pages=1_000)[0].counts["map"]

    for number in range(1, maps + 1):
        fault = Fault("map", number, errno.ENOMEM, lasting=False)
        _, broken = try_fault(fault, tmp_path / str(number), LONG_LOG, pages=1_000)
        assert broken == [], str(fault)


def test_a_file_that_sqlite_could_open_for_reading_only_is_refused(tmp_path: Path, counts: Counter[str]) -> None:
    """SQLite says nothing then; a checkpointer that cannot write would be noticed when the log has filled the disk."""
    for number in range(1, counts["open"] + 1):
        _, broken = try_fault(Fault("open", number, errno.EACCES, lasting=False), tmp_path / str(number))
        assert broken == []


def test_a_store_that_takes_a_failed_sync_for_nothing_stored_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above is known to bite."""
    monkeypatch.setattr(writer, "OutcomeUnknown", StoreUnavailable)
    faults = [Fault("sync", number, errno.EIO, lasting=False) for number in range(8, 20)]

    found = [try_fault(fault, tmp_path / str(fault.number))[1] for fault in faults]

    assert any("holds something else" in broken for complaints in found for broken in complaints)
