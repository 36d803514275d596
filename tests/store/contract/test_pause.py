"""Pausing a queue."""

from collections.abc import Callable

import pytest

from store.job import JobStatus
from store.protocol import JobStore
from tests.store.samples import OURS, claim, create, create_processing, finish


def test_a_queue_is_not_paused_unless_somebody_paused_it(store: JobStore) -> None:
    assert not store.is_paused("default")
    assert not store.is_paused("never heard of")


def test_a_paused_queue_is_paused_until_it_is_resumed(store: JobStore) -> None:
    store.pause_queue("mail")
    assert store.is_paused("mail")
    assert not store.is_paused("default")
    store.resume_queue("mail")
    assert not store.is_paused("mail")


def test_pausing_and_resuming_twice_is_doing_it_once(store: JobStore) -> None:
    store.pause_queue("mail")
    store.pause_queue("mail")
    store.resume_queue("mail")
    assert not store.is_paused("mail")
    store.resume_queue("mail")
    assert store.count_queues() == []


def test_a_paused_queue_takes_jobs_and_lets_running_ones_end(store: JobStore) -> None:
    running = create_processing(store)
    store.pause_queue("default")
    waiting = create(store)
    assert finish(store, running).status is JobStatus.COMPLETED
    assert store.claim_job(waiting.id, OURS) is None
    store.resume_queue("default")
    claim(store, waiting)


def test_a_pause_of_one_queue_leaves_the_others_running(store: JobStore) -> None:
    store.pause_queue("mail")
    job = create(store)
    assert [due.id for due in store.reserve_jobs("default", 1, OURS).jobs] == [job.id]


@pytest.mark.parametrize("steer", ["cancel_job", "get_job"])
def test_jobs_of_a_paused_queue_can_be_steered(store: JobStore, steer: str) -> None:
    job = create(store)
    store.pause_queue("default")
    assert getattr(store, steer)(job.id).id == job.id


def test_a_pause_survives_a_restart(store: JobStore, reopen: Callable[[], JobStore]) -> None:
    store.pause_queue("mail")
    store.pause_queue("default")
    store.resume_queue("default")
    store = reopen()
    assert store.is_paused("mail")
    assert not store.is_paused("default")
