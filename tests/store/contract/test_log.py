"""A job's log: its numbers, what is left of it when it grows, and reading a part of it."""

from collections.abc import Callable

from store.job import Job, JobStatus
from store.protocol import JobStore, Note
from tests.store.contract.conftest import LOG_LINES
from tests.store.samples import DONE, FAILED, claim, create_in, create_processing, line, numbered


def log(store: JobStore, job: Job, *texts: str, skipped: int = 0) -> None:
    """Have the running attempt log some lines."""
    store.record_notes([Note(job.id, job.attempt, None, tuple(map(line, texts)), skipped)])


def shown(store: JobStore, job: Job, after: int = 0, tail: int | None = None) -> list[tuple[int, str]]:
    """Numbers and messages."""
    return [(each.number, each.message) for each in store.list_log(job.id, after=after, tail=tail)]


def test_numbers_rise_by_one_across_attempts_from_one(store: JobStore) -> None:
    job = create_processing(store)
    log(store, job, "a", "b")
    log(store, job, "c")
    store.finish_job(job.id, 1, FAILED, lines=[line("d")])
    job = claim(store, job)
    log(store, job, "e")
    store.finish_job(job.id, 2, DONE, lines=[line("f", 2)])
    assert shown(store, job) == [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"), (6, "f")]


def test_each_job_has_numbers_of_its_own(store: JobStore) -> None:
    one, other = create_processing(store), create_processing(store)
    store.record_notes(
        [
            Note(one.id, 1, None, (line("a"),)),
            Note(other.id, 1, None, (line("b"),)),
            Note(one.id, 1, None, (line("c"),)),
        ]
    )
    assert shown(store, one) == [(1, "a"), (2, "c")]
    assert shown(store, other) == [(1, "b")]


def test_lines_that_were_left_out_have_numbers_all_the_same(store: JobStore) -> None:
    job = create_processing(store)
    log(store, job, "a", skipped=2)
    log(store, job, "b", skipped=3)
    store.finish_job(job.id, 1, DONE, lines=[line("c")], skipped=4)
    assert shown(store, job) == [(3, "a"), (7, "b"), (12, "c")]


def test_a_full_log_loses_its_oldest_lines(store: JobStore) -> None:
    job = create_processing(store)
    for number in range(1, LOG_LINES + 6):
        log(store, job, str(number))
    assert shown(store, job) == [(number, str(number)) for number in range(6, LOG_LINES + 6)]


def test_a_log_that_is_full_when_the_attempt_ends_loses_its_oldest_lines(store: JobStore) -> None:
    job = create_processing(store)
    log(store, job, *["old"] * LOG_LINES)
    store.finish_job(job.id, 1, FAILED, lines=[line("new"), line("newest")])
    assert shown(store, job)[0] == (3, "old")
    assert shown(store, job)[-2:] == [(LOG_LINES + 1, "new"), (LOG_LINES + 2, "newest")]
    assert len(shown(store, job)) == LOG_LINES


def test_more_lines_at_once_than_a_log_keeps_leave_the_last_of_them(store: JobStore) -> None:
    job = create_processing(store)
    log(store, job, "old")
    log(store, job, *map(str, range(3 * LOG_LINES)))
    assert shown(store, job) == [(number, str(number - 2)) for number in range(2 * LOG_LINES + 2, 3 * LOG_LINES + 2)]


def test_what_was_left_out_counts_like_what_was_kept(store: JobStore) -> None:
    job = create_processing(store)
    log(store, job, "a", "b")
    log(store, job, "c", skipped=LOG_LINES - 2)
    assert shown(store, job) == [(2, "b"), (LOG_LINES + 1, "c")]


def test_one_full_log_takes_nothing_from_another(store: JobStore) -> None:
    one, other = create_processing(store), create_processing(store)
    log(store, other, "kept")
    log(store, one, *["x"] * (2 * LOG_LINES))
    assert shown(store, other) == [(1, "kept")]


def test_a_part_of_a_log_can_be_read(store: JobStore) -> None:
    job = create_processing(store)
    log(store, job, *"abcde", skipped=1)
    assert shown(store, job, after=4) == [(5, "d"), (6, "e")]
    assert shown(store, job, tail=2) == [(5, "d"), (6, "e")]
    assert shown(store, job, after=2, tail=3) == [(4, "c"), (5, "d"), (6, "e")]
    assert shown(store, job, after=5, tail=3) == [(6, "e")]
    assert shown(store, job, after=1, tail=100) == shown(store, job)
    assert shown(store, job, after=6) == []
    assert shown(store, job, after=10**15, tail=1) == []


def test_lines_keep_their_numbers_when_the_store_is_opened_again(
    store: JobStore, reopen: Callable[[], JobStore]
) -> None:
    job = create_processing(store)
    log(store, job, "a", skipped=7)
    store = reopen()
    log(store, job, "b")
    assert shown(store, job) == [(8, "a"), (9, "b")]


def test_a_new_job_does_not_go_on_with_the_numbers_of_a_deleted_one(store: JobStore) -> None:
    job = create_processing(store)
    store.finish_job(job.id, 1, DONE, lines=[line("a")])
    store.delete_job(job.id)
    job = create_processing(store)
    log(store, job, "b")
    assert store.list_log(job.id) == numbered([line("b")])


def test_a_job_that_did_not_run_has_no_log(store: JobStore) -> None:
    assert shown(store, create_in(store, JobStatus.PENDING), after=0, tail=1) == []
