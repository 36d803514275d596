"""Handlers that do what no handler may: in the service's own process, and in one of their own."""

import contextlib
import gc
import json
import logging
import os
import resource
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from worker import JobContext, Retry, handler


class Spiteful(Exception):
    """Raises whenever it is asked for its text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Nameless(type):
    """A class that does not tell its name."""

    @property
    def __name__(cls) -> str:
        raise RuntimeError("no name")


class Anonymous(Exception, metaclass=Nameless):
    """Of a class that does not tell its name."""


class Masked(Exception):
    """Raises whenever it is asked what it is."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    @property
    def __traceback__(self) -> Any:
        raise RuntimeError("no traceback")


class Undecided(Retry):
    """Raises when it is asked for its time."""

    @property
    def after(self) -> Any:
        raise RuntimeError("no time")

    @after.setter
    def after(self, value: Any) -> None:
        pass


class Puzzle:
    """Raises whenever it is looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("do not look")

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    __hash__ = None  # type: ignore[assignment]


class Remains:
    """Raises when nobody needs it any more."""

    def __del__(self) -> None:
        raise RuntimeError("not gone")


class Words(str):
    """A text that does not let itself be read."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    encode = __len__ = __iter__ = __str__  # type: ignore[assignment]


class Entries(dict[str, int]):
    """A dict that does not let itself be read."""

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no entries")

    items = keys = values = __iter__  # type: ignore[assignment]


def _fail(error: BaseException) -> Callable[[JobContext], NoReturn]:
    def fail(_ctx: JobContext) -> NoReturn:
        raise error

    return fail


def _cycle() -> object:
    cycle: list[object] = []
    cycle.append(cycle)
    return cycle


def _deep(levels: int) -> object:
    value: object = None
    for _ in range(levels):
        value = [value]
    return value


def _recurse() -> None:
    _recurse()


def _recurse_in_c() -> None:
    sys.setrecursionlimit(10**9)

    class Echo:
        def __repr__(self) -> str:
            return repr(self)

    repr(Echo())


async def _coroutine() -> int:
    return 1


def _never_return(_ctx: JobContext) -> NoReturn:
    while True:
        time.sleep(1)


def _log_much(ctx: JobContext) -> str:
    for number in range(1_000_000):
        ctx.log(f"line {number}")
    return "logged"


def _log_on_and_on(ctx: JobContext) -> None:
    while not ctx.cancelled.is_set():
        ctx.log("and on")


def _leak_threads(_ctx: JobContext) -> str:
    for _ in range(50):
        threading.Thread(target=_never_return, args=(_ctx,), daemon=True).start()
    return "leaked"


def _raise_in_a_thread(_ctx: JobContext) -> str:
    thread = threading.Thread(target=_fail(SystemExit(1)), args=(_ctx,))
    thread.start()
    thread.join()
    return "raised elsewhere"


def _fork_and_return(ctx: JobContext) -> str:
    copy = os.fork()
    if copy:
        assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
        return "the one and only"
    ctx.log("from the copy")
    return "the copy"


def _fork_and_raise(ctx: JobContext) -> str:
    copy = os.fork()
    if copy:
        assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
        return "the one and only"
    raise SystemExit(ctx.attempt)


def _fork_and_exit(_ctx: JobContext) -> int:
    copy = os.fork()
    if not copy:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])


def _fork_and_terminate(_ctx: JobContext) -> int:
    """As multiprocessing does with its processes."""
    copy = os.fork()
    if not copy:
        signal.pause()
        os._exit(7)
    os.kill(copy, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])


def _fork_and_hang(_ctx: JobContext) -> int:
    """Leave a copy behind that ends when somebody kills it."""
    copy = os.fork()
    if not copy:
        while True:
            signal.pause()
    return copy


def _ignore_signals(_ctx: JobContext) -> str:
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    return "ignored"


def _set_an_alarm(_ctx: JobContext) -> str:
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    return "set"


def _limit_files(_ctx: JobContext) -> str:
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return "limited"


def _trace(_ctx: JobContext) -> str:
    def trace(*_: object) -> NoReturn:
        raise RuntimeError("traced")

    sys.settrace(trace)
    return "traced"


def _unhook_logging(_ctx: JobContext) -> str:
    logging.disable(logging.CRITICAL)
    logging.getLogger().handlers.clear()
    return "unhooked"


def _close_all(_ctx: JobContext) -> NoReturn:
    os.closerange(3, 1000)
    _never_return(_ctx)


def _close_where(is_it: Callable[[str], bool]) -> None:
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if is_it(str(entry.readlink())):
                os.close(int(entry.name))


def _close_database(_ctx: JobContext) -> str:
    _close_where(lambda link: "gofer.db" in link)
    return "closed"


def _read_database(_ctx: JobContext) -> str:
    with contextlib.closing(sqlite3.connect("gofer.db")) as database:
        database.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall()
    return "read"


def _copy_database(_ctx: JobContext) -> str:
    for name in ("gofer.db", "gofer.db-wal", "gofer.db-shm"):
        shutil.copy(name, f"copy-of-{name}")
    return "copied"


def _close_pipes(_ctx: JobContext) -> str:
    _close_where(lambda link: link.startswith("pipe:"))
    return "closed"


def _close_sockets(_ctx: JobContext) -> str:
    _close_where(lambda link: link.startswith("socket:"))
    return "closed"


