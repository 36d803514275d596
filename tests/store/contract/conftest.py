"""What every contract test is given: a store of each kind, its clock, and ways to start it again."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.protocol import JobStore
from tests.fake_clock import FakeClock
from tests.store.every_store import EVERY_STORE, PERSISTENT

#: How many lines a job's log keeps in these tests: few, so that they meet the end of it.
LOG_LINES = 20


class Starter:
    """Starts one kind of store, and starts it again as a new process would."""

    def __init__(self, kind: str, directory: Path, clock: FakeClock) -> None:
        self.persists = kind in PERSISTENT
        self._kind = kind
        self._directory = directory
        self._clock = clock
        self._starts = 0
        self.store = self._open()

    def _open(self) -> JobStore:
        self._starts += 1
        rng = random.Random(self._starts)
        return EVERY_STORE[self._kind](self._directory, self._clock, rng, log_lines=LOG_LINES)

    def reopen(self) -> JobStore:
        """Close the store and open it again."""
        self.store.close()
        self.store = self._open()
        return self.store


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=EVERY_STORE)
def starter(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Starter]:
    starter = Starter(request.param, tmp_path, clock)
    yield starter
    starter.store.close()


@pytest.fixture
def store(starter: Starter) -> JobStore:
    """A store with nothing in it."""
    return starter.store


@pytest.fixture
def reopen(starter: Starter) -> Callable[[], JobStore]:
    """Closes ``store`` and opens it again; only for stores that keep their jobs meanwhile."""
    if not starter.persists:
        pytest.skip("this store keeps nothing when it is closed, and does not promise to")
    return starter.reopen


@pytest.fixture
def restart(starter: Starter) -> Callable[[], JobStore]:
    """What ``recover`` is called on next: the store opened again, or as it is if it would lose its jobs."""
    return starter.reopen if starter.persists else lambda: starter.store
