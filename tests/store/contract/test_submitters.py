"""A job remembers who submitted it."""

from collections.abc import Callable

from store.protocol import JobStore
from tests.store.samples import FAILED_FOR_GOOD, all_jobs, claim, create, finish, new_job


def test_the_submitter_is_kept_through_every_step(store: JobStore) -> None:
    job = create(store, submitted_by="ci")
    assert job.submitted_by == "ci"
    job = claim(store, job)
    assert job.submitted_by == "ci"
    job = finish(store, job, FAILED_FOR_GOOD)
    assert job.submitted_by == "ci"
    assert store.retry_job(job.id).submitted_by == "ci"
    assert store.cancel_job(job.id).submitted_by == "ci"
    assert [one.submitted_by for one in all_jobs(store)] == ["ci"]


def test_a_job_may_have_no_submitter(store: JobStore) -> None:
    assert store.get_job(create(store).id).submitted_by is None


def test_each_job_of_a_call_has_its_own(store: JobStore) -> None:
    created = store.create_jobs([new_job(submitted_by="a"), new_job(), new_job(submitted_by="b")])

    assert [store.get_job(one.job.id).submitted_by for one in created] == ["a", None, "b"]


def test_a_replay_tells_the_first_submitter(store: JobStore) -> None:
    create(store, submitted_by="ci", idempotency_key="k")

    (again,) = store.create_jobs([new_job(submitted_by="cd", idempotency_key="k")])
    assert (again.replayed, again.job.submitted_by) == (True, "ci")


def test_the_submitter_is_known_after_a_restart(store: JobStore, reopen: Callable[[], JobStore]) -> None:
    job = create(store, submitted_by="ci")

    assert reopen().get_job(job.id).submitted_by == "ci"
