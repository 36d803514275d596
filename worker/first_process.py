"""Process 1 of a container, the parent of every orphan: it waits for them all, and for the service.

This file is also the program that process 1 becomes, which runs it by its path and without any
packages. So it needs the standard library only.
"""

import contextlib
import os
import signal
import sys

#: What is sent to process 1 and meant for the service.
_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_AWAITED = (*_PASSED_ON, signal.SIGCHLD)


def step_aside() -> None:
    """Go on in a child; this process itself waits for that one, and for every orphan of the machine.

    In one process nobody could tell an orphan that has ended from a child that a handler is about
    to ask for its exit code: waiting for one would steal the other's.

    Signals may be blocked; those that have come are passed on. Called in process 1 before it has started any thread.
    Raises OSError if there can be no child.
    """
    # Who started us may have had it ignored, and then the kernel would keep no exit codes of our children.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    service = os.fork()
    if service == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
        return
    # A fresh interpreter: this one has loaded much that is of no use here, and would keep its memory.
    # Our own arguments are for those who look at the list of processes.
    program = [sys.executable, "-I", "-S", __file__, str(service), *sys.argv]
    with contextlib.suppress(OSError):
        os.execv(sys.executable, program)  # noqa: S606 - our own program
    os._exit(mind(service))


def mind(service: int) -> int:
    """Pass signals on to a child, and wait for its end and for that of all others; return its exit code.

    The signals are blocked. Of a signal that ended the child, the code is 128 and its number, as in a shell.
    """
    while True:
        number = signal.sigwait(_AWAITED)
        if number != signal.SIGCHLD:
            # Only we can wait for it, so until we have, the number is its own.
            os.kill(service, number)
        elif (code := _ended(service)) is not None:
            return code if code >= 0 else 128 - code


def _ended(service: int) -> int | None:
    """Wait for all that have ended; the exit code of the service, or of its signal the negative, if it is among them.

    One signal may tell of many.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == service:
            return os.waitstatus_to_exitcode(status)
        if pid == 0:
            return None


if __name__ == "__main__":
    sys.exit(mind(int(sys.argv[1])))
