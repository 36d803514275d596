"""Watches every operation of the store, and says when one broke a promise."""

from typing import Any

import msgspec
from msgspec.structs import replace

from store.job import Job, JobStatus
from tests.simulation.ledger import Claim, KnownJob, Ledger
from tests.simulation.task import Process

#: Who may change a job from one status to another.
_OPERATIONS = {
    (JobStatus.PENDING, JobStatus.PROCESSING): {"claim_job", "finish_job"},
    (JobStatus.PENDING, JobStatus.CANCELLED): {"cancel_job"},
    (JobStatus.PROCESSING, JobStatus.PENDING): {"finish_job", "release_expired", "recover"},
    (JobStatus.PROCESSING, JobStatus.COMPLETED): {"finish_job"},
    (JobStatus.PROCESSING, JobStatus.FAILED): {"finish_job", "release_expired", "recover"},
    (JobStatus.PROCESSING, JobStatus.CANCELLED): {"finish_job", "release_expired", "recover"},
    (JobStatus.FAILED, JobStatus.PENDING): {"retry_job"},
    (JobStatus.CANCELLED, JobStatus.PENDING): {"retry_job"},
    (JobStatus.PENDING, JobStatus.PENDING): {"release_suspects", "resume_queue", "recover"},
    (JobStatus.PROCESSING, JobStatus.PROCESSING): {"record_notes", "cancel_job", "end_solitude", "resume_queue"},
}


