"""Watches which handlers are called, and what runs beside what."""

from store.job import Job
from tests.simulation.ledger import Ledger
from tests.simulation.task import Process


class Executions:
    """Told by the handlers themselves."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def begin(self, process: Process, job_id: str, attempt: int) -> None:
        """A handler is called."""
        fail = self._ledger.fail
        known = self._ledger.jobs.get(job_id)
        claim = known.claims.get(attempt) if known else None
        if known is None or claim is None:
            fail(f"attempt {attempt} of {job_id} runs, but no claim of it is stored")
        if claim.begun:
            fail(f"attempt {attempt} of {job_id} runs twice")
        if claim.process is not process:
            fail(f"attempt {attempt} of {job_id} runs in {process}, but {claim.process} claimed it")
        claim.begun = True
        for number, other in known.claims.items():
            is_running = number < attempt and other.begun and not other.ended
            if is_running and not self._ledger.may_linger(job_id, number, other):
                fail(f"attempt {attempt} of {job_id} runs beside attempt {number}")
        self._check_solitude(process, known.job)

    def end(self, job_id: str, attempt: int) -> None:
        """A handler has returned or raised."""
        if (known := self._ledger.jobs.get(job_id)) and not self._ledger.scheduler.is_ending:
            known.claims[attempt].ended = True

    def _check_solitude(self, process: Process, job: Job) -> None:
        """A suspect has nothing beside it in its process until it is cleared."""
        for other in self._ledger.jobs.values():
            if other.job is job or not (job.alone or other.job.alone):
                continue
            for number, claim in other.claims.items():
                is_running = claim.process is process and claim.begun and not claim.ended
                if is_running and not self._ledger.may_linger(other.job.id, number, claim):
                    self._ledger.fail(f"{job.id} and {other.job.id} run beside each other, and one is to be alone")
