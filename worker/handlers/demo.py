"""Two handlers for a first try; they need no configuration."""

import math
from typing import Annotated, TypedDict

import msgspec

from worker.context import JobContext
from worker.registry import handler

#: Reports of progress that a sleep makes, evenly spread, at least this many seconds apart.
_STEPS, _SHORTEST_STEP = 100, 0.25

#: Seconds, up to a week.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=604_800)]


class Sleep(msgspec.Struct, forbid_unknown_fields=True):
    """What ``sleep`` takes, unless it takes a bare number."""

    seconds: Seconds


class Slept(TypedDict):
    """What ``sleep`` returns."""

    slept: float


@handler("echo", example={"hello": "world"})
def echo(ctx: JobContext, payload: object) -> object:  # noqa: ARG001
    """Return the payload."""
    return payload


@handler("sleep")
def sleep(ctx: JobContext, payload: Sleep | Seconds) -> Slept:
    """Sleep for the seconds given, telling how far it has come; ends at once when it is told to."""
    seconds = payload.seconds if isinstance(payload, Sleep) else payload
    steps = max(1, min(_STEPS, math.floor(seconds / _SHORTEST_STEP)))
    for step in range(steps):
        ctx.progress(step / steps, f"slept {seconds * step / steps:g} of {seconds:g} s")
        ctx.sleep(seconds / steps)
    ctx.progress(1.0, f"slept {seconds:g} of {seconds:g} s")
    return {"slept": float(seconds)}
