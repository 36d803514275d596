"""A child process, seen from the service."""

import contextlib
import fcntl
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from store.job import Job
from worker.isolation import messages
from worker.isolation.cancel_watch import NUMBER
from worker.isolation.descendants import descendants
from worker.isolation.inbox import Inbox
from worker.isolation.messages import Begin, Message, Ready, Start, framed
from worker.orphans import kill_group, send

#: Bytes of the longest message, beside a result: a traceback, or a log line.
_LONGEST_TEXT = 262_144

#: Seconds that a process may take to be gone once it was killed.
_KILL_PATIENCE = 5.0
#: How often, and seconds between, we look whether orphans are gone that were killed.
_LOOKS, _LOOK = 100, 0.01

_STANDARD_ERROR = 2

#: The service's path first, for nothing of ours could be imported without it.
_PROGRAM = (
    "import json, sys; start = sys.argv.pop(); sys.path[:] = json.loads(start)['path'];"
    " from worker.isolation.child import main; main(start)"
)


log = logging.getLogger(__name__)


class News(NamedTuple):
    """What happened while somebody waited."""

    #: ``wake`` was called.
    woken: bool
    #: There is something to receive.
    spoke: bool
    #: The process has ended; it may still have said something.
    ended: bool


class ChildProcess:
    """One child process and all that connects us to it.

    Used by one thread at a time, but for ``wake``, which is safe to call from any as long as the
    child is not closed.
    """

    def __init__(self, modules: Sequence[str], max_result_bytes: int, started: float) -> None:
        """Start it; it loads its handlers meanwhile. ``started``: now, on the monotonic clock.

        Raises OSError when the system has no process or descriptor to give.
        """
        #: On the monotonic clock.
        self.started = started
        #: It has loaded the handlers.
        self.is_ready = False
        #: Nothing is known that would keep it from a further attempt.
        self.is_fit = True
        #: How many attempts it has begun.
        self.attempts = 0
        #: It has closed its side; in most cases it has ended, too, or is about to.
        self.has_hung_up = False
        self._unsent = memoryview(b"")
        # The descendants that were killed with it, as pidfds.
        self._killed: list[int] = []
        self._is_closed = False
        with contextlib.ExitStack() as opened:
            self._open(opened, modules, max_result_bytes)
            self._opened = opened.pop_all()

    def _open(self, opened: contextlib.ExitStack, modules: Sequence[str], max_result_bytes: int) -> None:
        with contextlib.ExitStack() as lent:
            self._connection, theirs = socket.socketpair()
            opened.enter_context(self._connection)
            lent.enter_context(theirs)
            self._connection.setblocking(False)
            self._inbox = Inbox(self._connection, max_result_bytes + _LONGEST_TEXT)
            cancel, self._cancel = _pipe(lent, opened)
            alive, _ = _pipe(lent, opened)
            self._wake = _closed_by(opened, os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            self._poller = select.poll()
            for descriptor in (self._connection.fileno(), self._wake):
                self._poller.register(descriptor, select.POLLIN)
            self._process = _launch(
                Start(
                    path=[str(Path(entry).absolute()) for entry in sys.path],
                    modules=list(modules),
                    socket=theirs.fileno(),
                    cancel=cancel,
                    alive=alive,
                    max_result_bytes=max_result_bytes,
                    log_level=logging.getLogger().getEffectiveLevel(),
                )
            )
            try:
                _bind_life(alive, self._process.pid)
                self._pidfd = _closed_by(opened, os.pidfd_open(self._process.pid))
            except BaseException:
                self.kill()
                self._process.wait()
                raise
        self._poller.register(self._pidfd, select.POLLIN)

    # One attempt

    def begin(self, job: Job) -> None:
        """Have it call the handler of a job. What the socket does not take now, ``wait`` sends.

        Raises BrokenPipeError if it has ended already, so that nothing has begun.
        """
        self.attempts += 1
        if job.result is not None:  # Of an earlier run; it may be large.
            job = msgspec.structs.replace(job, result=None)
        data = framed(Begin(job))
        try:
            sent = self._connection.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):  # Hardly ever: the socket takes some 200 KB at a time.
            self._unsent = memoryview(data)[sent:]
            self._poller.modify(self._connection, select.POLLIN | select.POLLOUT)

    def cancel(self) -> None:
        """Tell the handler to end. Once for an attempt, or the pipe could be full."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._cancel, NUMBER.pack(self.attempts))

    def wake(self) -> None:
        """End the wait, now or when it begins."""
        os.eventfd_write(self._wake, 1)

    def forget_wake(self) -> None:
        """Undo ``wake``."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def wait(self, seconds: float | None) -> News:
        """Wait until something happens, at most ``seconds``."""
        happened = [descriptor for descriptor, _ in self._poller.poll(None if seconds is None else seconds * 1000)]
        if woken := self._wake in happened:
            self.forget_wake()
        if self._unsent:
            self._send_on()
        return News(woken, self._connection.fileno() in happened, self._pidfd in happened)

    def receive(self) -> list[Message] | None:
        """What it said, as far as it is complete; None if nothing is there. Raises Garbled."""
        if self.has_hung_up:
            return None
        try:
            bodies = self._inbox.read()
        except BlockingIOError:
            return None
        if bodies is None:
            self._stop_listening()
            return None
        received = [messages.message(body) for body in bodies]
        if not self.is_ready:
            self.is_ready = any(isinstance(message, Ready) for message in received)
        return received

    def _stop_listening(self) -> None:
        if not self.has_hung_up:
            self.has_hung_up = True
            self._poller.unregister(self._connection)

    def _send_on(self) -> None:
        """Send more of what the socket did not take."""
        try:
            self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            return
        except ConnectionError:
            self._unsent = memoryview(b"")  # It has ended, which ``wait`` and ``receive`` tell.
        if not self._unsent and not self.has_hung_up:
            self._poller.modify(self._connection, select.POLLIN)

    # The end

    def kill(self) -> None:
        """Kill it, its group, and its descendants; ``wait`` tells when it is dead.

        Nothing that it says is received any more: a copy of it may go on for ever.
        """
        self.is_fit = False
        self._stop_listening()
        if self._process.returncode is None:
            # It is not reaped yet, so that no other group can have its number.
            group = self._process.pid
            kill_group(group, signal.SIGSTOP)  # Lest it starts another one while we look.
            found = descendants(group)
            kill_group(group, signal.SIGKILL)
            for descriptor in found:
                send(descriptor, signal.SIGKILL)
            self._killed += found

    def hang_up(self) -> None:
        """Let it end by itself, as soon as it has nothing to do."""
        self.is_fit = False
        self._stop_listening()
        self._connection.close()

    def close(self, patience: float = 0.0) -> int:
        """Wait up to ``patience`` seconds for its end, kill it otherwise, and what it left behind in any case.

        Returns its exit code, or the negative number of the signal that killed it. May be called twice.
        """
        if not self._is_closed:
            self._is_closed = True
            self._has_ended_within(patience)
            self.kill()
            if self._has_ended_within(_KILL_PATIENCE):
                self._process.wait()
                self._reap_orphans()
            else:
                log.error("process %d does not end, though it was killed", self._process.pid)
            for descriptor in self._killed:
                os.close(descriptor)
            self._opened.close()
        return -signal.SIGKILL if self._process.returncode is None else self._process.returncode

    def _has_ended_within(self, seconds: float) -> bool:
        return _ends_within(self._pidfd, seconds)

    def _reap_orphans(self) -> None:
        """Leave no zombie: as process 1 of a container we are the parent of every orphan."""
        # First all of them must have ended: until then, one may be the parent of another.
        if all(_ends_within(descriptor, _KILL_PATIENCE) for descriptor in self._killed):
            for descriptor in self._killed:
                with contextlib.suppress(ChildProcessError):
                    os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
        with contextlib.suppress(ChildProcessError):  # As a rule, at once.
            for _ in range(_LOOKS):
                while os.waitid(os.P_PGID, self._process.pid, os.WEXITED | os.WNOHANG):
                    pass
                select.poll().poll(_LOOK * 1000)


