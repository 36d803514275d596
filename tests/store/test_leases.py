"""The book of leases."""

import pytest

from store.leases import Lease, LeaseBook
from tests.fake_clock import FakeClock
from tests.store.samples import OURS, THEIRS


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def book(clock: FakeClock) -> LeaseBook:
    """A book in which we hold "ours" and others hold "theirs"."""
    book = LeaseBook(clock.monotonic)
    book.grant("ours", OURS)
    book.grant("theirs", THEIRS)
    return book


@pytest.mark.parametrize(
    ("job_id", "owner", "free"),
    [
        ("ours", None, False),
        ("ours", OURS.owner, True),
        ("ours", THEIRS.owner, False),
        ("theirs", OURS.owner, False),
        ("nobody's", None, True),
        ("nobody's", OURS.owner, True),
    ],
)
def test_a_job_is_free_unless_somebody_else_holds_it(book: LeaseBook, job_id: str, owner: str, free: bool) -> None:
    assert book.is_free(job_id, owner) is free


@pytest.mark.parametrize(("seconds", "free"), [(29.999, False), (30.0, True), (1000.0, True)])
def test_a_job_is_free_once_the_lease_ran_out(book: LeaseBook, clock: FakeClock, seconds: float, free: bool) -> None:
    clock.advance(seconds)
    assert book.is_free("ours") is free
    assert book.expired() == (["ours", "theirs"] if free else [])


@pytest.mark.parametrize("jump", [10**9, -(10**9)])
def test_the_wall_clock_does_not_matter(book: LeaseBook, clock: FakeClock, jump: float) -> None:
    clock.jump(jump)
    assert book.expired() == []
    assert not book.is_free("ours")


def test_renewing_prolongs_what_is_held_and_tells_what_is_not(book: LeaseBook, clock: FakeClock) -> None:
    clock.advance(20)
    assert book.renew(["ours", "theirs", "nobody's"], OURS) == {"theirs", "nobody's"}
    clock.advance(20)
    assert book.expired() == ["theirs"]


def test_a_lease_that_ran_out_is_renewed_while_nobody_took_it(book: LeaseBook, clock: FakeClock) -> None:
    clock.advance(31)
    assert book.renew(["ours"], OURS) == set()
    assert not book.is_free("ours", THEIRS.owner)


def test_a_renewal_may_be_of_another_length(book: LeaseBook, clock: FakeClock) -> None:
    book.renew(["ours"], Lease(OURS.owner, 5))
    clock.advance(5)
    assert book.expired() == ["ours"]


def test_granting_again_changes_the_owner(book: LeaseBook) -> None:
    book.grant("ours", THEIRS)
    assert book.is_free("ours", THEIRS.owner)
    assert book.renew(["ours"], OURS) == {"ours"}
    assert len(book) == 2


def test_a_dropped_lease_is_nobodys(book: LeaseBook) -> None:
    book.drop("ours")
    book.drop("never held")
    assert book.is_free("ours")
    assert len(book) == 1


def test_an_owner_drops_its_own_leases_only(book: LeaseBook) -> None:
    book.drop_owned(["ours", "theirs", "nobody's"], OURS.owner)
    assert book.is_free("ours")
    assert not book.is_free("theirs")


def test_a_book_is_put_back_as_it_was_copied(book: LeaseBook) -> None:
    before = book.copy()
    book.drop("ours")
    book.grant("new", OURS)
    book.restore(before)
    assert not book.is_free("ours")
    assert book.is_free("new")
