"""The machine's clocks, and noticing that the wall clock was set."""

import time
from datetime import timedelta

import pytest

from store.clock import SystemClock
from store.wall_clock import WallClock
from tests.fake_clock import FakeClock


def test_two_readings_of_the_machine_agree_on_when_it_was_started() -> None:
    clock = SystemClock()
    first, second = clock.read(), clock.read()
    assert abs(second.booted_at - first.booted_at) < timedelta(seconds=0.1)
    assert abs(clock.now() - second.now) < timedelta(seconds=5)


def test_a_reading_that_was_held_up_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped between two looks is no clock that was set."""
    looks = iter([100.0, 700.0, 700.0, 700.001])
    monkeypatch.setattr(time, "clock_gettime", lambda _: next(looks))
    reading = SystemClock().read()
    assert reading.now - reading.booted_at == timedelta(seconds=700.001)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no clock here counts what the machine slept through")
def test_a_suspension_of_the_machine_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock has gone on meanwhile, and so has one of those that nobody can set."""
    machine = FakeClock()
    monkeypatch.setattr(SystemClock, "now", lambda _: machine.now())
    shown = {time.CLOCK_BOOTTIME: 100.0, time.CLOCK_MONOTONIC: 100.0}
    monkeypatch.setattr(time, "clock_gettime", shown.__getitem__)
    before = SystemClock().read()
    machine.jump(3600)
    shown[time.CLOCK_BOOTTIME] += 3600
    after = SystemClock().read()
    assert after.now - before.now == timedelta(hours=1)
    assert after.booted_at == before.booted_at


def test_time_that_passes_sets_nothing() -> None:
    clock = FakeClock()
    wall_clock = WallClock(clock)
    clock.advance(3600)
    moment = wall_clock.look()
    assert (moment.now, moment.setting) == (clock.now(), 0)


def test_what_the_clock_was_set_by_adds_up() -> None:
    clock = FakeClock()
    wall_clock = WallClock(clock, setting=500)
    settings = []
    for seconds in (3600, -1800.5, 0, 2):
        clock.jump(seconds)
        settings.append(wall_clock.look().setting)
    assert settings == [3_600_000_500, 1_799_500_500, 1_799_500_500, 1_801_500_500]


def test_small_corrections_never_count() -> None:
    clock = FakeClock()
    wall_clock = WallClock(clock)
    for _ in range(100):
        clock.jump(-1)
        assert wall_clock.look().setting == 0
