"""What running attempts have to say: progress and log lines."""

from store.job import JobStatus, NewLogLine, Progress
from store.protocol import JobStore, Note
from tests.fake_clock import START
from tests.store.samples import HALF, OURS, create, create_in, create_processing, line, numbered


def test_progress_and_lines_of_running_attempts_are_stored(store: JobStore) -> None:
    one, other = create_processing(store), create_processing(store)
    store.record_notes(
        [
            Note(one.id, 1, HALF, (line("a"), line("b"))),
            Note(other.id, 1, None, (line("c"),)),
            Note(one.id, 1, Progress(0.75, "größe\0"), (line("d"),)),
        ]
    )
    assert store.get_job(one.id).progress == Progress(0.75, "größe\0")
    assert store.list_log(one.id) == numbered([line("a"), line("b"), line("d")])
    assert store.list_log(other.id) == numbered([line("c")])


def test_a_note_without_progress_leaves_it_as_it_is(store: JobStore) -> None:
    job = create_processing(store)
    store.record_notes([Note(job.id, 1, HALF)])
    store.record_notes([Note(job.id, 1, None, (line("a"),))])
    assert store.get_job(job.id).progress == HALF


def test_notes_change_nothing_else(store: JobStore) -> None:
    job = create_processing(store)
    store.record_notes([Note(job.id, 1, job.progress, ())])
    assert store.get_job(job.id) == job
    assert store.renew_leases([job.id], OURS) == set()


def test_notes_of_jobs_that_do_not_run_are_passed_over(store: JobStore) -> None:
    jobs = [create_in(store, status) for status in JobStatus if status is not JobStatus.PROCESSING]
    running = create_processing(store)
    notes = [Note(job.id, attempt, HALF, (line("late"),)) for job in jobs for attempt in (0, 1)]
    store.record_notes([*notes, Note("nobody", 1, HALF, (line("late"),)), Note(running.id, 1, HALF)])
    for job in jobs:
        assert store.get_job(job.id) == job
        assert store.list_log(job.id) == []
    assert store.get_job(running.id).progress == HALF


def test_no_notes_are_no_trouble(store: JobStore) -> None:
    store.record_notes([])
    assert store.list_log(create(store).id) == []


def test_a_line_comes_back_as_it_was_logged(store: JobStore) -> None:
    job = create_processing(store)
    lines = [
        NewLogLine(START, 1, level, text)
        for level in ("debug", "info", "warning", "error")
        for text in ("", "a\nb\tc", "größe 😀 \0 end", "x" * 8192)
    ]
    store.record_notes([Note(job.id, 1, None, tuple(lines))])
    assert store.list_log(job.id) == numbered(lines)
