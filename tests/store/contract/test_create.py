"""Submitting: what is stored is what was sent."""

from datetime import timedelta

import msgspec
import pytest

from store.job import Backoff, JobStatus, Progress
from store.protocol import JobStore
from tests.fake_clock import START, FakeClock
from tests.store.samples import EVERYTHING, OURS, THEIRS, all_jobs, create, new_job


def test_a_new_job_is_pending_and_untouched(store: JobStore) -> None:
    job = create(store)
    assert (job.status, job.attempt, job.failures, job.interruptions) == (JobStatus.PENDING, 0, 0, 0)
    assert (job.result, job.error, job.started_at, job.finished_at) == (None, None, None, None)
    assert (job.cancel_requested, job.suspect, job.alone, job.solo_crashes) == (False, False, False, 0)
    assert job.progress == Progress(0.0, "")


def test_every_field_of_a_submission_is_kept(store: JobStore) -> None:
    new = new_job(
        type="report",
        queue="reports",
        priority=-7,
        max_attempts=3,
        timeout=12.5,
        run_at=START + timedelta(days=3, microseconds=123),
        tags=("nightly", "größe", "nightly", ""),
        backoff=Backoff(base=0.5, factor=3.0, cap=9.0),
        payload=b'{"n":1}',
    )
    store.create_jobs([new])
    (job,) = all_jobs(store)
    for field in ("type", "queue", "priority", "max_attempts", "timeout", "run_at", "tags", "backoff", "payload"):
        assert getattr(job, field) == getattr(new, field), field


def test_the_answer_is_the_job_as_it_is_stored(store: JobStore) -> None:
    (created,) = store.create_jobs([new_job(tags=("a", "b"), payload=b'{"n":1}')])
    assert created.job == store.get_job(created.job.id)
    assert not created.replayed


def test_a_job_without_run_at_is_due_when_it_was_created(store: JobStore, clock: FakeClock) -> None:
    clock.advance(5)
    job = create(store)
    assert job.created_at == job.run_at == START + timedelta(seconds=5)


def test_ids_rise_in_the_order_of_submission(store: JobStore) -> None:
    ids = [created.job.id for _ in range(3) for created in store.create_jobs([new_job()] * 50)]
    assert ids == sorted(set(ids))


def test_ids_rise_although_the_wall_clock_is_set_back(store: JobStore, clock: FakeClock) -> None:
    before = create(store)
    clock.jump(-3600)
    assert create(store).id > before.id


def test_a_batch_of_jobs_keeps_its_order(store: JobStore) -> None:
    created = store.create_jobs([new_job(type=f"t{n}") for n in range(100)])
    assert [c.job.type for c in created] == [f"t{n}" for n in range(100)]
    assert [job.type for job in all_jobs(store)] == [f"t{n}" for n in reversed(range(100))]


def test_an_empty_batch_stores_nothing(store: JobStore) -> None:
    assert store.create_jobs([]) == []
    assert store.list_jobs(EVERYTHING, 10).jobs == []


@pytest.mark.parametrize(
    "payload",
    [
        b"null",
        b"0",
        b'""',
        b"  [1,\n 2 ]\t",
        b'{"b":1,"a":2}',
        b"1.0000000000000000000000000000000001",
        b"123456789012345678901234567890123456789012345678901234567890",
        b"-0.0e-0",
        b"1e308",
        rb'"\u0000"',
        rb'{"\u0000key\u0000":"a\u0000b"}',
        rb'"\ud83d\ude00 escaped"',
        '"größe 😀 \u2028 \U0010ffff"'.encode(),
        b'"it\'s \\"quoted\\"; DROP TABLE jobs; -- %s ? :x"',
        b"[" * 64 + b"]" * 64,
        b'"' + b"x" * 1_000_000 + b'"',
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_a_payload_comes_back_byte_for_byte(store: JobStore, payload: bytes) -> None:
    job = create(store, payload=payload)
    assert bytes(job.payload) == payload
    assert bytes(store.get_job(job.id).payload) == payload
    assert [bytes(job.payload) for job in all_jobs(store)] == [payload]


def test_a_stored_payload_does_not_keep_the_request_that_it_came_in(store: JobStore) -> None:
    request = bytearray(b'{"payload":[1,2,3]}')
    payload = msgspec.json.decode(memoryview(request), type=dict[str, msgspec.Raw]).pop("payload")
    job_id = store.create_jobs([new_job(payload=payload)])[0].job.id
    del payload
    request.clear()  # raises BufferError while anything looks into it
    assert bytes(store.get_job(job_id).payload) == b"[1,2,3]"


def test_a_reserved_submission_is_reserved_for_its_instance_only(store: JobStore) -> None:
    (created,) = store.create_jobs([new_job()], reserve=OURS)
    assert store.reserve_jobs("default", 10, THEIRS).jobs == []
    assert store.claim_job(created.job.id, THEIRS) is None
    assert store.claim_job(created.job.id, OURS) is not None


def test_a_job_that_is_not_due_is_stored_but_not_reserved(store: JobStore, clock: FakeClock) -> None:
    (created,) = store.create_jobs([new_job(run_at=START + timedelta(seconds=10))], reserve=OURS)
    clock.advance(10)
    assert [due.id for due in store.reserve_jobs("default", 10, THEIRS).jobs] == [created.job.id]


def test_a_job_of_a_paused_queue_is_stored_but_not_reserved(store: JobStore) -> None:
    store.pause_queue("default")
    (created,) = store.create_jobs([new_job()], reserve=OURS)
    store.resume_queue("default")
    assert [due.id for due in store.reserve_jobs("default", 10, THEIRS).jobs] == [created.job.id]


def test_only_the_due_jobs_of_a_batch_are_reserved(store: JobStore) -> None:
    store.pause_queue("paused")
    batch = [new_job(), new_job(run_at=START + timedelta(seconds=10)), new_job(queue="paused"), new_job(queue="other")]
    due, later, paused, other = [created.job.id for created in store.create_jobs(batch, reserve=OURS)]
    assert store.renew_leases([due, later, paused, other], OURS) == {later, paused}
