"""Who holds which job, for stores that one process owns.

Such a store needs no lease on disk: when the process dies, every lease dies
with it, and the next start takes everything back. So leases live in memory
and run on the monotonic clock.
"""

from collections.abc import Callable, Iterable

import msgspec


class Lease(msgspec.Struct, frozen=True):
    """A time-limited right to jobs."""

    #: A random id of this start of the engine; never the name of a host.
    owner: str
    #: Seconds that the right lasts unless it is renewed.
    seconds: float


class LeaseBook:
    """Leases by job id. Not thread-safe: its store's lock guards it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._held: dict[str, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, job_id: str) -> bool:
        """Whether there is a lease on it, run out or not."""
        return job_id in self._held

    def grant(self, job_id: str, lease: Lease) -> None:
        """Give ``job_id`` to the lease's owner, from now."""
        self._held[job_id] = (lease.owner, self._monotonic() + lease.seconds)

    def is_free(self, job_id: str, owner: str | None = None) -> bool:
        """Whether nobody, or nobody but ``owner``, holds a lease on it that has not run out."""
        held = self._held.get(job_id)
        return held is None or held[0] == owner or held[1] <= self._monotonic()

    def renew(self, job_ids: Iterable[str], lease: Lease) -> set[str]:
        """Prolong what the owner still holds; return the ids that it holds no longer."""
        lost = set()
        for job_id in job_ids:
            if self._held.get(job_id, ("", 0.0))[0] == lease.owner:
                self.grant(job_id, lease)
            else:
                lost.add(job_id)
        return lost

    def drop(self, job_id: str) -> None:
        """End the lease on ``job_id``, if there is one."""
        self._held.pop(job_id, None)

    def drop_owned(self, job_ids: Iterable[str], owner: str) -> None:
        """End those of the leases that ``owner`` holds."""
        for job_id in job_ids:
            if self._held.get(job_id, ("", 0.0))[0] == owner:
                del self._held[job_id]

    def copy(self) -> dict[str, tuple[str, float]]:
        """What ``restore`` takes."""
        return self._held.copy()

    def restore(self, held: dict[str, tuple[str, float]]) -> None:
        """Put everything back as it was when ``copy`` was called."""
        self._held = held

    def expired(self) -> list[str]:
        """The ids whose lease has run out."""
        now = self._monotonic()
        return [job_id for job_id, (_, expires) in self._held.items() if expires <= now]