class Witness:
    """Compares the store before and after each operation."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def look(self, process: Process, operation: str, arguments: tuple[Any, ...]) -> None:
        """Compare the store with how it was before the operation."""
        records = self._ledger.store._records
        for job_id, record in records.items():
            known = self._ledger.jobs.get(job_id)
            if known is None:
                known = self._ledger.jobs[job_id] = KnownJob(record.job, knower=process)
                self._ledger.note_reckoned(known)
                self._check_new(record.job, operation)
            elif known.job is not record.job:
                old, known.job = known.job, record.job
                if old.run_at != record.job.run_at and replace(old, run_at=record.job.run_at) == record.job:
                    self._ledger.check_moved(known)
                else:
                    self._check_change(known, old, process, operation, arguments)
        if len(records) < len(self._ledger.jobs):
            self._check_gone(operation)
        self._note_leases(process, operation, arguments)
        if operation == "flush":
            self._ledger.life(process).unflushed_since = None

    def _check_new(self, job: Job, operation: str) -> None:
        if operation != "create_jobs" or job.status is not JobStatus.PENDING or job.attempt:
            self._ledger.fail(f"a job came to be by {operation}: {job}")

    def _check_change(
        self, known: KnownJob, old: Job, process: Process, operation: str, arguments: tuple[Any, ...]
    ) -> None:
        new = known.job
        self._tell(process, operation, old, new)
        if operation not in _OPERATIONS.get((old.status, new.status), ()):
            self._ledger.fail(
                f"{operation} made of a job that was {old.status} one that is {new.status}: {old} -> {new}"
            )
        if new.failures > new.max_attempts:
            self._ledger.fail(f"more attempts failed than may: {new}")
        if new.attempt != old.attempt + (new.status is JobStatus.PROCESSING and old.status is JobStatus.PENDING):
            self._ledger.fail(f"{operation} changed the attempt from {old.attempt} to {new.attempt}: {new.id}")
        if new.status is JobStatus.PENDING:
            known.knower = process
            self._ledger.note_reckoned(known, old)
        if new.status.is_final:
            known.final_at, known.finisher = self._ledger.scheduler.now, process
        if operation == "cancel_job" and new.status is JobStatus.PROCESSING:
            claim = known.claims[new.attempt]
            claim.cancelled_at = self._ledger.scheduler.now if claim.process is process else None
        if old.status is JobStatus.PENDING and new.status is JobStatus.PROCESSING:
            self._check_claim(known, process)
        if old.status is JobStatus.PROCESSING and new.status is not JobStatus.PROCESSING:
            self._check_end(known, old, process, operation, arguments)

    def _check_claim(self, known: KnownJob, process: Process) -> None:
        job = known.job
        if job.attempt in known.claims:
            self._ledger.fail(f"attempt {job.attempt} of {job.id} was claimed twice")
        if not job.alone and not self._ledger.is_due(known):
            self._ledger.fail(f"{job.id} was claimed before its time")
        if job.queue in self._ledger.store._paused:
            self._ledger.fail(f"{job.id} was claimed though its queue is paused")
        owner, until = self._ledger.held.get(job.id, ("", 0.0))
        if owner not in ("", process.name) and until > self._ledger.clock.monotonic():
            self._ledger.fail(f"{job.id} was claimed by {process} though {owner} holds it")
        known.claims[job.attempt] = Claim(process, self._ledger.scheduler.now)

    def _check_end(
        self, known: KnownJob, old: Job, process: Process, operation: str, arguments: tuple[Any, ...]
    ) -> None:
        job = known.job
        claim = known.claims[old.attempt]
        claim.over_at = self._ledger.scheduler.now
        if operation == "finish_job":
            life = self._ledger.life(process)
            life.unflushed_since = self._ledger.scheduler.now if life.unflushed_since is None else life.unflushed_since
            if arguments[1] != old.attempt or claim.process is not process:
                self._ledger.fail(
                    f"attempt {arguments[1]} of {job.id}, run by {process}, ended attempt {old.attempt},"
                    f" which {claim.process} runs"
                )
        elif not self._is_excused(claim):
            self._ledger.fail(
                f"{process} ended attempt {old.attempt} of {job.id} by {operation}, but {claim.process} is well"
            )
        if operation == "release_expired" and job.failures != old.failures + 1:
            self._ledger.fail(f"a crashed attempt does not count: {job}")
        if old.cancel_requested and not job.status.is_final:
            self._ledger.fail(f"a cancel was forgotten: {job}")
        if job.status is JobStatus.COMPLETED and msgspec.json.decode(job.result or b"") != {"attempt": job.attempt}:
            self._ledger.fail(
                f"{job.id} completed at attempt {job.attempt} with the result of another one: {job.result!r}"
            )

    def _is_excused(self, claim: Claim) -> bool:
        """Whether its process could not keep up the lease of this attempt. A store that fails at times is no reason."""
        life = self._ledger.life(claim.process)
        return not life.runs or life.has_failed or life.last_thaw >= claim.at

    def _check_gone(self, operation: str) -> None:
        for job_id in [job_id for job_id in self._ledger.jobs if job_id not in self._ledger.store._records]:
            job = self._ledger.jobs.pop(job_id).job
            self._ledger.acknowledged.pop(job_id, None)
            self._ledger.deleted.add(job_id)
            if operation not in ("delete_job", "delete_finished") or not job.status.is_final:
                self._ledger.fail(f"{operation} lost a job: {job}")

    def _note_leases(self, process: Process, operation: str, arguments: tuple[Any, ...]) -> None:
        held = self._ledger.store._leases._held
        if held == self._ledger.held and operation not in ("resume_queue", "recover"):
            return
        freed = set(self._ledger.held) - set(held)
        if operation == "resume_queue":
            freed.update(known.job.id for known in self._ledger.jobs.values() if known.job.queue == arguments[0])
        elif operation == "recover":
            freed.update(self._ledger.jobs.keys() - held.keys())
        for job_id in freed & self._ledger.jobs.keys():
            self._ledger.jobs[job_id].knower = process
        for job_id in self._ledger.jobs:
            before, after = self._ledger.held.get(job_id, ("nobody", 0.0))[0], held.get(job_id, ("nobody", 0.0))[0]
            if before != after:
                self._ledger.say(f"{process} {operation}: {job_id[-4:]} is held by {after}")
                self._ledger.jobs[job_id].neglected_since = None  # Whoever has it now begins anew.
        self._ledger.held = held.copy()

    def _tell(self, process: Process, operation: str, old: Job, new: Job) -> None:
        what = f"{old.status} {old.attempt} -> {new.status} {new.attempt}"
        self._ledger.say(f"{process} {operation}: {new.id[-4:]} {what}")
