"""What can go wrong while running jobs, and the exceptions that handlers steer with."""

import difflib
from collections.abc import Iterable, Sequence

from store.errors import GoferError
from worker.backoff import LONGEST_DELAY


class Retry(Exception):
    """Raised by a handler: this attempt failed, try again later if attempts are left."""

    #: Here as well, for a class of the handler's own that does not call our ``__init__``.
    after: float | None = None

    def __init__(self, after: float | None = None, reason: str = "") -> None:
        """``after``: seconds until the next attempt, at most a year; None leaves it to the job's backoff."""
        if after is not None and not 0 <= after <= LONGEST_DELAY:
            raise ValueError(f"after is {after}; it must be from 0 to {LONGEST_DELAY:g} seconds")
        super().__init__(reason or "the handler asked for another attempt")
        self.after = None if after is None else float(after)


class Fail(Exception):
    """Raised by a handler: the job cannot succeed, whatever attempts are left."""

    def __init__(self, reason: str = "the handler gave the job up") -> None:
        super().__init__(reason)


class Cancelled(BaseException):
    """Raised by ``ctx.sleep`` once the job has been told to end.

    Not an Exception, so that a handler's ``except Exception`` around a step does not swallow it.
    """


class InvalidResult(Exception):
    """What the handler returned cannot be kept as JSON."""


class CommandFailed(Exception):
    """A command could not be started, or ended otherwise than with exit code 0."""


class ShuttingDown(GoferError):
    """The service is shutting down and takes no new work."""

    code = "shutting_down"


class BacklogFull(GoferError):
    """Too many jobs are waiting already; try again later."""

    code = "backlog_full"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} jobs may wait at most, and as many do; try again later")
        self.limit = limit


class UnknownType(GoferError):
    """No handler is registered for this type."""

    code = "unknown_type"

    def __init__(self, job_type: str, known: Iterable[str]) -> None:
        self.type = job_type
        #: Every registered type, sorted.
        self.known = sorted(known)
        super().__init__(f"there is no handler for the type {job_type!r}{_alternatives(job_type, self.known)}")


class UnknownQueue(GoferError):
    """No queue of this name is configured."""

    code = "unknown_queue"

    def __init__(self, queue: str, known: Iterable[str]) -> None:
        self.queue = queue
        #: Every configured queue, sorted.
        self.known = sorted(known)
        super().__init__(f"there is no queue named {queue!r}{_alternatives(queue, self.known)}")


class InvalidPayload(GoferError):
    """The payload is not what the handler of this type takes."""

    code = "invalid_payload"

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        """``errors``: (path, message) of each bad field, as in ``("payload.rows[3].price", "…")``."""
        super().__init__("; ".join(f"{path}: {message}" for path, message in errors))
        self.errors = list(errors)


class HandlerImportError(GoferError):
    """A handler module cannot be used."""

    code = "handler_import"


class DuplicateHandler(HandlerImportError):
    """Two handlers claim the same type."""

    code = "duplicate_handler"


class QueueClosed(GoferError):
    """The buffer is closed; nothing goes in or out any more."""

    code = "queue_closed"


def _alternatives(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{hint}; there are: {', '.join(known) or 'none'}"
