"""Makes sure that no process that we started outlives us, even if we are killed."""

import contextlib
import logging
import os
import select
import subprocess
import sys
import threading

from worker import orphans
from worker.orphans import Mark

log = logging.getLogger(__name__)

#: Seconds that the guardian may take to read what it is told, and to end.
_PATIENCE = 2.0


class ProcessGroups:
    """The process groups that die with this process. Safe to use from any thread.

    ``kill -9`` leaves us no time to kill anything. So a *guardian*, a small process of its own,
    holds the reading end of a pipe. It is told of each group, and when the pipe closes, because
    this process is gone, it kills those that are left. It is started with the first group, and
    again if it is found dead.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # guards: everything below
        self._entries: set[str] = set()
        self._guardian: subprocess.Popen[bytes] | None = None
        #: The writing end of the pipe; used only while there is a guardian.
        self._pipe = -1
        self._closed = False

    def add(self, group: int) -> None:
        """A group, that of a child which has a session of its own, now runs. Raises OSError if there is no guardian."""
        self._enter(str(group))

    def remove(self, group: int) -> None:
        """A group has ended. Called before its leader's number can be another's: before, or as it is waited for."""
        self._leave(str(group))

    def expect(self, mark: Mark) -> None:
        """A process that carries ``mark`` is about to be started: we may die before we know its number.

        Covers its descendants that leave its group, too. No entry of the mark contains blanks.
        Raises OSError if there is no guardian.
        """
        self._enter(" ".join(sorted(mark)))

    def forget(self, mark: Mark) -> None:
        """Nothing that carries ``mark`` must be killed any more."""
        self._leave(" ".join(sorted(mark)))

    def close(self) -> None:
        """Have what is still there killed, and end the guardian. Nothing can be added any more."""
        with self._lock:
            self._closed = True
            if self._guardian is not None:
                os.close(self._pipe)
                self._wait_locked(_PATIENCE)

    def _enter(self, entry: str) -> None:
        with self._lock:
            if self._closed:
                raise OSError("the service has ended")
            self._entries.add(entry)
            try:
                self._tell_locked(f"+{entry}\n")
            except BaseException:
                self._entries.discard(entry)
                raise

    def _leave(self, entry: str) -> None:
        with self._lock:
            self._entries.discard(entry)
            if not self._closed:
                try:
                    self._tell_locked(f"-{entry}\n")
                except OSError as error:
                    # It is the next one's trouble: the work of this one is done.
                    log.error("the guardian of the child processes cannot be started again: %s", error)

    def _tell_locked(self, line: str) -> None:
        if self._guardian is not None:
            try:
                self._write_locked(line)
            except OSError as error:
                log.warning("the guardian of the child processes does not listen: %s; starting another", error)
                self._end_guardian_locked()
        if self._guardian is None and self._entries:
            self._start_guardian_locked()

    def _write_locked(self, line: str) -> None:
        """Write a line, whole: it is shorter than PIPE_BUF. Raises OSError if the guardian is gone or hangs."""
        data = line.encode()
        try:
            os.write(self._pipe, data)
        except BlockingIOError:
            room = select.poll()
            room.register(self._pipe, select.POLLOUT)
            room.poll(_PATIENCE * 1000)
            os.write(self._pipe, data)

    def _start_guardian_locked(self) -> None:
        """Start a guardian and tell it everything."""
        reading, self._pipe = os.pipe()
        try:
            os.set_blocking(self._pipe, False)
            # A session of its own: a signal from the terminal must not reach it. Nothing of ours
            # is held open: whoever waits for the end of our output must not wait for it.
            self._guardian = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-I", "-S", orphans.__file__],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(reading)
        try:
            for entry in self._entries:
                self._write_locked(f"+{entry}\n")
        except OSError:
            self._end_guardian_locked()
            raise

    def _end_guardian_locked(self) -> None:
        """Bury a guardian that is dead or hangs. Killed first, lest it kills what goes on under the next one."""
        assert self._guardian is not None
        self._guardian.kill()
        os.close(self._pipe)
        self._wait_locked(_PATIENCE)

    def _wait_locked(self, seconds: float) -> None:
        """Let no zombie stay."""
        guardian, self._guardian = self._guardian, None
        assert guardian is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            guardian.wait(seconds)
            return
        guardian.kill()
        guardian.wait()
