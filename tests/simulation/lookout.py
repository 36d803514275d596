"""Looks around in a simulation whenever everything rests, and says what should have been done by then."""

from store.job import JobStatus
from tests.simulation.ledger import KnownJob, Ledger, Life
from tests.simulation.task import Process, Task
from worker.engine import Engine
from worker.reaper import INTERVAL
from worker.running import Run

#: Seconds after which a due job has been taken by some instance with a free worker, whatever went
#: wrong before: a lease, a turn of the reaper and a look of the self-check, or a look of the dispatcher.
_LONGEST_NEGLECT = 75.0
#: Seconds within which an outcome is flushed, and what a handler said is stored.
_FLUSH, _NOTES = 0.1, 1.0
#: Seconds past its timeout after which a handler's thread is abandoned, unless the engine is told otherwise.
_GRACE = 5.0
#: Seconds between two looks of a request that waits for what another instance does.
_CLIENT_CHECK = 1.0
#: Seconds: at once, but for the rounding of numbers.
_PROMPT = 0.001


class Lookout:
    """What is to be done at once is done when nobody can run; what is to be done within a time, by then."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        ledger.scheduler.on_rest = self.look_around

    def look_around(self) -> None:
        """Nobody can run, so whatever was to be done at once is done."""
        takers = {name: self._takers(name) for name in {known.job.queue for known in self._ledger.jobs.values()}}
        for known in self._ledger.jobs.values():
            self._check_neglect(known, takers[known.job.queue])
        for job_id in self._ledger.acknowledged:
            if job_id not in self._ledger.store._records:
                self._ledger.fail(f"{job_id} was acknowledged and is gone")
        for life in self._ledger.lives.values():
            if life.engine and life.runs:
                for run in life.engine._parts.running._runs.values():
                    self._check_told(life, run)
                if life.troubled_until < self._ledger.scheduler.now:
                    self._check_lateness(life, life.engine)
                else:
                    life.unnoted_since = None  # Nobody looks now, so the next look is the first.

    def _check_lateness(self, life: Life, engine: Engine) -> None:
        """What is to be done within a time, in an instance that is well."""
        now = self._ledger.scheduler.now
        if life.unflushed_since is not None and now > life.unflushed_since + _FLUSH:
            self._ledger.fail(f"{life.process} has not flushed an outcome for {now - life.unflushed_since:g} s")
        for run in engine._parts.running._runs.values():
            late = self._ledger.clock.monotonic() - run.deadline
            if late > _PROMPT and not run.taken and run.reason is None:
                self._ledger.fail(f"attempt {run.job.attempt} of {run.job.id} was not told that its time is up")
            if late > _GRACE + _PROMPT and not run.taken:
                self._ledger.fail(f"attempt {run.job.attempt} of {run.job.id} was not abandoned")
        self._check_notes(life, engine)

    def _check_told(self, life: Life, run: Run) -> None:
        """A handler is told to end at once when its job is cancelled here, and soon when its lease is lost."""
        known, now = self._ledger.jobs.get(run.job.id), self._ledger.scheduler.now
        claim = known.claims.get(run.job.attempt) if known else None
        if claim is None or run.taken or run.reason is not None:
            return
        if claim.cancelled_at is not None and now > claim.cancelled_at + _PROMPT:
            self._ledger.fail(f"attempt {run.job.attempt} of {run.job.id} was not told that it is cancelled")
        if claim.over_at is not None and now > max(claim.over_at, life.last_trouble) + INTERVAL + _PROMPT:
            self._ledger.fail(f"attempt {run.job.attempt} of {run.job.id} was not told that its lease is lost")

    def _check_notes(self, life: Life, engine: Engine) -> None:
        now = self._ledger.scheduler.now
        if not any(run.notes for run in engine._parts.running._runs.values()):
            life.unnoted_since = None
        elif life.unnoted_since is None:
            life.unnoted_since = now
        elif now > life.unnoted_since + _NOTES:
            self._ledger.fail(f"{life.process} has not stored what a handler said {now - life.unnoted_since:g} s ago")

    def _check_neglect(self, known: KnownJob, takers: list[Life]) -> None:
        job = known.job
        waits = job.status is JobStatus.PENDING and self._ledger.is_due(known, -_PROMPT) and not job.suspect
        if not waits or not takers or job.queue in self._ledger.store._paused:
            known.neglected_since = None
            return
        owner, until = self._ledger.held.get(job.id, ("", 0.0))
        knower = owner or (known.knower.name if known.knower else "")
        for life in takers:
            if life.process.name == knower and life.troubled_until < self._ledger.scheduler.now:
                self._ledger.fail(f"{job.id} is due, {knower} has it in hand and a worker free, and does nothing")
        if owner and until > self._ledger.clock.monotonic() and self._is_busy(owner):
            known.neglected_since = None  # It waits in the buffer of somebody who has no worker free.
        elif known.neglected_since is None:
            known.neglected_since = self._ledger.scheduler.now
        elif self._ledger.scheduler.now - known.neglected_since > _LONGEST_NEGLECT:
            self._ledger.fail(f"{job.id} is due for {_LONGEST_NEGLECT:g} s, workers are free, and nobody takes it")

    def _is_busy(self, owner: str) -> bool:
        """Whether this process lives; one with a free worker was found out before."""
        return any(life.process.name == owner and life.runs for life in self._ledger.lives.values())

    def _takers(self, queue: str) -> list[Life]:
        """The processes that have a worker of this queue free."""
        return [life for life in self._ledger.lives.values() if _has_free_worker(life, queue)]

    def check_wait(self, process: Process, job_id: str, begun: float) -> None:
        """A client was told just now, by this process, that the job is final."""
        known, now = self._ledger.jobs.get(job_id), self._ledger.scheduler.now
        if known is None or self._ledger.was_frozen_since(process, begun):
            return
        patience = 0.0 if known.finisher is process else _CLIENT_CHECK
        if now > max(begun, known.final_at) + patience + _PROMPT:
            self._ledger.fail(f"a client of {process} heard at {now:g} that {job_id} was final at {known.final_at:g}")

    def check_stopped(self, process: Process, begun: float) -> None:
        """A shutdown that began then has ended in order: nothing is left to run out."""
        if self._ledger.life(process).last_trouble >= begun:
            return
        for known in self._ledger.jobs.values():
            job, claim = known.job, known.claims.get(known.job.attempt)
            if job.status is JobStatus.PROCESSING and claim and claim.process is process:
                self._ledger.fail(f"{process} has stopped and left {job.id} processing")
        if held := [job_id for job_id, (owner, _) in self._ledger.held.items() if owner == process.name]:
            self._ledger.fail(f"{process} has stopped and still holds {held}")


def _has_free_worker(life: Life, queue: str) -> bool:
    """Looks past the locks: whoever takes one may let others run, and now nobody can."""
    if life.engine is None or life.is_stopping or not life.runs:
        return False
    parts = life.engine._parts
    if not parts.dispatcher._open:
        return False
    not_empty = parts.queues[queue]._buffer.not_empty
    threads = [worker._thread for worker in parts.pools[queue]._members]
    tasks: list[Task] = [thread.task for thread in threads]  # type: ignore[attr-defined]
    return any(task.waits_on is not_empty for task in tasks)
