"""How an attempt ended, as a pure function of what the handler did and what it had been told."""

import random
import traceback
from enum import Enum

import msgspec

from store import transitions
from store.job import AttemptStatus, Backoff, Job, JobError
from store.transitions import Completed, Failed, Interrupted, Outcome
from worker import backoff
from worker.errors import Cancelled, CommandFailed, Fail, InvalidPayload, InvalidResult, Retry, UnknownType
from worker.text import cut, cut_middle

#: Characters of an error's type, message and traceback that are kept.
_MAX_TYPE, _MAX_MESSAGE, _MAX_TRACEBACK = 200, 4096, 16 * 1024

#: How long a job waits whose type has no handler here: one minute at least.
_NO_HANDLER = Backoff(base=60.0, factor=4.0)

#: These say all in their message; a traceback would only point into Gofer.
_SELF_EXPLAINING = (Retry, Fail, Cancelled, CommandFailed, InvalidResult, InvalidPayload, UnknownType)

#: These say something about the job, beside that the attempt failed.
_STEERING = (Retry, Fail, Cancelled, InvalidPayload, UnknownType)


class StopReason(Enum):
    """Why a handler was told to end; the first reason wins."""

    #: A client cancelled the job.
    CANCEL = "cancel"
    #: The attempt's deadline passed.
    TIMEOUT = "timeout"
    #: The service shuts down.
    SHUTDOWN = "shutdown"
    #: The job may be somebody else's by now: nothing may be written about it.
    LEASE_LOST = "lease lost"


class Returned(msgspec.Struct, frozen=True):
    """The handler returned, and this is its result."""

    result: msgspec.Raw


class Raised(msgspec.Struct, frozen=True):
    """The handler raised, or what it returned cannot be kept."""

    #: Steers as the handler's does, and has no code of the handler's own.
    exception: BaseException
    error: JobError


#: What the handler did.
Ending = Returned | Raised


def raised(exception: BaseException) -> Raised:
    """Describe an exception, once, where it was caught. Never raises, whatever the exception does."""
    return Raised(_steering(exception), JobError(_type(exception), _message(exception), _traceback(exception)))


def decide(ending: Ending, reason: StopReason | None, *, seen: bool, job: Job, rng: random.Random) -> Outcome | None:
    """The outcome of an attempt; None when nothing may be written.

    ``seen``: the handler looked and saw that it had been told to end. One that returned without
    having looked did its work, so its result counts in spite of a cancel or a shutdown.
    """
    match reason, ending:
        case StopReason.LEASE_LOST, _:
            return None
        case StopReason.TIMEOUT, _:
            return timed_out(job, f"ran past its timeout of {job.timeout:g} s", rng, ending)
        case _, Returned(result) if reason is None or not seen:
            return Completed(result)
        case StopReason.CANCEL, Returned(result):
            return transitions.Cancelled(result=result)
        case StopReason.CANCEL, Raised(exception, error):
            return transitions.Cancelled(None if isinstance(exception, Cancelled) else error)
        case StopReason.SHUTDOWN, _:
            return Interrupted()
        case _, Raised(exception, error):
            return _failed(exception, error, job, rng)
    raise AssertionError(f"no rule for {reason}, {ending}")


def timed_out(job: Job, what: str, rng: random.Random, ending: Ending | None = None) -> Failed:
    """The outcome of an attempt whose time is up; ``what`` it did, as in "ran past its timeout"."""
    trace = ending.error.traceback if isinstance(ending, Raised) else None
    error = JobError("TimedOut", f"attempt {job.attempt} {what}", trace)
    return Failed(error, retry_in=_backoff(job, rng), how=AttemptStatus.TIMED_OUT)


def _failed(exception: BaseException, error: JobError, job: Job, rng: random.Random) -> Failed:
    # A payload that the handler cannot take now will be refused each time.
    if isinstance(exception, Fail | InvalidPayload):
        return Failed(error, final=True)
    if isinstance(exception, Retry) and exception.after is not None:
        return Failed(error, retry_in=exception.after)
    if isinstance(exception, UnknownType):
        # A module that was left out of the configuration must not use up the attempts of a whole
        # backlog before anybody notices.
        return Failed(error, retry_in=backoff.delay(_NO_HANDLER, job.failures + 1, rng) + _NO_HANDLER.base)
    return Failed(error, retry_in=_backoff(job, rng))


def _backoff(job: Job, rng: random.Random) -> float:
    return backoff.delay(job.backoff, job.failures + 1, rng)


def _steering(exception: BaseException) -> BaseException:
    """An exception that says the same about the job, and does nothing of its own when it is looked at."""
    # By its class: isinstance() asks the object, too, and that may raise.
    kind = next((ours for ours in _STEERING if issubclass(type(exception), ours)), Exception)
    if kind is not Retry:
        return kind.__new__(kind)
    try:
        after = exception.after  # type: ignore[attr-defined]
        return Retry(after)
    except BaseException:  # noqa: BLE001 - the handler's own code ran
        return Retry()


def _type(exception: BaseException) -> str:
    try:
        return cut(type(exception).__name__, _MAX_TYPE)
    except BaseException:  # noqa: BLE001 - a metaclass of the handler's own
        return BaseException.__name__


def _message(exception: BaseException) -> str:
    try:
        return cut(str(exception), _MAX_MESSAGE)
    except BaseException as error:  # noqa: BLE001 - the handler's own code ran
        return f"(the exception's text is not to be had: its __str__ raised {_type(error)})"


def _traceback(exception: BaseException) -> str | None:
    if issubclass(type(exception), _SELF_EXPLAINING):
        return None
    try:
        trace = exception.__traceback__
        # The first frame is ours; the author of a handler wants to see theirs.
        lines = traceback.format_exception(type(exception), exception, trace.tb_next if trace else None)
        return cut_middle("".join(lines), _MAX_TRACEBACK)
    except BaseException as error:  # noqa: BLE001 - the handler's own code ran
        return f"(the traceback is not to be had: formatting it raised {_type(error)})"
