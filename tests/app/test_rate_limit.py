"""How often a client may fail."""

import pytest

from app.rate_limit import FailureLimit, client_of
from tests.fake_clock import FakeClock
from tests.store.race import race


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limit(clock: FakeClock) -> FailureLimit:
    return FailureLimit(clock)


def allowed(limit: FailureLimit, address: str = "192.0.2.1") -> int:
    """How many failures are allowed now."""
    count = 0
    while limit.count(address) is None:
        count += 1
    return count


def test_ten_failures_at_once_and_then_one_every_six_seconds(limit: FailureLimit, clock: FakeClock) -> None:
    assert allowed(limit) == 10
    clock.advance(5.5)
    assert allowed(limit) == 0
    clock.advance(0.5)
    assert allowed(limit) == 1
    clock.advance(18)
    assert allowed(limit) == 3
    clock.advance(3600)
    assert allowed(limit) == 10


def test_a_refusal_says_when_the_next_attempt_counts(limit: FailureLimit, clock: FakeClock) -> None:
    allowed(limit)
    clock.advance(2)
    refusal = limit.count("192.0.2.1")

    assert refusal is not None
    assert (refusal.client, refusal.seconds) == ("192.0.2.1", 4.0)


def test_what_is_refused_puts_nothing_off(limit: FailureLimit, clock: FakeClock) -> None:
    allowed(limit)
    for _ in range(100):
        limit.count("192.0.2.1")
    clock.advance(6)
    assert allowed(limit) == 1


def test_the_first_refusal_of_a_row_is_told_from_the_others(limit: FailureLimit, clock: FakeClock) -> None:
    def refusals() -> list[bool]:
        return [refusal.is_first for refusal in [limit.count("192.0.2.1") for _ in range(13)] if refusal]

    assert refusals() == [True, False, False]
    clock.advance(6)
    assert not any(refusals())
    clock.advance(60)
    assert refusals() == [True, False, False]


def test_clients_do_not_count_for_each_other(limit: FailureLimit) -> None:
    assert allowed(limit, "192.0.2.1") == 10
    assert allowed(limit, "192.0.2.2") == 10


def test_a_jump_of_the_wall_clock_makes_no_difference(limit: FailureLimit, clock: FakeClock) -> None:
    allowed(limit)
    clock.jump(3600)
    assert allowed(limit) == 0
    clock.jump(-7200)
    clock.advance(6)
    assert allowed(limit) == 1


def test_at_most_10_000_clients_are_remembered_and_the_oldest_is_forgotten(limit: FailureLimit) -> None:
    allowed(limit, "192.0.2.1")
    allowed(limit, "192.0.2.2")
    for i in range(9_998):
        limit.count(f"10.0.{i >> 8}.{i & 255}")
    assert allowed(limit, "192.0.2.1") == 0
    limit.count("10.1.0.0")
    assert allowed(limit, "192.0.2.1") == 0
    assert allowed(limit, "192.0.2.2") == 10


def test_threads_do_not_get_more_out_of_it(limit: FailureLimit) -> None:
    refusals = race([lambda: limit.count("192.0.2.1")] * 20)

    assert sum(refusal is None for refusal in refusals) == 10


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("2002:c000:201:1::5", "192.0.2.1"),
        ("::1", "::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("x" * 5000, "x" * 100),
    ],
)
def test_a_client_is_an_address_or_a_network_of_ipv6(address: str, client: str) -> None:
    assert client_of(address) == client
