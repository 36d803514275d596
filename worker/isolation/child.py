"""What runs in a child process: it loads the handlers, and calls them for one attempt after the other."""

import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

from store.clock import SystemClock
from store.job import Job
from worker.context import JobContext
from worker.errors import HandlerImportError, Retry
from worker.isolation import messages
from worker.isolation.cancel_watch import CancelWatch
from worker.isolation.inbox import Inbox
from worker.isolation.messages import Failure, Ready, Start, Success, Unusable, steer_of
from worker.isolation.outbox import Outbox, RecordSender, SentNotes
from worker.isolation.surroundings import Surroundings
from worker.outcome import Raised, raised
from worker.registry import Registry
from worker.results import encode_result

#: The service may ignore these, which is inherited; a handler's own programs must be stoppable all the same.
_RESTORED = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD)


def main(argument: str) -> None:
    """Run until the service hangs up. ``argument``: a :class:`Start`, as JSON."""
    start = messages.start(argument)
    _settle_in(start)
    connection = socket.socket(fileno=start.socket)
    outbox = Outbox(connection)
    logging.getLogger().addHandler(RecordSender(outbox))
    logging.getLogger().setLevel(start.log_level)
    cancels = CancelWatch(start.cancel)
    cancels.start()
    registry = Registry()
    try:
        registry.load(start.modules)
    except HandlerImportError as error:
        outbox.send(Unusable(str(error)))
        return
    with contextlib.suppress(ConnectionError):  # The service has hung up.
        child = Child(
            Inbox(connection),
            outbox,
            cancels,
            registry,
            surroundings=Surroundings((start.cancel, start.alive)),
            max_result_bytes=start.max_result_bytes,
        )
        child.serve()


def _settle_in(start: Start) -> None:
    """Be an ordinary process, though a service started it."""
    for descriptor in (start.socket, start.cancel, start.alive):
        os.set_inheritable(descriptor, False)
    for number in _RESTORED:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Standard output is standard error already; this also writes each line at once.
    sys.stdout = sys.stderr
    faulthandler.enable()


class Child:
    """Calls handlers, one attempt after the other, in the main thread."""

    def __init__(
        self,
        inbox: Inbox,
        outbox: Outbox,
        cancels: CancelWatch,
        registry: Registry,
        *,
        surroundings: Surroundings,
        max_result_bytes: int,
    ) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._cancels = cancels
        self._registry = registry
        self._max_result_bytes = max_result_bytes
        self._clock = SystemClock()
        self._pid = os.getpid()
        self._surroundings = surroundings

    def serve(self) -> None:
        """Do what the service says, until it hangs up."""
        self._outbox.send(Ready())
        for job in self._jobs():
            self._run(job)

    def _jobs(self) -> Iterator[Job]:
        while (bodies := self._inbox.read()) is not None:
            for body in bodies:
                yield messages.begin(body).job

    def _run(self, job: Job) -> None:
        context = JobContext(job, SentNotes(self._outbox), self._clock, _nothing)
        self._cancels.begin(context.cancelled)
        end = self._call(job, context)
        if os.getpid() != self._pid:
            os._exit(0)  # A copy that the handler forked came back from it: one of us is enough.
        self._outbox.send_last(end)

    def _call(self, job: Job, context: JobContext) -> Success | Failure:
        """Call the handler, as ``Executor`` does for those that run in its thread."""
        try:
            spec = self._registry.get(job.type)
            result = spec.function(context, spec.decode(job.payload))
            encoded = encode_result(result, self._max_result_bytes)
        except BaseException as error:  # noqa: BLE001 - SystemExit, too, is the attempt's end and not the child's
            return self._failure(raised(error))
        return Success(encoded, context.cancelled.seen, self._surroundings.are_as_before())

    def _failure(self, ending: Raised) -> Failure:
        exception = ending.exception
        after = exception.after if isinstance(exception, Retry) else None
        return Failure(ending.error, steer_of(exception), after, self._surroundings.are_as_before())


def _nothing() -> None:
    """Notes are sent as they come."""
