"""What is known of a simulation from outside: its jobs, their attempts, and its processes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from store.job import AttemptStatus, Job, JobStatus
from store.memory import MemoryStore
from tests.simulation.scheduler import Scheduler
from tests.simulation.sim_clock import SimClock
from tests.simulation.task import Process
from worker.engine import Engine

#: Seconds in which an instance may be late after the store failed it, or after it stood still: the
#: longest rest of a loop, and a turn of the reaper.
_RECOVERY = 16.0
#: The same after a jump of the wall clock: two looks of the maintainer.
_AFTER_JUMP = 2.1
#: Seconds: instants are rounded, durations are not.
_ROUNDING = 0.001


@dataclass
class Life:
    """One process."""

    process: Process
    #: None until it has started.
    engine: Engine | None = None
    is_stopping: bool = False
    #: Until then, it may be late.
    troubled_until: float = 0.0
    #: When the store failed it, or it went on after it was frozen; and when the latter.
    last_trouble: float = -1.0
    last_thaw: float = -1.0
    #: The store fails it for good, so it is about to end.
    has_failed: bool = False
    #: Since when there is an outcome that is not flushed, or a note that is not stored; None if there is none.
    unflushed_since: float | None = None
    unnoted_since: float | None = None

    @property
    def runs(self) -> bool:
        """Whether its threads run."""
        return not self.process.dead and not self.process.frozen


@dataclass
class Claim:
    """One attempt."""

    process: Process
    at: float
    #: Its handler was called.
    begun: bool = False
    #: Its handler has returned or raised.
    ended: bool = False
    #: When its process was asked to cancel it; None if it was not.
    cancelled_at: float | None = None
    #: When its end was stored; None while it is the job's current one.
    over_at: float | None = None


@dataclass
class KnownJob:
    """One job, as it was when last looked at."""

    job: Job
    #: By the number of the attempt.
    claims: dict[int, Claim] = field(default_factory=dict)
    #: When its time has come, whatever the wall clock shows; None if it waits for an instant of that.
    due_at: float | None = None
    #: The process that made it due without reserving it, and so is to see to it.
    knower: Process | None = None
    #: When it became final, and in which process.
    final_at: float = 0.0
    finisher: Process | None = None
    #: Since when it is due while somebody could take it; None while it is not.
    neglected_since: float | None = None


class Ledger:
    """Written by all who do or see something, read by all who check something."""

    def __init__(self, scheduler: Scheduler, clock: SimClock, store: MemoryStore, say: Callable[[str], None]) -> None:
        self.scheduler = scheduler
        self.clock = clock
        self.store = store
        self.say = say
        self.jobs: dict[str, KnownJob] = {}
        self.lives: dict[Process, Life] = {}
        #: The owner of each lease and when it runs out, as they were when last looked at.
        self.held: dict[str, tuple[str, float]] = {}
        #: Jobs that a client was told of and nobody has deleted.
        self.acknowledged: dict[str, None] = {}
        self.deleted: set[str] = set()
        self._keys: dict[str, str] = {}

    def fail(self, why: str) -> NoReturn:
        """A promise is broken."""
        self.scheduler.fail(why)

    def life(self, process: Process) -> Life:
        """What is known of a process."""
        return self.lives.setdefault(process, Life(process))

    def note_trouble(self, process: Process) -> None:
        """The store failed it."""
        life = self.life(process)
        life.last_trouble = self.scheduler.now
        life.troubled_until = max(life.troubled_until, self.scheduler.now + _RECOVERY)

    def note_failure(self, process: Process) -> None:
        """The store fails it for good."""
        self.note_trouble(process)
        self.life(process).has_failed = True

    def note_thaw(self, process: Process) -> None:
        """It goes on after it was frozen."""
        self.note_trouble(process)
        self.life(process).last_thaw = self.scheduler.now

    def note_jump(self) -> None:
        """The wall clock jumped."""
        for life in self.lives.values():
            life.troubled_until = max(life.troubled_until, self.scheduler.now + _AFTER_JUMP)

    def note_reckoned(self, known: KnownJob, before: Job | None = None) -> None:
        """The job is pending, and was not ``before``: its ``run_at`` was reckoned just now."""
        if before and before.status is JobStatus.PENDING:
            return
        known.due_at = None if known.job.run_at_given else self.scheduler.now + self._seconds_to(known.job)

    def check_moved(self, known: KnownJob) -> None:
        """The job was moved along with the wall clock: its time comes when it would have come."""
        if known.due_at is None:
            self.fail(f"the client said when {known.job.id} is to run, and it was moved")
        comes = self.scheduler.now + self._seconds_to(known.job)
        if abs(comes - known.due_at) > _ROUNDING:
            self.fail(f"{known.job.id} is to run at {known.due_at:g}, and was moved to {comes:g}")

    def _seconds_to(self, job: Job) -> float:
        return (job.run_at - self.clock.now()).total_seconds()

    def is_due(self, known: KnownJob, tolerance: float = _ROUNDING) -> bool:
        """Whether its time has come, or will within so many seconds."""
        left = self._seconds_to(known.job) if known.due_at is None else known.due_at - self.scheduler.now
        return left <= tolerance

    def was_frozen_since(self, process: Process, instant: float) -> bool:
        """Whether it stood still."""
        return process.frozen or self.life(process).last_thaw >= instant

    def acknowledge(self, job: Job, key: str | None) -> None:
        """A client was told that there is this job, which another one may have deleted since."""
        if job.id not in self.deleted:
            self.acknowledged[job.id] = None
        if key is None:
            return
        known = self._keys.get(key)
        if known != job.id and known in self.jobs:
            self.fail(f"the key {key} made a second job, {job.id}, beside {known}")
        self._keys[key] = job.id

    def may_linger(self, job_id: str, attempt: int, claim: Claim) -> bool:
        """Whether an attempt's handler may still run though it is over: its thread was abandoned, or its lease lost."""
        if claim.process.dead or self._is_abandoned(claim.process, job_id, attempt):
            return True
        ends = [each.status for each in self.store._records[job_id].attempts if each.attempt == attempt]
        return ends in ([AttemptStatus.TIMED_OUT], [AttemptStatus.INTERRUPTED], [AttemptStatus.CRASHED])

    def _is_abandoned(self, process: Process, job_id: str, attempt: int) -> bool:
        """Whether the end of the attempt is about to be written by another thread than its own."""
        engine = self.life(process).engine
        run = engine._parts.running._runs.get(job_id) if engine else None
        return run is not None and run.job.attempt == attempt and run.abandoned
