"""Ids: UUID version 7, rising whatever the clock does."""

import random
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from store.ids import IdSource
from tests.fake_clock import START, FakeClock
from tests.store.race import race


def source(clock: FakeClock, seed: int = 1, last: str | None = None) -> IdSource:
    """An id source under the test's control."""
    return IdSource(clock.now, random.Random(seed), last)


def test_an_id_is_a_uuid_of_version_7_in_its_usual_form() -> None:
    ids = source(FakeClock())
    for _ in range(100):
        text = ids.next()
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


@pytest.mark.parametrize(
    "now",
    [
        START,
        datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
        datetime(2026, 1, 5, 10, 0, 0, 999_000, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    ],
)
def test_an_id_begins_with_the_milliseconds_since_1970(now: datetime) -> None:
    text = source(FakeClock(now)).next()
    assert int(text.replace("-", "")[:12], 16) == round(now.timestamp() * 1000)


def test_ids_rise_within_a_millisecond() -> None:
    clock = FakeClock()
    ids = source(clock)
    made = []
    for _ in range(5):
        made.append(ids.next())
        clock.advance(0.0003)
    assert made == sorted(set(made))


@pytest.mark.parametrize("jump", [0, -3600, -(10**9)])
def test_ids_rise_although_the_clock_stands_still_or_goes_back(jump: float) -> None:
    clock = FakeClock()
    ids = source(clock)
    before = [ids.next() for _ in range(10_000)]
    clock.jump(jump)
    after = [ids.next() for _ in range(10_000)]
    assert before + after == sorted(set(before + after))


def test_ids_go_on_after_the_last_one_of_an_earlier_start() -> None:
    clock = FakeClock()
    last = source(clock).next()
    clock.jump(-3600)
    ids = source(clock, seed=2, last=last)
    assert last < ids.next() < ids.next()


def test_two_starts_at_one_instant_make_different_ids() -> None:
    clock = FakeClock()
    assert source(clock, seed=1).next() != source(clock, seed=2).next()


def test_one_seed_makes_the_same_ids_again() -> None:
    first, second = source(FakeClock(), seed=7), source(FakeClock(), seed=7)
    assert [first.next() for _ in range(10)] == [second.next() for _ in range(10)]


def test_ids_follow_a_clock_that_runs() -> None:
    clock = FakeClock()
    ids = source(clock)
    ids.next()
    clock.advance(timedelta(days=1).total_seconds())
    text = ids.next()
    assert int(text.replace("-", "")[:12], 16) == round(clock.now().timestamp() * 1000)


def test_threads_never_get_the_same_id() -> None:
    ids = source(FakeClock())

    def take() -> list[str]:
        return [ids.next() for _ in range(500)]

    taken = race([take] * 8)
    assert all(each == sorted(each) for each in taken)
    assert len({text for each in taken for text in each}) == 4000
