"""Faults to plant in the engine or its store: each undoes one thing that keeps a promise.

The simulation must find each of them, or it would not find one that nobody has planted.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from store import transitions
from store.job import Job, JobStatus
from store.leases import Lease
from store.memory import MemoryStore
from worker.dispatcher import Dispatcher
from worker.job_queue import JobQueue
from worker.loop import Loop
from worker.maintainer import Maintainer
from worker.reaper import Reaper


@contextmanager
def _in_place_of(owner: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _no_fencing() -> AbstractContextManager[None]:
    """Whoever says that an attempt has ended is believed, whichever attempt runs now."""

    def is_current(job: Job, attempt: int) -> bool:
        return job.status is JobStatus.PROCESSING

    return _in_place_of(transitions, "is_current", is_current)


def _claim_before_commit() -> AbstractContextManager[None]:
    """A claim is answered before it is stored: the store takes it with its next claim."""
    claim_job = MemoryStore.claim_job
    uncommitted: dict[int, Callable[[], object]] = {}

    def answer(self: MemoryStore, job_id: str, lease: Lease, *, alone: bool = False) -> Job | None:
        uncommitted.pop(id(self), lambda: None)()
        with self._open():
            record, now = self._records.get(job_id), self._moment.now
        may = record and self._may_claim_locked(record.job, lease.owner, now, alone=alone)
        if not record or not may:
            return claim_job(self, job_id, lease, alone=alone)
        uncommitted[id(self)] = lambda: claim_job(self, job_id, lease, alone=alone)
        return transitions.claimed(record.job, now, alone=alone)

    return _in_place_of(MemoryStore, "claim_job", answer)


def _lost_wake_up() -> AbstractContextManager[None]:
    """A loop forgets at the end of its turn that it was woken, not at the beginning."""
    take_turn = Loop._take_turn

    def take_turn_and_forget(self: Loop) -> tuple[float, float | None]:
        taken = take_turn(self)
        self._woken = False
        return taken

    return _in_place_of(Loop, "_take_turn", take_turn_and_forget)


def _forgotten_offer() -> AbstractContextManager[None]:
    """What is offered while the dispatcher feeds a queue, and refused, is not remembered for the end of the feed."""
    return _in_place_of(JobQueue, "_set_aside_locked", lambda *_: None)


def _lease_not_renewed() -> AbstractContextManager[None]:
    """The reaper renews no lease."""
    return _in_place_of(Reaper, "_renew", lambda _: None)


def _clock_not_followed() -> AbstractContextManager[None]:
    """Nothing is moved along when the wall clock is set."""
    return _in_place_of(transitions, "moved", lambda job, by, now: job)


def _clock_not_noticed() -> AbstractContextManager[None]:
    """The store moves jobs along, and nobody tells the dispatcher that times have changed."""
    return _in_place_of(Maintainer, "_look", lambda _: None)


def _late_release() -> AbstractContextManager[None]:
    """What is to be given back when the dispatcher has ended is left to it."""
    return _in_place_of(Dispatcher, "end", Dispatcher._release_pending)


#: By their names on the command line.
PLANTED: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "no-fencing": _no_fencing,
    "claim-before-commit": _claim_before_commit,
    "lost-wake-up": _lost_wake_up,
    "forgotten-offer": _forgotten_offer,
    "lease-not-renewed": _lease_not_renewed,
    "clock-not-followed": _clock_not_followed,
    "clock-not-noticed": _clock_not_noticed,
    "late-release": _late_release,
}
