"""Engines that end with their test."""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from store.clock import SystemClock
from store.memory import MemoryStore
from tests.worker.faulty_store import FaultyStore
from tests.worker.harness import Harness, NewHarness
from worker import executor, loop, watchdog


@pytest.fixture
def new_harness() -> Iterator[NewHarness]:
    """Set up engines; each is stopped when the test ends."""
    with ExitStack() as ends:

        def set_up(store: Any = None, **settings: Any) -> Harness:
            made = Harness(store, **settings)
            ends.callback(made.end)
            return made

        yield set_up


@pytest.fixture
def faulty() -> FaultyStore:
    """A store that works until the test says otherwise."""
    return FaultyStore(MemoryStore(SystemClock(), random.Random(1)))


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong is tried again soon."""
    monkeypatch.setattr(executor, "_FIRST_WAIT", 0.005)
    monkeypatch.setattr(executor, "_LONGEST_WAIT", 0.01)
    monkeypatch.setattr(loop, "_FIRST_REST", 0.005)
    monkeypatch.setattr(loop, "_LONGEST_REST", 0.01)
    monkeypatch.setattr(watchdog, "_RETRY", 0.01)