def _ends_within(pidfd: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def _launch(start: Start) -> "subprocess.Popen[bytes]":
    """A new interpreter that knows no descriptor of ours but those of ``start`` and standard error.

    Not forked off as a copy of this process, in which other threads may hold locks just now.
    """
    return subprocess.Popen(  # noqa: S603 - our own program
        # -P: what lies in the working directory must not take the place of modules.
        [sys.executable, "-P", "-c", _PROGRAM, msgspec.json.encode(start).decode()],
        stdin=subprocess.DEVNULL,
        stdout=_STANDARD_ERROR,
        pass_fds=(start.socket, start.cancel, start.alive),
        # Out of reach of a terminal's Ctrl-C, and a group that can be killed as a whole.
        start_new_session=True,
    )


def _bind_life(alive: int, group: int) -> None:
    """Have the kernel kill a group of processes when the other end of the pipe ``alive`` is closed.

    Which happens at the latest when we die, of ``kill -9``, too. The pipe stays silent until then.
    Neither a handler that keeps the interpreter's lock nor one that ignores signals is safe from it,
    nor a program that the handler started in its group. PR_SET_PDEATHSIG would be simpler, but it
    strikes when the *thread* ends that started the child.
    """
    fcntl.fcntl(alive, fcntl.F_SETOWN, -group)
    fcntl.fcntl(alive, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(alive, fcntl.F_SETFL, fcntl.fcntl(alive, fcntl.F_GETFL) | os.O_ASYNC)


def _pipe(readers: contextlib.ExitStack, writers: contextlib.ExitStack) -> tuple[int, int]:
    reading, writing = os.pipe()
    return _closed_by(readers, reading), _closed_by(writers, writing)


def _closed_by(stack: contextlib.ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor
