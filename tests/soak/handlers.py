"""Handlers for long runs: each execution leaves its traces in a file beside the service."""

import os
import time

import msgspec

from worker import Fail, JobContext, Retry, handler


class Plan(msgspec.Struct, forbid_unknown_fields=True):
    """What an execution does."""

    #: A file; each execution appends ``begin <job id> <attempt>``, and ``end …`` on its way out.
    trace: str
    #: Seconds that it takes.
    seconds: float = 0.0
    #: ``return``, ``raise``, ``fail``, or ``retry`` (until the third attempt).
    end: str = "return"
    #: How many lines it logs.
    lines: int = 0


@handler("soak")
def soak(ctx: JobContext, plan: Plan) -> dict[str, object]:
    """Do as the plan says, in a thread of the service."""
    return _execute(ctx, plan)


@handler("soak-isolated", queue="isolated", isolation="process")
def soak_isolated(ctx: JobContext, plan: Plan) -> dict[str, object]:
    """The same in a process of its own."""
    return _execute(ctx, plan)


def _execute(ctx: JobContext, plan: Plan) -> dict[str, object]:
    _leave(plan.trace, f"begin {ctx.job_id} {ctx.attempt}\n")
    try:
        for number in range(plan.lines):
            ctx.log(f"line {number}")
        ctx.sleep(plan.seconds)
        _end(ctx, plan)
    finally:
        _leave(plan.trace, f"end {ctx.job_id} {ctx.attempt}\n")
    return {"id": str(ctx.job_id), "attempt": ctx.attempt}


def _end(ctx: JobContext, plan: Plan) -> None:
    if plan.end == "raise":
        raise ValueError("as planned")
    if plan.end == "fail":
        raise Fail("as planned")
    if plan.end == "retry" and ctx.attempt < 3:
        raise Retry(after=0.01)


def _leave(path: str, line: str) -> None:
    # One write in append mode: no two processes or threads can mix their lines.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@handler("soak-dying", queue="isolated", isolation="process")
def soak_dying(ctx: JobContext, _: object) -> None:
    """Take its process down."""
    os._exit(3)


@handler("soak-deaf")
def soak_deaf(ctx: JobContext, seconds: float) -> None:
    """Hear nothing for so long, whatever the job is told."""
    time.sleep(seconds)


@handler("soak-leaking")
def soak_leaking(ctx: JobContext, _: object) -> None:
    """Keep some descriptors for ever, more than any noise."""
    for _ in range(4):
        os.dup(2)
