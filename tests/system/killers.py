"""Handlers that take down the process that they run in, in each of the ways in which that happens."""

import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from worker import JobContext, handler


def _use_up_memory() -> None:
    hoard = []
    while True:
        hoard.append(b"x" * (8 << 20))


#: By name. ``kill`` is what the kernel does to the process that it chooses when memory is used up.
WAYS: dict[str, Callable[[], object]] = {
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(9),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "memory": _use_up_memory,
}


class Killing(msgspec.Struct):
    """How to do it, and when."""

    #: A key of :data:`WAYS`.
    way: str
    #: Not before this file is there.
    after: str


@handler("fatal")
def fatal(ctx: JobContext, payload: Killing) -> None:
    """Take the whole service down."""
    _wait_for(ctx, payload.after)
    WAYS[payload.way]()


@handler("contained_fatal", isolation="process")
def contained_fatal(ctx: JobContext, payload: Killing) -> None:
    """Take down no more than its own process."""
    _wait_for(ctx, payload.after)
    WAYS[payload.way]()


@handler("bully")
def bully(ctx: JobContext, payload: str) -> None:
    """Take the service down as soon as another job begins, which leaves a trace in the file ``payload``."""
    trace = Path(payload)
    before = len(trace.read_text()) if trace.exists() else 0
    while not trace.exists() or len(trace.read_text()) == before:
        ctx.sleep(0.01)
    os._exit(9)


def _wait_for(ctx: JobContext, path: str) -> None:
    while not Path(path).exists():
        ctx.sleep(0.01)
