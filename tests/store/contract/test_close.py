"""Closing, and what is still there when the store is opened again."""

from collections.abc import Callable

import pytest

from store.errors import StoreClosed
from store.job import Backoff, JobStatus
from store.protocol import JobStore, Note
from tests.fake_clock import START
from tests.store.samples import (
    DONE,
    EVERYTHING,
    HALF,
    OURS,
    all_jobs,
    claim,
    create,
    create_in,
    create_processing,
    finish,
    line,
    new_job,
    numbered,
)

CALLS: dict[str, Callable[[JobStore, str], object]] = {
    "create_jobs": lambda store, _: store.create_jobs([new_job()]),
    "get_job": lambda store, job_id: store.get_job(job_id),
    "list_jobs": lambda store, _: store.list_jobs(EVERYTHING, 10),
    "list_attempts": lambda store, job_id: store.list_attempts(job_id),
    "list_log": lambda store, job_id: store.list_log(job_id),
    "reserve_jobs": lambda store, _: store.reserve_jobs("default", 1, OURS),
    "release_jobs": lambda store, job_id: store.release_jobs([job_id], OURS.owner),
    "claim_job": lambda store, job_id: store.claim_job(job_id, OURS),
    "finish_job": lambda store, job_id: store.finish_job(job_id, 1, DONE),
    "end_solitude": lambda store, job_id: store.end_solitude(job_id, 1),
    "record_notes": lambda store, job_id: store.record_notes([Note(job_id, 1, HALF)]),
    "cancel_job": lambda store, job_id: store.cancel_job(job_id),
    "retry_job": lambda store, job_id: store.retry_job(job_id),
    "delete_job": lambda store, job_id: store.delete_job(job_id),
    "renew_leases": lambda store, job_id: store.renew_leases([job_id], OURS),
    "release_expired": lambda store, _: store.release_expired(),
    "release_suspects": lambda store, job_id: store.release_suspects([job_id]),
    "recover": lambda store, _: store.recover(solo_limit=2),
    "pause_queue": lambda store, _: store.pause_queue("default"),
    "resume_queue": lambda store, _: store.resume_queue("default"),
    "count_jobs": lambda store, _: store.count_jobs(),
    "count_queues": lambda store, _: store.count_queues(),
    "is_paused": lambda store, _: store.is_paused("default"),
    "delete_finished": lambda store, _: store.delete_finished(JobStatus.COMPLETED, START, 1),
    "follow_clock": lambda store, _: store.follow_clock(1),
    "flush": lambda store, _: store.flush(),
    "maintain": lambda store, _: store.maintain(),
}


def test_every_call_of_the_protocol_is_tried_on_a_closed_store() -> None:
    methods = {name for name, value in vars(JobStore).items() if callable(value) and not name.startswith("_")}
    assert set(CALLS) == methods - {"close"}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_closed_store_refuses(store: JobStore, call: Callable[[JobStore, str], object]) -> None:
    job = create_processing(store)
    store.close()
    with pytest.raises(StoreClosed):
        call(store, job.id)


def test_a_store_can_be_closed_twice(store: JobStore) -> None:
    store.close()
    store.close()


def test_flushing_and_maintaining_change_nothing(store: JobStore) -> None:
    jobs = [create_in(store, status) for status in JobStatus]
    store.flush()
    assert 0 < store.maintain() <= 24 * 3600
    assert all_jobs(store) == jobs[::-1]


def test_everything_is_there_after_a_restart(store: JobStore, reopen: Callable[[], JobStore]) -> None:
    for status in JobStatus:
        create_in(store, status, tags=("a", "größe"), payload='"\\u0000 😀"'.encode(), queue=f"of {status}")
    store.cancel_job(create_processing(store, priority=5, backoff=Backoff(base=9.0)).id)
    before = _read_everything(store)
    assert _read_everything(reopen()) == before


def _read_everything(store: JobStore) -> list[object]:
    return [(job, store.list_attempts(job.id), store.list_log(job.id)) for job in all_jobs(store)]


def test_attempts_and_lines_are_there_after_a_restart(store: JobStore, reopen: Callable[[], JobStore]) -> None:
    job = create_processing(store)
    store.record_notes([Note(job.id, 1, HALF, (line("noted"),))])
    store.finish_job(job.id, 1, DONE, lines=[line("last")])
    attempts = store.list_attempts(job.id)
    store = reopen()
    assert store.list_attempts(job.id) == attempts
    assert store.list_log(job.id) == numbered([line("noted"), line("last")])


def test_ids_go_on_rising_after_a_restart(store: JobStore, reopen: Callable[[], JobStore]) -> None:
    before = [create(store).id for _ in range(50)]
    store = reopen()
    after = [create(store).id for _ in range(50)]
    assert before + after == sorted(set(before + after))


def test_work_goes_on_after_a_restart(store: JobStore, reopen: Callable[[], JobStore]) -> None:
    job = create(store)
    store = reopen()
    store.recover(solo_limit=2)
    assert finish(store, claim(store, job)).status is JobStatus.COMPLETED
