"""Writes the outcome of an attempt, and notifies all that depends on it."""

import logging

from store.errors import StaleAttempt, StoreUnavailable
from store.job import JobError, JobStatus
from store.leases import Lease
from store.protocol import Finished, JobStore
from store.transitions import Failed, Outcome
from worker.dispatcher import Dispatcher
from worker.job_watch import JobWatch
from worker.recorder import Recorder
from worker.running import Run, RunningJobs
from worker.syncer import Syncer

log = logging.getLogger(__name__)


class Finisher:
    """The one way in which attempts of this process end. Safe to use from any thread."""

    def __init__(
        self,
        *,
        store: JobStore,
        lease: Lease,
        running: RunningJobs,
        recorder: Recorder,
        dispatcher: Dispatcher,
        finals: JobWatch,
        logs: JobWatch,
        syncer: Syncer,
    ) -> None:
        """``finals`` hears of jobs that became final, ``logs`` of others whose log has new lines."""
        self._store = store
        self._lease = lease
        self._running = running
        self._recorder = recorder
        self._dispatcher = dispatcher
        self._finals = finals
        self._logs = logs
        self._wake_syncer = syncer.loop.wake

    def finish(self, run: Run, outcome: Outcome, next_id: str | None = None) -> Finished | None:
        """End a run that the caller took, and claim ``next_id`` in the same operation.

        None when the attempt was not the current one any more: nothing was written or claimed.
        Raises StoreUnavailable; then it may be called again, and loses nothing.
        """
        claim_next = (next_id, self._lease) if next_id is not None else None
        try:
            finished = self._write(run, outcome, claim_next)
        except StaleAttempt as error:
            log.warning("an outcome was refused: %s", error)
            self._running.remove(run)
            return None
        except StoreUnavailable:
            raise
        except BaseException:
            # Renewed no longer, the lease runs out, and the job is taken up again.
            self._running.remove(run)
            raise
        self._running.remove(run)
        if finished.status is not JobStatus.PENDING:
            self._finals.announce(run.job.id)
        else:
            if run.last_notes and run.last_notes.lines:
                self._logs.announce(run.job.id)
            if finished.run_at is not None:
                self._dispatcher.note_due(run.job.queue, finished.run_at)
        if isinstance(outcome, Failed):
            _log_failure(run, outcome, finished)
        self._wake_syncer()
        return finished

    def _write(self, run: Run, outcome: Outcome, claim_next: tuple[str, Lease] | None) -> Finished:
        job = run.job
        if run.last_notes is None:
            run.last_notes = self._recorder.take_last(run)
        notes = run.last_notes
        try:
            return self._store.finish_job(
                job.id,
                job.attempt,
                outcome,
                lines=notes.lines,
                skipped=notes.skipped,
                progress=notes.progress,
                claim_next=claim_next,
            )
        except (StaleAttempt, StoreUnavailable):
            raise
        except Exception as error:
            # The store cannot keep this outcome, now or ever. One that it can keep must end the
            # attempt, or the job would stay in processing for good.
            log.exception("the outcome of job %s cannot be stored", job.id)
            reason = JobError("OutcomeRefused", f"the outcome cannot be stored: {type(error).__name__}: {error}")
            return self._store.finish_job(job.id, job.attempt, Failed(reason), claim_next=claim_next)


def _log_failure(run: Run, outcome: Failed, finished: Finished) -> None:
    job, error = run.job, outcome.error
    reason = error.message.partition("\n")[0]
    if finished.status is JobStatus.FAILED:
        log.warning(
            "job %s (%s) failed for good at attempt %d: %s: %s", job.id, job.type, job.attempt, error.type, reason
        )
    else:
        log.info("attempt %d of job %s (%s) failed: %s: %s", job.attempt, job.id, job.type, error.type, reason)
