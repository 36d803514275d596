"""One attempt in a child process, from the thread that would call the handler itself otherwise."""

import contextlib
import logging
import math
import signal

from store.clock import Clock
from store.job import JobError
from worker.errors import Cancelled
from worker.isolation.child_process import ChildProcess
from worker.isolation.errors import Garbled, ProcessDied, ProcessNotStarted
from worker.isolation.messages import Failure, Line, Message, Ready, Record, Step, Success, Unusable
from worker.outcome import Ending, Raised, Returned
from worker.registry import KILL_AFTER
from worker.running import Run

#: Seconds that a child has to load the handlers.
_START_LIMIT = 60.0
#: Seconds that a child which has hung up has to end by itself.
_LAST_BREATH = 1.0


class IsolatedAttempt:
    """Has a child process call a handler, and minds both until the handler is done or the process dead."""

    def __init__(self, child: ChildProcess, run: Run, clock: Clock, max_result_bytes: int) -> None:
        self._child = child
        self._run = run
        self._clock = clock
        self._max_result_bytes = max_result_bytes
        # What came of it; None until that is known.
        self._ending: Ending | None = None
        # The handler had looked and seen that it was told to end.
        self._seen = True
        # Set by whatever thread tells it to end, maybe more than once.
        self._was_woken = False
        self._is_told = False
        self._has_begun = False
        # On the monotonic clock: when the child is to be killed, and why.
        self._kill_at = math.inf
        self._fault = ""
        self._is_killed = False

    def execute(self) -> Ending:
        """Run the attempt; what came of it. Afterwards the child is idle, or not fit for anything.

        Raises BrokenPipeError if the child ended while it was idle, so that nothing has begun.
        """
        cancelled = self._run.context.cancelled
        with cancelled.calling(self._be_woken):
            ending = self._exchange()
        # From here on nobody wakes it any more, so that it may be closed.
        if self._was_woken:
            self._child.forget_wake()
        # What counts is whether the handler saw it, not that we did.
        cancelled.seen = self._seen
        return ending or self._death()

    def _be_woken(self) -> None:
        self._was_woken = True
        self._child.wake()

    def _exchange(self) -> Ending | None:
        """The ending; None when the process has died."""
        child = self._child
        if child.is_ready:
            self._begin()
        else:
            fault = f"the handlers were not loaded within {_START_LIMIT:g} s"
            self._kill_by(child.started + _START_LIMIT, fault)
        while self._ending is None:
            news = child.wait(self._seconds_left())
            if news.woken and not self._is_told:
                self._pass_on()
            received = self._receive() if news.spoke or news.ended else None
            for message in received or ():
                self._take(message)
            if news.ended and received is None:
                break
            if self._ending is None:
                self._kill_if_due()
        return self._ending

    # What the child is told

    def _begin(self) -> None:
        self._child.begin(self._run.job)
        self._has_begun = True

    def _pass_on(self) -> None:
        """The handler is to end. One that has not begun will not."""
        self._is_told = True
        if not self._has_begun:
            self._ending = _raised(Cancelled("it was told to end before it began"))
            return
        self._child.cancel()
        fault = f"the handler did not end within {KILL_AFTER:g} s after it was told to: its process was killed"
        self._kill_by(self._clock.monotonic() + KILL_AFTER, fault)

    # What the child says

    def _receive(self) -> list[Message] | None:
        try:
            return self._child.receive()
        except Garbled as error:
            self._kill(f"the handler's process sent what is no message, and was killed: {error}")
            return []

    def _take(self, message: Message) -> None:
        if self._is_killed or self._ending is not None:
            return
        try:
            self._act_on(message)
        except (ValueError, Garbled) as error:
            self._kill(f"the handler's process sent a message that makes no sense, and was killed: {error}")

    def _act_on(self, message: Message) -> None:
        match message:
            case Line(level, text):
                self._run.context.log(text, level)
            case Step(fraction, text):
                self._run.context.progress(fraction, text)
            case Record():
                _write(message)
            case Ready() if not self._has_begun:
                self._kill_at = math.inf
                with contextlib.suppress(BrokenPipeError):  # It has ended; the next wait tells.
                    self._begin()
            case Unusable(reason) if not self._has_begun:
                self._child.is_fit = False
                self._ending = _raised(ProcessNotStarted(reason))
            case Success() | Failure() if self._has_begun:
                self._end(message)
            case _:
                raise Garbled(f"{type(message).__name__} out of turn")

    def _end(self, message: Success | Failure) -> None:
        if isinstance(message, Failure):
            self._ending = Raised(message.exception(), message.error)
        elif len(message.result) > self._max_result_bytes:
            raise Garbled(f"a result of {len(message.result)} bytes")
        else:
            self._seen = message.seen
            self._ending = Returned(message.result)
        self._child.is_fit = message.is_fit

    # The end by force

    def _seconds_left(self) -> float | None:
        return None if math.isinf(self._kill_at) else max(0.0, self._kill_at - self._clock.monotonic())

    def _kill_by(self, at: float, fault: str) -> None:
        """Kill the child at that time on the monotonic clock, unless it is to be killed earlier already."""
        if at < self._kill_at and not self._is_killed:
            self._kill_at, self._fault = at, fault

    def _kill_if_due(self) -> None:
        now = self._clock.monotonic()
        if self._child.has_hung_up:
            # As a rule it is about to end, and its exit code says why.
            self._kill_by(now + _LAST_BREATH, "the handler closed its process's connection; the process was killed")
        if now >= self._kill_at:
            self._kill(self._fault)

    def _kill(self, fault: str) -> None:
        self._fault, self._kill_at, self._is_killed = fault, math.inf, True
        self._run.context.log(fault, "warning")
        self._child.kill()

    def _death(self) -> Ending:
        status = self._child.close()
        reason = self._fault if self._is_killed else f"the handler's process {_described(status)}"
        return _raised(ProcessDied(reason) if self._child.is_ready else ProcessNotStarted(reason))


def _raised(exception: BaseException) -> Raised:
    """Without a traceback, which would only point into Gofer."""
    return Raised(exception, JobError(type(exception).__name__, str(exception)))


def _described(status: int) -> str:
    """How a process ended."""
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}" + (" (out of memory, perhaps)" if status == -signal.SIGKILL else "")


def _write(record: Record) -> None:
    """Write a log record of the child as if it were ours."""
    fields = {
        "name": record.logger,
        "levelno": record.level,
        "levelname": logging.getLevelName(record.level),
        "msg": record.text,
    }
    logging.getLogger().handle(logging.makeLogRecord(fields))
