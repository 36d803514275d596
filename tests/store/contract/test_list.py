"""Listing: filters, cursors, and pages that stay small."""

from collections.abc import Callable

import pytest

from store.errors import InvalidCursor
from store.job import JobStatus
from store.protocol import JobFilter, JobStore
from store.transitions import Completed
from tests.fake_clock import START, FakeClock
from tests.store.samples import EVERYTHING, all_jobs, create, create_in, new_job

MIB = 1024 * 1024


def test_an_empty_store_lists_nothing(store: JobStore) -> None:
    page = store.list_jobs(EVERYTHING, 10)
    assert (page.jobs, page.next_cursor) == ([], None)


def test_the_newest_job_comes_first(store: JobStore) -> None:
    jobs = [create(store) for _ in range(5)]
    assert store.list_jobs(EVERYTHING, 10).jobs == jobs[::-1]


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1, 1, 1, 1, 1, 1]), (3, [3, 3]), (4, [4, 2]), (6, [6]), (7, [6])])
def test_pages_hold_up_to_the_limit_and_the_last_has_no_cursor(store: JobStore, limit: int, sizes: list[int]) -> None:
    store.create_jobs([new_job()] * 6)
    pages = [store.list_jobs(EVERYTHING, limit)]
    while pages[-1].next_cursor:
        pages.append(store.list_jobs(EVERYTHING, limit, pages[-1].next_cursor))
    assert [len(page.jobs) for page in pages] == sizes
    ids = [job.id for page in pages for job in page.jobs]
    assert ids == sorted(set(ids), reverse=True)


def test_a_filtered_last_page_has_no_cursor_although_other_jobs_follow(store: JobStore) -> None:
    store.create_jobs([new_job(), new_job(type="wanted"), new_job(type="wanted"), new_job()])
    page = store.list_jobs(JobFilter(type="wanted"), 2)
    assert (len(page.jobs), page.next_cursor) == (2, None)


def test_jobs_are_filtered_by_status(store: JobStore) -> None:
    by_status = {status: create_in(store, status) for status in JobStatus for _ in range(2)}
    for status, newest in by_status.items():
        listed = all_jobs(store, JobFilter(status=status))
        assert listed[0] == newest
        assert [job.status for job in listed] == [status, status]


@pytest.mark.parametrize("field", ["type", "queue"])
@pytest.mark.parametrize("name", ["wanted", "Wanted", "want", "größe", "a.b:c-d_e"])
def test_jobs_are_filtered_by_exact_type_and_queue(store: JobStore, field: str, name: str) -> None:
    names = ["wanted", "Wanted", "want", "größe", "a.b:c-d_e", "want%", "w_nted"]
    store.create_jobs([new_job(**{field: each}) for each in names])
    assert [getattr(job, field) for job in all_jobs(store, JobFilter(**{field: name}))] == [name]


@pytest.mark.parametrize("tag", ["a", "b", "größe 😀", 'quoted "tag"', "a,b", "%"])
def test_jobs_are_filtered_by_one_of_their_tags(store: JobStore, tag: str) -> None:
    tags = [("a", "b"), ("b",), (), ("größe 😀", "a"), ('quoted "tag"', "a,b"), ("ab", "%")]
    store.create_jobs([new_job(tags=each) for each in tags])
    listed = [job.tags for job in all_jobs(store, JobFilter(tag=tag))]
    assert listed == [each for each in reversed(tags) if tag in each]


def test_a_tag_given_twice_lists_the_job_once(store: JobStore) -> None:
    job = create(store, tags=("a", "a"))
    assert all_jobs(store, JobFilter(tag="a")) == [job]


def test_jobs_are_filtered_by_time_of_creation_and_bounds_are_left_out(store: JobStore, clock: FakeClock) -> None:
    jobs = []
    for _ in range(5):
        jobs.append(create(store))
        clock.advance(0.000001)
    middle = JobFilter(created_after=jobs[0].created_at, created_before=jobs[4].created_at)
    assert all_jobs(store, middle) == [jobs[3], jobs[2], jobs[1]]
    assert all_jobs(store, JobFilter(created_after=jobs[3].created_at)) == [jobs[4]]
    assert all_jobs(store, JobFilter(created_before=jobs[1].created_at)) == [jobs[0]]


@pytest.mark.parametrize("jump", [-3600.0, -0.5, 0.5, 3600.0])
def test_the_time_of_creation_is_found_although_the_clock_was_set(
    store: JobStore, clock: FakeClock, jump: float
) -> None:
    jobs = []
    for seconds in (1.0, jump, 1.0, -jump, 1.0):
        jobs += [create(store), create(store)]
        clock.jump(seconds)
    newest_first = jobs[::-1]
    for limit in {job.created_at for job in jobs}:
        after = [job.id for job in newest_first if job.created_at > limit]
        before = [job.id for job in newest_first if job.created_at < limit]
        assert [job.id for job in all_jobs(store, JobFilter(created_after=limit))] == after
        assert [job.id for job in all_jobs(store, JobFilter(created_before=limit))] == before


