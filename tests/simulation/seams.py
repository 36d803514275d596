"""Puts the primitives of a simulation in the place of the real ones, and takes them away again."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

from tests.simulation.primitives import primitives
from tests.simulation.scheduler import Scheduler
from worker import assembly, job_queue, outcome
from worker.context import CancelEvent


@contextmanager
def simulated(scheduler: Scheduler, *, capacity: int) -> Iterator[None]:
    """Within the block, what the worker layer makes of ``threading`` belongs to the scheduler.

    The code itself stays as it is. ``capacity``: how many ids a buffer holds; with few, it fills.
    """
    ours = primitives(scheduler)
    changes: list[tuple[Any, str, object]] = [
        *((module, "threading", ours) for module in _users_of_threading()),
        (job_queue, "PriorityQueue", ours.PriorityQueue),
        (assembly, "JobQueue", partial(job_queue.JobQueue, capacity=capacity)),
        # The only random number that is not drawn from a source that was passed in.
        (assembly, "secrets", SimpleNamespace(token_hex=lambda _: scheduler.current.process.name)),
        # It looks at files each time, which is slow, and nobody reads it here.
        (outcome, "_traceback", lambda _: None),
        # Derived from the real one when its module was loaded.
        (CancelEvent, "__bases__", (ours.Event,)),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _users_of_threading() -> list[Any]:
    return [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "worker" and getattr(module, "threading", None) is threading
    ]
