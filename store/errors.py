"""What can go wrong while keeping jobs.

Each error's docstring is its default message; ``code`` is stable and names the
error to programs.
"""

import inspect


class GoferError(Exception):
    """Something went wrong in Gofer."""

    #: Stable, machine-readable name of the error; never reused for another meaning.
    code = "internal"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class StoreError(GoferError):
    """The store could not do what was asked."""

    code = "store_error"


class JobNotFound(StoreError):
    """There is no job with this id."""

    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job with the id {job_id!r}")
        self.job_id = job_id


class IllegalTransition(StoreError):
    """The job's status forbids this."""

    code = "illegal_transition"


class StaleAttempt(StoreError):
    """The attempt is not the job's current one any more, so its outcome is refused."""

    code = "stale_attempt"


class IdempotencyConflict(StoreError):
    """The idempotency key was used before, with a different submission."""

    code = "idempotency_conflict"


class InvalidCursor(StoreError):
    """The cursor is not one that a listing of this service returned."""

    code = "invalid_cursor"


class StoreUnavailable(StoreError):
    """The store cannot be reached or written at the moment; nothing was stored."""

    code = "store_unavailable"


class StoreFull(StoreUnavailable):
    """The disk that holds the store is full; nothing was stored."""

    code = "store_full"


class OutcomeUnknown(StoreUnavailable):
    """The disk could not say whether the write holds; after a restart it may be there or not."""

    code = "outcome_unknown"


class StoreDamaged(OutcomeUnknown):
    """The database is damaged; restore a backup of it."""

    code = "store_damaged"


class StoreClosed(StoreUnavailable):
    """The store is closed."""

    code = "store_closed"


class CannotOpenStore(StoreError):
    """The store cannot be opened."""

    code = "cannot_open_store"


class StoreInUse(CannotOpenStore):
    """Another process owns this store."""

    code = "store_in_use"


class SchemaTooNew(CannotOpenStore):
    """The store was written by a newer version of Gofer than this one."""

    code = "schema_too_new"
