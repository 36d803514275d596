"""Sets limits on this process and becomes another program.

Run by its path, between fork and exec of a command that has limits: to set them there in the
service's own copy (``preexec_fn``) is unsafe beside threads. So it needs the standard library only.
"""

import os
import resource
import signal
import sys

#: Stands for no limit.
_NONE = "-"


def main(memory: str, cpu: str, open_files: str, program: str, *argv: str) -> None:
    """Become ``program``. What goes wrong is told on standard error, with the exit code of a shell."""
    try:
        # As it was given: the interpreter may have set the locale in its own copy.
        environment = _environment()
        # The interpreter ignores these, and exec keeps that.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        if open_files != _NONE:
            _limit(resource.RLIMIT_NOFILE, int(open_files))
        if cpu != _NONE:
            # SIGXCPU first, which tells why; SIGKILL a second later.
            _limit(resource.RLIMIT_CPU, int(cpu), int(cpu) + 1)
        if memory != _NONE:
            # Last, for it may be less than the interpreter has.
            _limit(resource.RLIMIT_AS, int(memory))
        os.execve(program, argv, environment)  # noqa: S606 - the operator declared it
    except (OSError, ValueError, MemoryError) as error:
        os.write(2, f"cannot start {program}: {error}\n".encode(errors="replace"))
        os._exit(127)


def _environment() -> dict[bytes, bytes]:
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - fewer imports
        entries = (entry.partition(b"=") for entry in file.read().split(b"\0"))
    return {name: value for name, equals, value in entries if equals}


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    """Set a limit; one that is already lower stays."""
    _, most = resource.getrlimit(kind)
    hard = soft if hard is None else hard
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))


if __name__ == "__main__":
    main(*sys.argv[1:])