def test_filters_hold_all_at_once(store: JobStore, clock: FakeClock) -> None:
    fields = {"type": "t", "queue": "q", "tags": ("a",)}
    create(store, **fields)
    clock.advance(1)
    wanted = create(store, **fields)
    for other in ({"type": "x"}, {"queue": "x"}, {"tags": ("x",)}):
        create(store, **(fields | other))
    create_in(store, JobStatus.COMPLETED, **fields)
    where = JobFilter(status=JobStatus.PENDING, type="t", queue="q", tag="a", created_after=START)
    assert all_jobs(store, where) == [wanted]
    assert all_jobs(store, where, limit=1) == [wanted]


@pytest.mark.parametrize(
    "where",
    [JobFilter(tag="a"), JobFilter(type="a"), JobFilter(queue="a"), JobFilter(status=JobStatus.FAILED)],
    ids=["tag", "type", "queue", "status"],
)
def test_a_filtered_listing_is_walked_by_its_cursors(store: JobStore, where: JobFilter) -> None:
    matching = []
    for _ in range(5):
        matching.append(create_in(store, JobStatus.FAILED, type="a", queue="a", tags=("a", "b")).id)
        create(store, type="b", queue="b", tags=("b",))
    for limit in (1, 2, 5):
        assert [job.id for job in all_jobs(store, where, limit)] == matching[::-1]


def test_a_walk_shows_what_was_there_all_along_exactly_once(store: JobStore) -> None:
    """Jobs come and go between the pages, those at the cursor too."""
    jobs = [create_in(store, JobStatus.COMPLETED) for _ in range(30)]
    seen, cursor, deleted = [], None, set()
    while True:
        page = store.list_jobs(EVERYTHING, 4, cursor)
        seen += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            break
        create(store)
        deleted |= {page.jobs[-1].id, page.jobs[0].id}
        for job_id in (page.jobs[-1].id, page.jobs[0].id):
            store.delete_job(job_id)
    stayed = [job.id for job in reversed(jobs) if job.id not in deleted]
    assert [job_id for job_id in seen if job_id not in deleted] == stayed
    assert len(seen) == len(set(seen)) == 30


def test_a_cursor_works_when_every_older_job_is_gone(store: JobStore) -> None:
    jobs = [create_in(store, JobStatus.COMPLETED) for _ in range(4)]
    page = store.list_jobs(EVERYTHING, 2)
    for job in jobs:
        store.delete_job(job.id)
    rest = store.list_jobs(EVERYTHING, 2, page.next_cursor)
    assert (rest.jobs, rest.next_cursor) == ([], None)


def test_a_cursor_works_after_a_restart(store: JobStore, reopen: Callable[[], JobStore]) -> None:
    jobs = [create(store) for _ in range(4)]
    page = store.list_jobs(EVERYTHING, 2)
    store = reopen()
    assert store.list_jobs(EVERYTHING, 2, page.next_cursor).jobs == [jobs[1], jobs[0]]


@pytest.mark.parametrize("cursor", ["", "x", "nonsense", "-1", "1e9", "é", "\0", "' OR 1=1 --", "9" * 100, "%00", "٣"])
def test_a_cursor_that_no_listing_returned_is_refused(store: JobStore, cursor: str) -> None:
    store.create_jobs([new_job()] * 3)
    with pytest.raises(InvalidCursor):
        store.list_jobs(EVERYTHING, 1, cursor)


def test_a_page_ends_early_when_payloads_are_large(store: JobStore) -> None:
    payload = b'"' + b"x" * MIB + b'"'
    jobs = [create(store, payload=payload) for _ in range(10)]
    page = store.list_jobs(EVERYTHING, 1000)
    assert 3 <= len(page.jobs) <= 6
    assert page.next_cursor is not None
    assert [job.id for job in all_jobs(store)] == [job.id for job in reversed(jobs)]


def test_a_page_ends_early_when_results_are_large(store: JobStore) -> None:
    result = Completed(new_job(payload=b'"' + b"x" * MIB + b'"').payload)
    for _ in range(10):
        job = create_in(store, JobStatus.PROCESSING)
        store.finish_job(job.id, 1, result)
    assert 3 <= len(store.list_jobs(EVERYTHING, 1000).jobs) <= 6
    assert len(all_jobs(store)) == 10


def test_a_page_holds_at_least_one_job_however_large(store: JobStore) -> None:
    payload = b'"' + b"x" * (6 * MIB) + b'"'
    store.create_jobs([new_job(payload=payload)] * 2)
    page = store.list_jobs(EVERYTHING, 1000)
    assert len(page.jobs) == 1
    assert page.next_cursor is not None
    assert len(all_jobs(store)) == 2
