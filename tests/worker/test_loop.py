"""The loop takes its turns when it should, survives failing ones, and ends at once."""

import logging
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from store.errors import StoreFull, StoreUnavailable
from tests.eventually import eventually
from worker import loop as loop_module
from worker.loop import Loop


@pytest.fixture(autouse=True)
def short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "_FIRST_REST", 0.01)
    monkeypatch.setattr(loop_module, "_LONGEST_REST", 0.02)


def ended(loop: Loop) -> None:
    loop.stop()
    assert loop.join(5)


def test_it_takes_a_turn_at_the_start_and_then_waits_to_be_woken() -> None:
    turns = threading.Semaphore(0)
    loop = Loop("gofer-test", turns.release)
    loop.start()
    assert turns.acquire(timeout=5)
    assert not turns.acquire(timeout=0.03)
    loop.wake()
    assert turns.acquire(timeout=5)
    ended(loop)


def test_it_takes_the_next_turn_when_the_time_has_come() -> None:
    turns = threading.Semaphore(0)

    def turn() -> float:
        turns.release()
        return 0.001

    loop = Loop("gofer-test", turn)
    loop.start()
    for _ in range(5):
        assert turns.acquire(timeout=5)
    ended(loop)


def test_a_wake_during_a_turn_leads_to_another_turn() -> None:
    began, go_on, turns = threading.Semaphore(0), threading.Semaphore(0), []

    def turn() -> None:
        turns.append(1)
        began.release()
        assert go_on.acquire(timeout=5)

    loop = Loop("gofer-test", turn)
    loop.start()
    assert began.acquire(timeout=5)
    loop.wake()
    go_on.release()
    assert began.acquire(timeout=5)
    go_on.release()
    ended(loop)
    assert len(turns) == 2


def test_no_wake_is_lost_however_it_falls_between_turns() -> None:
    """What was done before a wake is seen by a turn that begins after it, thousands of times."""
    done, seen = 0, threading.Semaphore(0)
    last_seen = -1

    def turn() -> None:
        nonlocal last_seen
        if done != last_seen:
            last_seen = done
            seen.release()

    loop = Loop("gofer-test", turn)
    loop.start()
    assert seen.acquire(timeout=5)
    for done in range(1, 3000):  # noqa: B007 - read by the turn
        loop.wake()
        assert seen.acquire(timeout=5)
    ended(loop)


def test_many_wakes_before_a_turn_are_one() -> None:
    turns: list[int] = []
    loop = Loop("gofer-test", lambda: turns.append(1))
    for _ in range(100):
        loop.wake()
    loop.start()
    eventually(lambda: turns)
    time.sleep(0.02)  # Nothing more is to come, so there is nothing to wait for but time.
    ended(loop)
    assert len(turns) == 1


def test_rest_lies_between_two_turns_whoever_wakes_it() -> None:
    at: list[float] = []

    def turn() -> None:
        at.append(time.monotonic())
        loop.wake()

    loop = Loop("gofer-test", turn, rest=0.02)
    loop.start()
    eventually(lambda: len(at) >= 4)
    ended(loop)
    assert all(later - earlier >= 0.019 for earlier, later in pairwise(at))


def test_a_stop_ends_a_rest_at_once() -> None:
    turned = threading.Event()
    loop = Loop("gofer-test", turned.set, rest=60)
    loop.start()
    assert turned.wait(5)
    ended(loop)


def test_a_turn_that_raises_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    turns = threading.Semaphore(0)

    def turn() -> None:
        turns.release()
        raise SystemExit("boom")

    loop = Loop("gofer-test", turn)
    loop.start()
    for _ in range(3):
        assert turns.acquire(timeout=5)
    assert loop.failure == "gofer-test: SystemExit: boom"
    ended(loop)
    assert "a turn failed" in caplog.text


def test_an_outage_of_the_store_is_told_in_the_words_of_everybody_who_meets_it() -> None:
    def turn() -> None:
        raise StoreFull

    loop = Loop("gofer-test", turn)
    loop.start()
    eventually(lambda: loop.failure)
    assert loop.failure == "the store does not work: The disk that holds the store is full; nothing was stored"
    ended(loop)


def test_the_failure_is_gone_after_a_good_turn() -> None:
    errors = [ValueError("boom")]

    def turn() -> None:
        if errors:
            raise errors.pop()

    loop = Loop("gofer-test", turn)
    loop.start()
    eventually(lambda: not errors and loop.failure is None)
    ended(loop)


def test_wakes_do_not_cut_the_rest_after_a_failure_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "_FIRST_REST", 60.0)
    monkeypatch.setattr(loop_module, "_LONGEST_REST", 60.0)
    turns: list[int] = []
    failed = threading.Event()

    def turn() -> None:
        turns.append(1)
        failed.set()
        raise ValueError("boom")

    loop = Loop("gofer-test", turn)
    loop.start()
    assert failed.wait(5)
    for _ in range(100):
        loop.wake()
        time.sleep(0.0001)  # Let the loop run, if it is so minded.
    ended(loop)
    assert len(turns) == 1


def test_an_outage_of_the_store_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    turns: list[int] = []

    def turn() -> None:
        turns.append(1)
        raise StoreUnavailable("the disk is on fire")

    loop = Loop("gofer-test", turn)
    loop.start()
    eventually(lambda: len(turns) >= 4)
    ended(loop)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info is None


def test_each_failed_turn_is_told_with_its_error() -> None:
    told: list[BaseException] = []
    error = StoreUnavailable("the disk is on fire")

    def turn() -> None:
        raise error

    loop = Loop("gofer-test", turn)
    loop.on_failure = told.append
    loop.start()
    eventually(lambda: len(told) >= 3)
    ended(loop)
    assert set(told) == {error}


ORDERS: list[list[Callable[[Loop], object]]] = [
    [Loop.stop, Loop.start],
    [Loop.stop, Loop.stop, Loop.start, Loop.start],
    [Loop.start, Loop.start, Loop.stop, Loop.stop],
    [Loop.wake, Loop.start, Loop.stop, Loop.wake],
    [Loop.join, Loop.start, Loop.stop],
    [Loop.join, Loop.stop, Loop.join],
    [Loop.start, Loop.stop, Loop.start],
]


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_of_calls_ends_well(order: list[Callable[[Loop], object]]) -> None:
    loop = Loop("gofer-test", lambda: 0.001)
    for call in order:
        call(loop)
    assert loop.join(5)


def test_a_stop_before_the_start_is_not_lost() -> None:
    turns: list[int] = []
    loop = Loop("gofer-test", lambda: turns.append(1))
    loop.stop()
    loop.start()
    assert loop.join(5)
    assert not turns


def test_it_may_stop_and_join_itself() -> None:
    def turn() -> None:
        loop.stop()
        assert not loop.join(5)

    loop = Loop("gofer-test", turn)
    loop.start()
    assert loop.join(5)
    assert loop.failure is None
