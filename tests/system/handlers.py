"""Handlers that the tests of the whole service load: each does one thing that real ones do by accident."""

import contextlib
import os
import time
from pathlib import Path

import msgspec

from worker import JobContext, handler


class Traced(msgspec.Struct):
    """Where to leave a trace of each execution, and how long to take."""

    #: A file; each execution appends ``<job id> <attempt>`` as it begins.
    trace: str
    #: Seconds.
    seconds: float = 0.0


@handler("traced")
def traced(ctx: JobContext, payload: Traced) -> str:
    """Leave a trace, take some time, return the job's id."""
    _leave_trace(ctx, payload.trace)
    ctx.sleep(payload.seconds)
    return str(ctx.job_id)


@handler("killer")
def killer(ctx: JobContext, payload: Traced) -> None:
    """Take the whole process down."""
    _leave_trace(ctx, payload.trace)
    ctx.sleep(payload.seconds)
    os._exit(9)


@handler("deaf")
def deaf(_ctx: JobContext, payload: str) -> str:
    """Run until the file ``payload`` is there, whatever the job is told meanwhile."""
    while not Path(payload).exists():
        time.sleep(0.01)
    return "heard nothing"


@handler("diary")
def diary(ctx: JobContext, payload: str) -> None:
    """Log a line, wait until the file ``payload`` is there, and log another one."""
    ctx.log("dear diary")
    while not Path(payload).exists():
        ctx.sleep(0.01)
    ctx.log("good night")


@handler("hoarder")
def hoarder(ctx: JobContext, payload: str) -> int:
    """Open files until there are no descriptors left, and keep them until the file ``payload`` is there."""
    with contextlib.ExitStack() as kept:
        with contextlib.suppress(OSError):
            while True:
                kept.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        ctx.log("that is all")
        while not Path(payload).exists():
            ctx.sleep(0.01)
    return 0


def _leave_trace(ctx: JobContext, path: str) -> None:
    # One write in append mode: no two processes or threads can mix their lines.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{ctx.job_id} {ctx.attempt}\n".encode())
    finally:
        os.close(descriptor)
