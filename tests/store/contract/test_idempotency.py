"""Submitting twice with one key stores one job."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from store.errors import IdempotencyConflict
from store.job import JobStatus, NewJob
from store.protocol import JobStore
from tests.fake_clock import START
from tests.store.race import race
from tests.store.samples import OURS, all_jobs, claim, create, create_in, finish, new_job


def keyed(key: str = "key", fingerprint: bytes | None = b"same", **fields: object) -> NewJob:
    """A submission with an idempotency key."""
    return new_job(idempotency_key=key, fingerprint=fingerprint, **fields)


def test_the_second_submission_returns_the_first_job(store: JobStore) -> None:
    (first,) = store.create_jobs([keyed()])
    (second,) = store.create_jobs([keyed()])
    assert (first.replayed, second.replayed) == (False, True)
    assert second.job == first.job
    assert len(all_jobs(store)) == 1


def test_a_replay_shows_the_job_as_it_is_now(store: JobStore) -> None:
    (first,) = store.create_jobs([keyed()])
    done = finish(store, claim(store, first.job))
    (second,) = store.create_jobs([keyed()])
    assert second.job == done
    assert second.job.status is JobStatus.COMPLETED


def test_another_submission_with_the_same_key_is_a_conflict(store: JobStore) -> None:
    store.create_jobs([keyed(fingerprint=b"one")])
    with pytest.raises(IdempotencyConflict):
        store.create_jobs([keyed(fingerprint=b"two")])
    assert len(all_jobs(store)) == 1


def test_other_keys_are_other_jobs(store: JobStore) -> None:
    created = store.create_jobs([keyed("a"), keyed("A"), keyed("a "), keyed("a#0"), new_job(), new_job()])
    assert len({c.job.id for c in created}) == 6
    assert not any(c.replayed for c in created)


def test_a_key_without_fingerprint_replays_without_fingerprint(store: JobStore) -> None:
    store.create_jobs([keyed(fingerprint=None)])
    assert store.create_jobs([keyed(fingerprint=None)])[0].replayed
    with pytest.raises(IdempotencyConflict):
        store.create_jobs([keyed(fingerprint=b"x")])


def test_the_same_key_twice_in_one_call_is_a_replay(store: JobStore) -> None:
    first, other, second = store.create_jobs([keyed(), new_job(), keyed()])
    assert (first.replayed, other.replayed, second.replayed) == (False, False, True)
    assert second.job.id == first.job.id
    assert len(all_jobs(store)) == 2


@pytest.mark.parametrize("known", [True, False])
def test_a_conflict_stores_nothing_of_its_call(store: JobStore, known: bool) -> None:
    if known:
        store.create_jobs([keyed(fingerprint=b"one")])
    before = all_jobs(store)
    with pytest.raises(IdempotencyConflict):
        store.create_jobs([new_job(), keyed("fresh"), keyed(fingerprint=b"one"), keyed(fingerprint=b"two"), new_job()])
    assert all_jobs(store) == before
    assert store.count_jobs()[JobStatus.PENDING] == len(before)
    assert not store.create_jobs([keyed("fresh", b"anything")])[0].replayed


def test_a_conflict_reserves_nothing(store: JobStore) -> None:
    create(store, idempotency_key="key", fingerprint=b"one")
    with pytest.raises(IdempotencyConflict):
        store.create_jobs([new_job(), keyed(fingerprint=b"two")], reserve=OURS)
    assert len(store.reserve_jobs("default", 10, OURS).jobs) == 1


def test_a_replay_does_not_reserve_the_first_job(store: JobStore) -> None:
    (first,) = store.create_jobs([keyed()])
    store.create_jobs([keyed()], reserve=OURS)
    assert store.renew_leases([first.job.id], OURS) == {first.job.id}


def test_a_deleted_job_takes_its_key_along(store: JobStore) -> None:
    job = create_in(store, JobStatus.COMPLETED, idempotency_key="key", fingerprint=b"one")
    store.delete_job(job.id)
    (again,) = store.create_jobs([keyed(fingerprint=b"two")])
    assert not again.replayed
    assert again.job.id != job.id


def test_retention_takes_the_keys_along(store: JobStore) -> None:
    create_in(store, JobStatus.COMPLETED, idempotency_key="key", fingerprint=b"one")
    store.delete_finished(JobStatus.COMPLETED, START + timedelta(seconds=1), 10)
    assert not store.create_jobs([keyed(fingerprint=b"two")])[0].replayed


def test_twenty_threads_with_one_key_store_one_job(store: JobStore) -> None:
    answers = race([partial(store.create_jobs, [keyed()])] * 20)
    assert len({created.job.id for (created,) in answers}) == 1
    assert sorted(created.replayed for (created,) in answers) == [False] + [True] * 19
    assert len(all_jobs(store)) == 1


def test_a_key_is_known_after_a_restart(store: JobStore, reopen: Callable[[], JobStore]) -> None:
    (first,) = store.create_jobs([keyed()])
    store = reopen()
    (second,) = store.create_jobs([keyed()])
    assert second.replayed
    assert second.job == first.job