def _listening() -> int:
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as copy:
            if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return int(entry.name)
    raise AssertionError("nobody listens")


def _close_listener(_ctx: JobContext) -> None:
    os.close(_listening())


def _replace_listener(_ctx: JobContext) -> None:
    """As one does who closes a descriptor that is not his, and then opens a file."""
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), _listening())


def _mute(_ctx: JobContext) -> str:
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    return "mute"


def _setattr(target: object, name: str, value: object) -> Callable[[JobContext], str]:
    def change(_ctx: JobContext) -> str:
        setattr(target, name, value)
        return "changed"

    return change


def _do(deed: Callable[[], object]) -> Callable[[JobContext], str]:
    def do(_ctx: JobContext) -> str:
        deed()
        return "done"

    return do


#: By name: what they raise.
RAISES: dict[str, Callable[[], BaseException]] = {
    "BaseException": lambda: BaseException("base"),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "MemoryError": MemoryError,
    "spiteful": Spiteful,
    "anonymous": Anonymous,
    "masked": Masked,
    "undecided": Undecided,
    "huge": lambda: ValueError("x" * 10_000_000),
    "surrogate": lambda: ValueError("\ud800 and \0"),
    "group": lambda: ExceptionGroup("many", [ValueError(str(n)) for n in range(1000)]),
}
#: By name: what they return.
RETURNS: dict[str, Callable[[], object]] = {
    "NaN": lambda: {"x": float("nan")},
    "infinity": lambda: float("inf"),
    "bytes": lambda: b"x",
    "cycle": _cycle,
    "lone surrogate": lambda: "\ud800",
    "100 MB": lambda: "x" * 100_000_000,
    "deep": lambda: _deep(65),
    "very deep": lambda: _deep(100_000),
    "huge int": lambda: 10**5000,
    "big int": lambda: 2**70,
    "minus zero": lambda: -0.0,
    "keys": lambda: {1: 2},
    "generator": lambda: (n for n in range(3)),
    "coroutine": _coroutine,
    "lambda": lambda: lambda: 1,
    "puzzle": Puzzle,
    "puzzle inside": lambda: [Puzzle()],
    "words": lambda: Words("abc"),
    "entries": lambda: Entries(a=1),
    "remains": Remains,
    "class": lambda: int,
    "modules": lambda: sys.modules,
}
#: By name: what they do.
DOES: dict[str, Callable[[JobContext], object]] = {
    "exit": lambda _: sys.exit(0),
    "recurse": lambda _: _recurse(),
    "recurse in C": lambda _: _recurse_in_c(),
    "never return": _never_return,
    "log a million lines": _log_much,
    "log on and on": _log_on_and_on,
    "leak threads": _leak_threads,
    "raise in a thread": _raise_in_a_thread,
    "fork and return": _fork_and_return,
    "fork and raise": _fork_and_raise,
    "fork and exit": _fork_and_exit,
    "fork and terminate": _fork_and_terminate,
    "fork and hang": _fork_and_hang,
    "chdir": _do(lambda: os.chdir("/")),
    "umask": _do(lambda: os.umask(0o777)),
    "nice": _do(lambda: os.nice(5)),
    "environment": _do(os.environ.clear),
    "time zone": _do(lambda: (os.environ.update(TZ="Pacific/Kiritimati"), time.tzset())),
    "gc": _do(gc.disable),
    "trace": _trace,
    "warnings": _do(lambda: warnings.simplefilter("error")),
    "unhook logging": _unhook_logging,
    "no stdout": _setattr(sys, "stdout", None),
    "no stderr": _setattr(sys, "stderr", None),
    "json.dumps": _setattr(json, "dumps", None),
    "ignore signals": _ignore_signals,
    "block signals": _do(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 30))),
    "alarm": _set_an_alarm,
    "limit files": _limit_files,
    "read database": _read_database,
    "copy database": _copy_database,
    "close all": _close_all,
    "close database": _close_database,
    "close pipes": _close_pipes,
    "close sockets": _close_sockets,
    "close listener": _close_listener,
    "replace listener": _replace_listener,
    "mute": _mute,
}


def _act(ctx: JobContext, way: str) -> object:
    if way in RAISES:
        raise RAISES[way]()
    return RETURNS[way]() if way in RETURNS else DOES[way](ctx)


@handler("hostile")
def hostile(ctx: JobContext, payload: str) -> object:
    """Do it in the service's own process."""
    return _act(ctx, payload)


@handler("lasting")
def lasting(ctx: JobContext, payload: str) -> NoReturn:
    """Do it in the service's own process, and never return."""
    _act(ctx, payload)
    _never_return(ctx)


@handler("contained", isolation="process")
def contained(ctx: JobContext, payload: str) -> object:
    """Do it in a process of its own."""
    return _act(ctx, payload)


@handler("decent")
def decent(_ctx: JobContext, payload: int) -> int:
    """Do what a job is for."""
    return payload + 1


@handler("next", isolation="process")
def find(_ctx: JobContext, _payload: None) -> dict[str, object]:
    """Tell what the next handler finds in its process."""
    umask = os.umask(0o077)
    os.umask(umask)
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    return {
        "directory": str(Path.cwd()),
        "umask": umask,
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "nice": os.nice(0),
        "threads": threading.active_count(),
        "open": len(list(Path("/proc/self/fd").iterdir())),
    }
