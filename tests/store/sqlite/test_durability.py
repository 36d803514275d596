"""What is on disk when: commits are shared, and nobody reads what a power cut could undo."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from store.errors import IllegalTransition, OutcomeUnknown, StoreClosed, StoreError, StoreUnavailable
from store.job import JobStatus
from store.protocol import JobFilter
from store.sqlite import SqliteStore
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.store.recount import check_counts
from tests.store.samples import DONE, OURS, claim, create, create_processing, new_job


class Disk:
    """Counts syncs of the write-ahead log, holds them up, and lets them fail."""

    def __init__(self) -> None:
        self.syncs = 0
        self.fails = False
        self.waiting = 0
        self.free = threading.Event()
        self.free.set()

    def fdatasync(self, descriptor: int) -> None:
        self.waiting += 1
        assert self.free.wait(5)
        self.waiting -= 1
        if self.fails:
            raise OSError(5, "Input/output error")
        os.fdatasync(descriptor)
        self.syncs += 1


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def store(tmp_path: Path, disk: Disk) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "gofer.db", FakeClock(), random.Random(1), disk.fdatasync)
    yield store
    disk.free.set()
    disk.fails = False
    store.close()


def syncs_of(disk: Disk, operation: Callable[[], object]) -> int:
    before = disk.syncs
    operation()
    return disk.syncs - before


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_what_a_client_asks_for_is_synced_before_the_answer(store: SqliteStore, disk: Disk) -> None:
    assert syncs_of(disk, lambda: create(store)) == 1
    pending = create(store)
    assert syncs_of(disk, lambda: store.cancel_job(pending.id)) == 1
    assert syncs_of(disk, lambda: store.retry_job(pending.id)) == 1
    store.cancel_job(pending.id)
    assert syncs_of(disk, lambda: store.delete_job(pending.id)) == 1
    assert syncs_of(disk, lambda: store.pause_queue("default")) == 1
    assert syncs_of(disk, lambda: store.resume_queue("default")) == 1


def test_a_thousand_jobs_in_one_call_share_one_sync(store: SqliteStore, disk: Disk) -> None:
    assert syncs_of(disk, lambda: store.create_jobs([new_job()] * 1000)) == 1


def test_claims_and_outcomes_do_not_wait_for_the_disk(store: SqliteStore, disk: Disk) -> None:
    jobs = [create(store), create(store)]

    def work() -> None:
        first = claim(store, jobs[0])
        store.finish_job(first.id, first.attempt, DONE, claim_next=(jobs[1].id, OURS))

    assert syncs_of(disk, work) == 0


@pytest.mark.parametrize(
    "read",
    [
        lambda store, job: store.get_job(job.id),
        lambda store, job: store.list_jobs(JobFilter(), 10),
        lambda store, job: store.list_attempts(job.id),
        lambda store, job: store.list_log(job.id),
        lambda store, job: store.count_jobs(),
        lambda store, job: store.count_queues(),
        lambda store, job: store.flush(),
    ],
)
def test_whoever_could_see_an_outcome_waits_until_it_is_synced(
    store: SqliteStore, disk: Disk, read: Callable[[SqliteStore, object], object]
) -> None:
    job = create_processing(store)
    store.finish_job(job.id, job.attempt, DONE)
    assert syncs_of(disk, lambda: read(store, job)) == 1
    assert syncs_of(disk, lambda: read(store, job)) == 0


def test_submissions_that_wait_for_the_disk_share_its_next_sync(store: SqliteStore, disk: Disk) -> None:
    disk.free.clear()
    first = in_thread(lambda: create(store))
    eventually(lambda: disk.waiting == 1)
    others = [in_thread(lambda: create(store)) for _ in range(10)]
    eventually(lambda: len(store._writer._durable._line) == 10)
    disk.free.set()
    for thread in [first, *others]:
        thread.join(5)
        assert not thread.is_alive()
    assert store.count_jobs()[JobStatus.PENDING] == 11
    assert disk.syncs == 2


def test_a_failed_operation_fails_alone(store: SqliteStore, disk: Disk) -> None:
    """Those who shared its transaction get what they asked for."""
    pending, final = create(store), create(store)
    store.cancel_job(final.id)
    disk.free.clear()
    first = in_thread(lambda: create(store))
    eventually(lambda: disk.waiting == 1)
    errors: list[Exception] = []

    def cancel(job_id: str) -> None:
        try:
            store.cancel_job(job_id)
        except IllegalTransition as error:
            errors.append(error)

    others = [in_thread(lambda job_id=job.id: cancel(job_id)) for job in (final, pending)]
    eventually(lambda: len(store._writer._durable._line) == 2)
    disk.free.set()
    for thread in [first, *others]:
        thread.join(5)
    assert len(errors) == 1
    assert store.get_job(pending.id).status is JobStatus.CANCELLED
    check_counts(store, FakeClock())


def test_a_claim_goes_on_while_a_submission_waits_for_the_disk(store: SqliteStore, disk: Disk) -> None:
    job = create(store)
    disk.free.clear()
    submission = in_thread(lambda: create(store))
    eventually(lambda: disk.waiting == 1)
    assert store.claim_job(job.id, OURS) is not None
    assert submission.is_alive()
    disk.free.set()
    submission.join(5)


def test_a_failed_sync_is_answered_unknown_and_nothing_is_written_after_it(store: SqliteStore, disk: Disk) -> None:
    create(store)
    disk.fails = True
    with pytest.raises(OutcomeUnknown, match="Input/output error"):
        create(store)
    disk.fails = False
    for operation in (lambda: create(store), store.flush):
        with pytest.raises(StoreUnavailable, match="nothing is written any more") as caught:
            operation()
        assert not isinstance(caught.value, OutcomeUnknown)


def test_a_sync_that_meets_the_end_of_the_store_is_not_taken_for_a_failing_disk(store: SqliteStore, disk: Disk) -> None:
    job = create_processing(store)
    store.finish_job(job.id, job.attempt, DONE)
    disk.free.clear()
    reader = in_thread(lambda: store.get_job(job.id))
    eventually(lambda: disk.waiting == 1)
    closer = in_thread(store.close)
    disk.free.set()
    for thread in (reader, closer):
        thread.join(5)
        assert not thread.is_alive()
    store.close()


def test_the_write_ahead_log_starts_anew_under_constant_load(store: SqliteStore, tmp_path: Path) -> None:
    """Housekeeping keeps it from growing for ever."""
    sizes = []
    for _ in range(12):
        store.create_jobs([new_job(payload=b'"' + b"x" * 10_000 + b'"')] * 500)
        store.maintain()
        sizes.append((tmp_path / "gofer.db-wal").stat().st_size)
    assert max(sizes) < 30_000_000


def test_a_closed_store_says_so(store: SqliteStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreClosed):
        create(store)
    with pytest.raises(StoreClosed):
        store.count_jobs()


def test_a_refusal_that_tells_an_outcome_waits_until_it_is_synced(store: SqliteStore, disk: Disk) -> None:
    job = create_processing(store)
    store.finish_job(job.id, job.attempt, DONE)

    def cancel() -> None:
        with pytest.raises(IllegalTransition):
            store.cancel_job(job.id)

    assert syncs_of(disk, cancel) == 1


def test_a_refusal_that_tells_an_outcome_is_not_given_when_the_disk_fails(store: SqliteStore, disk: Disk) -> None:
    job = create_processing(store)
    store.finish_job(job.id, job.attempt, DONE)
    disk.fails = True
    with pytest.raises(OutcomeUnknown):
        store.cancel_job(job.id)


def test_a_read_waits_for_what_it_saw_and_not_for_what_came_later(store: SqliteStore, disk: Disk) -> None:
    """Under load something always came later."""
    finish_next = create_processing(store)
    job = create_processing(store)
    store.finish_job(job.id, job.attempt, DONE)
    disk.free.clear()
    reader = in_thread(lambda: store.get_job(job.id))
    eventually(lambda: disk.waiting == 1)
    store.finish_job(finish_next.id, finish_next.attempt, DONE)
    before = disk.syncs
    disk.free.set()
    reader.join(5)
    assert disk.syncs - before == 1


def test_a_pause_and_a_resume_in_one_transaction_leave_the_queue_open(store: SqliteStore, disk: Disk) -> None:
    job = create(store)
    disk.free.clear()
    threads = [in_thread(lambda: create(store))]
    eventually(lambda: disk.waiting == 1)
    for waiting, change in enumerate((store.pause_queue, store.resume_queue), start=1):
        threads.append(in_thread(lambda change=change: change("default")))
        eventually(lambda expected=waiting: len(store._writer._durable._line) == expected)
    disk.free.set()
    for thread in threads:
        thread.join(5)
    assert not store.is_paused("default")
    assert store.claim_job(job.id, OURS) is not None


def test_a_foreign_lock_makes_those_who_wait_together_wait_once(store: SqliteStore, disk: Disk, tmp_path: Path) -> None:
    store._database.writer.set_busy_timeout(50)
    foreign = apsw.Connection(str(tmp_path / "gofer.db"))
    disk.free.clear()
    threads = [in_thread(lambda: create(store))]
    eventually(lambda: disk.waiting == 1)
    foreign.execute("BEGIN IMMEDIATE")
    errors: list[StoreError] = []

    def submit() -> None:
        try:
            create(store)
        except StoreUnavailable as error:
            errors.append(error)

    threads += [in_thread(submit) for _ in range(8)]
    eventually(lambda: len(store._writer._durable._line) == 8)
    began = time.monotonic()
    disk.free.set()
    for thread in threads:
        thread.join(5)
    assert len({id(error) for error in errors}) == 8
    assert time.monotonic() - began < 0.3
    foreign.close()
    create(store)


def test_a_failed_checkpoint_fails_the_store(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise apsw.IOError("disk I/O error")

    create(store)
    store._checkpointer.frames = 1_000_000
    monkeypatch.setattr(store._checkpointer, "_move", fail)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            store.maintain()
    with pytest.raises(StoreUnavailable, match="nothing is written any more"):
        create(store)


def test_close_waits_for_a_checkpoint_that_is_under_way(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    moving, go_on = threading.Event(), threading.Event()
    move = store._checkpointer._move

    def slowly() -> int:
        moving.set()
        assert go_on.wait(5)
        return move()

    create(store)
    store._checkpointer.frames = 1_000_000
    monkeypatch.setattr(store._checkpointer, "_move", slowly)
    checkpoint = in_thread(store.maintain)
    assert moving.wait(5)
    closing = in_thread(store.close)
    go_on.set()
    for thread in (checkpoint, closing):
        thread.join(5)
        assert not thread.is_alive()


def test_the_log_starts_anew_although_writers_never_rest(store: SqliteStore, tmp_path: Path) -> None:
    stop = threading.Event()

    def submit() -> None:
        while not stop.is_set():
            store.create_jobs([new_job(payload=b'"' + b"x" * 2_000 + b'"')] * 200)

    writers = [in_thread(submit) for _ in range(2)]
    log = tmp_path / "gofer.db-wal"
    sizes = []
    while store.count_jobs()[JobStatus.PENDING] < 100_000:
        store.maintain()
        sizes.append(log.stat().st_size)
    stop.set()
    for writer in writers:
        writer.join(5)
    assert max(sizes) < 120_000_000


def test_a_submission_that_is_committed_is_never_answered_that_nothing_was_stored(
    store: SqliteStore, disk: Disk
) -> None:
    """The sync that fails may be somebody else's."""
    job = create_processing(store)
    store.finish_job(job.id, job.attempt, DONE)
    disk.free.clear()
    errors: list[StoreError] = []

    def failing(operation: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                operation()
            except StoreError as error:
                errors.append(error)

        return run

    reader = in_thread(failing(lambda: store.get_job(job.id)))
    eventually(lambda: disk.waiting == 1)
    submission = in_thread(failing(lambda: create(store)))
    eventually(lambda: store._tally.by_status()[JobStatus.PENDING] == 1)
    disk.fails = True
    disk.free.set()
    for thread in (reader, submission):
        thread.join(5)
        assert not thread.is_alive()
    assert [type(error) for error in errors] == [OutcomeUnknown] * 2


def test_a_reader_does_not_wait_for_a_commit_that_was_rolled_back(store: SqliteStore, disk: Disk) -> None:
    store._durability.committing()
    disk.free.clear()
    reader = in_thread(store.count_jobs)
    eventually(lambda: disk.waiting == 1)
    store._durability.rolled_back()
    disk.free.set()
    reader.join(5)
    assert not reader.is_alive()
    assert disk.syncs <= 2


def test_whoever_sees_a_commit_before_its_own_thread_goes_on_waits_for_the_disk_too(
    store: SqliteStore, disk: Disk
) -> None:
    """A commit can be seen once SQLite has made it; this hook is called before anybody else learns of that."""
    job = create_processing(store)
    seen: list[tuple[JobStatus, int]] = []
    readers: list[threading.Thread] = []

    def look() -> None:
        seen.append((store.get_job(job.id).status, disk.syncs))

    def begin_to_look(*_: object) -> int:
        disk.free.clear()
        readers.append(in_thread(look))
        eventually(lambda: disk.waiting == 1 or bool(seen))
        return 0

    store._database.writer.set_wal_hook(begin_to_look)
    before = disk.syncs
    store.finish_job(job.id, job.attempt, DONE)
    disk.free.set()
    readers[0].join(5)
    assert seen[0][0] is JobStatus.COMPLETED
    assert seen[0][1] > before
