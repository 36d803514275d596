"""Many threads at one store, on a disk whose power is cut: whatever one of them was told, or saw, is still true."""

import random
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from store.errors import JobNotFound, StaleAttempt, StoreClosed, StoreError
from store.job import Job
from store.sqlite import SqliteStore
from store.transitions import Outcome
from tests.fake_clock import FakeClock
from tests.store.samples import DONE, EVERYTHING, FAILED, FAILED_FOR_GOOD, OURS, new_job
from tests.store.sqlite.faults.power import EVERYTHING as ALL
from tests.store.sqlite.faults.power import SECTORS, WRITES, Remains
from tests.store.sqlite.faults.recorder import Event, Mark, Recorder
from tests.store.sqlite.faults.script import LOG_LINES
from tests.store.sqlite.faults.trial import small_files
from tests.store.sqlite.faults.whole import check_file, look_into

#: What is known of a job: its status and attempt once it is final; before that, that it is there; at last, that its
#: deletion was asked for, and None once it was acknowledged.
Fact = str | None
_THERE, _DOOMED = "there", "doomed"

_OUTCOMES: list[Outcome] = [DONE, DONE, FAILED, FAILED_FOR_GOOD]


class Crowd:
    """Threads that submit, run, read, delete and keep house; each tells the recorder what it was told."""

    def __init__(self, directory: Path, recorder: Recorder, seed: int) -> None:
        self._recorder = recorder
        self._store = SqliteStore(
            directory / "gofer.db",
            FakeClock(),
            random.Random(seed),
            recorder.fdatasync,
            log_lines=LOG_LINES,
            fsync=recorder.fsync,
            vfs=recorder.name,
        )
        self._seed = seed
        #: What went wrong in one of the threads.
        self.errors: list[Exception] = []

    def work(self, submissions: int) -> list[Event]:
        """Have each submitter submit so often, and all the others work meanwhile; what happened to the files."""
        self._recorder.mark({})
        acts = [self._run, self._run, self._look, self._keep]
        with small_files():
            submitters = [self._thread(self._submit, number, submissions) for number in range(3)]
            others = [self._thread(act, number) for number, act in enumerate(acts)]
            for thread in submitters:
                thread.join()
            self._store.close()
            for thread in others:
                thread.join()
        return self._recorder.events

    def _thread(self, act: Callable[..., None], number: int, *arguments: int) -> threading.Thread:
        rng = random.Random(f"{self._seed} {act.__name__} {number}")

        def run() -> None:
            try:
                act(rng, *arguments)
            except StoreClosed:
                pass
            except Exception as error:
                self.errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def _submit(self, rng: random.Random, submissions: int) -> None:
        for _ in range(submissions):
            created = self._store.create_jobs([new_job(max_attempts=2)] * rng.choice([1, 1, 3]))
            self._recorder.mark({each.job.id: _THERE for each in created})
            job_id = created[0].job.id
            try:
                if rng.random() < 0.2:
                    self._tell([self._store.cancel_job(job_id)])
                    self._recorder.mark({job_id: _DOOMED})
                    self._store.delete_job(job_id)
                    self._recorder.mark({job_id: None})
            except StoreClosed:
                raise
            except StoreError:  # It runs, or has ended.
                self._tell([self._store.get_job(job_id)])

    def _run(self, rng: random.Random) -> None:
        while True:
            due = [each.id for each in self._store.reserve_jobs("default", 5, OURS).jobs]
            job = self._store.claim_job(due.pop(), OURS) if due else None
            while job is not None:
                following = (due.pop(), OURS) if due else None
                outcome = rng.choice(_OUTCOMES)
                try:
                    job = self._store.finish_job(job.id, job.attempt, outcome, claim_next=following).next_job
                except StaleAttempt:
                    break

    def _look(self, rng: random.Random) -> None:
        while True:
            if rng.random() < 0.3:
                self._tell(self._store.list_jobs(EVERYTHING, 20).jobs)
            jobs = self._store.list_jobs(EVERYTHING, 3).jobs
            try:
                self._tell([self._store.get_job(job.id) for job in jobs])
            except JobNotFound:
                continue

    def _keep(self, rng: random.Random) -> None:
        while True:
            self._store.maintain()
            self._store.flush()

    def _tell(self, jobs: Sequence[Job]) -> None:
        """Final jobs stay as they are; a job is never deleted by any but its submitter, who knows."""
        self._recorder.mark({job.id: _end(job) for job in jobs if job.status.is_final})


def cut_somewhere(events: list[Event], directory: Path, seed: int, cuts: int) -> Iterator[str | None]:
    """Cut the power so often, anywhere; the complaint or None, for each cut."""
    rng = random.Random(seed)
    places = set(rng.sample(range(len(events)), min(cuts, len(events))))
    remains, facts = Remains(), dict[str, Fact]()
    for number, event in enumerate(events):
        remains.take(event)
        if isinstance(event, Mark):
            assert isinstance(event.told, dict)
            for job_id, fact in event.told.items():
                # A reader may tell of a job that is being deleted meanwhile.
                if fact is None or facts.get(job_id, _THERE) not in (None, _DOOMED):
                    facts[job_id] = fact
        if number in places and remains.told is not None:
            lost = rng.choice([ALL, WRITES, SECTORS])
            complaint = _complaint(remains.after_cut(lost, rng), directory, facts)
            yield complaint and f"event {number}, {lost} lost: {complaint}"


def _complaint(files: dict[str, bytes], directory: Path, facts: dict[str, Fact]) -> str | None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    path = directory / "gofer.db"
    try:
        store = look_into(path, FakeClock())
    except Exception as error:
        return f"it does not start: {error!r}"
    try:
        wrong = [fault for job_id, fact in facts.items() if (fault := _contradiction(store, job_id, fact))]
    finally:
        store.close()
    return "; ".join([*wrong[:3], *check_file(path)]) or None


def _contradiction(store: SqliteStore, job_id: str, fact: Fact) -> str | None:
    try:
        found = store.get_job(job_id)
    except JobNotFound:
        return None if fact in (None, _DOOMED) else f"job {job_id} was {fact}, and is gone"
    if fact is None:
        return f"job {job_id} was deleted, and is {found.status}"
    return None if fact in (_THERE, _DOOMED, _end(found)) else f"job {job_id} was {fact}, and is {_end(found)}"


def _end(job: Job) -> str:
    return f"{job.status} at attempt {job.attempt}"
