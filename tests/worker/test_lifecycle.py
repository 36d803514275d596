"""Everything that has a thread of its own starts and stops well, in any order, under stress."""

import random
from collections.abc import Callable

import pytest

from tests.store.race import race
from tests.worker.harness import Harness, NewHarness
from worker.loop import Loop

#: The loops of an engine, by the name of their thread.
NAMES = [
    "gofer-children",
    "gofer-dispatcher",
    "gofer-maintainer",
    "gofer-quarantine",
    "gofer-reaper",
    "gofer-recorder",
    "gofer-retention",
    "gofer-self-check",
    "gofer-syncer",
    "gofer-watchdog",
]


def loop_of(made: Harness, name: str) -> Loop:
    loops = {loop.name: loop for loop in made.engine._parts.loops}
    assert sorted(loops) == NAMES
    return loops[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_stop_before_the_start_is_not_lost(new_harness: NewHarness, name: str) -> None:
    loop = loop_of(new_harness(), name)
    loop.stop()
    loop.start()
    assert loop.join(0)


@pytest.mark.parametrize("name", NAMES)
def test_calls_that_race_end_well(new_harness: NewHarness, name: str) -> None:
    rng = random.Random(name)
    for _ in range(10):
        loop = loop_of(new_harness(), name)
        calls: list[Callable[[], object]] = [loop.start, loop.start, loop.wake, loop.stop, loop.join]
        rng.shuffle(calls)
        race(calls)
        loop.start()
        assert loop.join(5)
        assert loop.failure is None


@pytest.mark.parametrize("name", NAMES)
def test_an_idle_one_ends_at_once_when_it_is_told(new_harness: NewHarness, name: str) -> None:
    loop = loop_of(new_harness(), name)
    loop.start()
    loop.stop()
    assert loop.join(1)
