"""Promise 1 on a disk that fails: everybody is told the truth, and nothing is half done."""

import errno
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from store.errors import StoreUnavailable
from store.sqlite import writer
from tests.store.sqlite.faults.faults import Fault, every_fault
from tests.store.sqlite.faults.trial import try_fault

pytestmark = pytest.mark.soak

#: Faults of each kind of call; ``python -m tests.soak faults`` tries all.
_OF_EACH_KIND = 14


def some_of(faults: Sequence[Fault]) -> list[Fault]:
    rng = random.Random(5)
    kinds = sorted({fault.kind for fault in faults})
    of_each = [[fault for fault in faults if fault.kind == kind] for kind in kinds]
    return [fault for of_kind in of_each for fault in rng.sample(of_kind, min(_OF_EACH_KIND, len(of_kind)))]


def test_whatever_call_to_the_disk_fails_the_store_holds_what_was_acknowledged(tmp_path: Path) -> None:
    whole, broken = try_fault(None, tmp_path / "whole")
    assert broken == []

    struck = 0
    for number, fault in enumerate(some_of(every_fault(whole.counts))):
        faults, broken = try_fault(fault, tmp_path / str(number))
        assert broken == [], str(fault)
        struck += faults.failed > 0
    assert struck > 100


def test_a_file_that_sqlite_could_open_for_reading_only_is_refused(tmp_path: Path) -> None:
    """SQLite says nothing then; a checkpointer that cannot write would be noticed when the log has filled the disk."""
    opens = try_fault(None, tmp_path / "whole")[0].counts["open"]

    for number in range(1, opens + 1):
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
