import random

import pytest

from store.job import Backoff
from worker import backoff

BACKOFF = Backoff(base=1.0, factor=2.0, cap=60.0)


def longest(failures: int, rule: Backoff = BACKOFF) -> float:
    """The longest of many delays."""
    rng = random.Random(7)
    return max(backoff.delay(rule, failures, rng) for _ in range(2000))


@pytest.mark.parametrize(("failures", "bound"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (1000, 60)])
def test_the_bound_grows_by_the_factor_up_to_the_cap(failures: int, bound: float) -> None:
    assert bound * 0.99 < longest(failures) <= bound


def test_the_jitter_is_full() -> None:
    rng = random.Random(7)
    delays = [backoff.delay(BACKOFF, 1, rng) for _ in range(2000)]
    assert min(delays) < 0.01
    assert 0.45 < sum(delays) / len(delays) < 0.55


def test_a_factor_of_one_keeps_the_bound() -> None:
    assert longest(500, Backoff(base=3, factor=1)) <= 3


def test_a_base_of_zero_never_waits_however_often_it_failed() -> None:
    assert longest(100_000, Backoff(base=0, factor=10)) == 0


def test_no_delay_is_longer_than_a_date_can_hold() -> None:
    assert longest(100_000, Backoff(base=1e300, factor=10, cap=1e308)) <= backoff.LONGEST_DELAY


def test_the_same_seed_gives_the_same_delays() -> None:
    assert backoff.delay(BACKOFF, 5, random.Random(3)) == backoff.delay(BACKOFF, 5, random.Random(3))
