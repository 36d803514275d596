"""Many threads at one store, on a disk that fails: whatever one of them was told is what the file holds."""

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from store.errors import OutcomeUnknown, StoreUnavailable
from store.job import Job, JobStatus
from store.sqlite import SqliteStore
from store.transitions import Outcome
from tests.fake_clock import FakeClock
from tests.store.race import race
from tests.store.recount import check_counts
from tests.store.samples import DONE, FAILED, FAILED_FOR_GOOD, OURS, all_jobs
from tests.store.sqlite.faults.faults import WAYS, Fault, Faults
from tests.store.sqlite.faults.script import LOG_LINES, job, label_of
from tests.store.sqlite.faults.system_calls import descriptor_sync, intercepted
from tests.store.sqlite.faults.trial import small_files
from tests.store.sqlite.faults.whole import check_file, look_into

_SUBMITTERS = 3
#: How many calls with submissions each submitter makes.
_SUBMISSIONS = 12
#: Calls of a kind, counted from the first submission, of which one fails.
_CALLS = 40

_OUTCOMES: list[Outcome] = [DONE, FAILED, FAILED_FOR_GOOD]


class Throng:
    """Threads that submit, run jobs and keep house. What they were told is appended to lists, which needs no lock."""

    def __init__(self, path: Path, faults: Faults, seed: int) -> None:
        self._seed = seed
        self._path = path
        sync = descriptor_sync(faults)
        self._store = SqliteStore(path, FakeClock(), random.Random(seed), sync, log_lines=LOG_LINES, fsync=sync)
        self._ended: list[int] = []
        #: The labels of jobs of one submission, which were stored, not stored, or nobody knows.
        self.stored: list[list[str]] = []
        self.refused: list[list[str]] = []
        self.unknown: list[list[str]] = []
        #: Jobs that were claimed or ended: label, attempt and status.
        self.runs: list[tuple[str, int, JobStatus]] = []
        #: Jobs of which nobody knows whether they were claimed, by id, or ended, by label.
        self.unsure: list[str] = []

    def work(self, crashed: Path) -> None:
        """Have all of them work until everything is submitted; then copy the files, and close the store."""
        submitters = [self._submitter(number) for number in range(_SUBMITTERS)]
        race([*submitters, self._runner(1), self._runner(2), self._keep_house])
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{self._path}{suffix}", f"{crashed}{suffix}")
        with contextlib.suppress(OutcomeUnknown):  # It is closed then, too.
            self._store.close()

    @property
    def _is_busy(self) -> bool:
        return len(self._ended) < _SUBMITTERS

    def _submitter(self, number: int) -> Callable[[], None]:
        rng = random.Random(f"{self._seed} submitter {number}")

        def submit() -> None:
            for turn in range(_SUBMISSIONS):
                labels = [f"{number} {turn} {each}" for each in range(rng.choice([1, 1, 3]))]
                try:
                    self._store.create_jobs([job(label, max_attempts=2) for label in labels])
                    self.stored.append(labels)
                except OutcomeUnknown:
                    self.unknown.append(labels)
                except StoreUnavailable:
                    self.refused.append(labels)

        def run() -> None:
            try:
                submit()
            finally:
                self._ended.append(number)

        return run

    def _runner(self, number: int) -> Callable[[], None]:
        rng = random.Random(f"{self._seed} runner {number}")

        def run() -> None:
            while self._is_busy:
                try:
                    due = self._store.reserve_jobs("default", 5, OURS).jobs
                except StoreUnavailable:
                    continue
                for each in due:
                    self._run(each.id, rng.choice(_OUTCOMES))

        return run

    def _run(self, job_id: str, outcome: Outcome) -> None:
        """Run a job; if its end is refused, it stays as it is: another try would say no more."""
        claimed: Job | None = None
        try:
            claimed = self._store.claim_job(job_id, OURS)
            if claimed is None:
                return
            label = label_of(claimed)
            self.runs.append((label, claimed.attempt, JobStatus.PROCESSING))
            finished = self._store.finish_job(job_id, claimed.attempt, outcome)
            self.runs.append((label, claimed.attempt, finished.status))
        except OutcomeUnknown:
            self.unsure.append(job_id if claimed is None else label_of(claimed))
        except StoreUnavailable:
            pass

    def _keep_house(self) -> None:
        while self._is_busy:
            with contextlib.suppress(StoreUnavailable):
                self._store.maintain()
                self._store.flush()


def try_throng(directory: Path, seed: int) -> tuple[str, bool, list[str]]:
    """Many threads meet one fault; which it was, whether it struck, and which promises were broken."""
    directory.mkdir()
    rng = random.Random(seed)
    kind = rng.choice(["write", "write", "sync", "sync", "lock", "unlock", "read", "truncate"])
    fault = Fault(kind, rng.randint(1, _CALLS), rng.choice(WAYS[kind]), lasting=rng.random() < 0.5)
    faults = Faults()
    with small_files(), intercepted(faults):
        throng = Throng(directory / "gofer.db", faults, seed)
        faults.arm(fault)
        throng.work(directory / "crashed.db")
    found = [
        f"{name}: {complaint}"
        for name in ("crashed.db", "gofer.db")
        for complaint in _complaints(throng, directory / name)
    ]
    return str(fault), faults.failed > 0, found


def _complaints(throng: Throng, path: Path) -> Iterator[str]:
    clock = FakeClock()
    store = look_into(path, clock)
    try:
        jobs = {label_of(each): each for each in all_jobs(store)}
        check_counts(store, clock)
    finally:
        store.close()
    yield from check_file(path)
    yield from _wrong_submissions(throng, set(jobs))
    yield from _wrong_runs(throng, jobs)


def _wrong_submissions(throng: Throng, there: set[str]) -> Iterator[str]:
    yield from (f"{labels} were stored, and are gone" for labels in throng.stored if not there.issuperset(labels))
    yield from (f"{labels} were refused, and are there" for labels in throng.refused if there.intersection(labels))
    for labels in throng.unknown:
        if len(there.intersection(labels)) not in (0, len(labels)):
            yield f"a part of {labels} is there"


def _wrong_runs(throng: Throng, jobs: dict[str, Job]) -> Iterator[str]:
    # Of one attempt, its end is told after its begin.
    told = dict.fromkeys(jobs, (0, JobStatus.PENDING))
    for label, attempt, status in throng.runs:
        if attempt >= told[label][0]:
            told[label] = (attempt, status)
    for label, found in jobs.items():
        if not {label, found.id}.intersection(throng.unsure) and (found.attempt, found.status) != told[label]:
            yield f"{label} was {told[label]}, and is {found.attempt}, {found.status}"
