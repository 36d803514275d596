"""Engines on real parts, for tests."""

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from store.clock import Clock, SystemClock
from store.job import Job, JobStatus, NewJob
from store.memory import MemoryStore
from tests.eventually import eventually
from worker.context import JobContext
from worker.engine import Engine
from worker.registry import HandlerSpec, Registry, handler

Function = Callable[[JobContext, Any], object]


def registry_of(**functions: Function) -> Registry:
    """The built-in handlers and these, by type."""
    registry = Registry()
    for job_type, function in functions.items():
        registry.add(handler(job_type)(_plain(function)))
    return registry


def _plain(function: Function) -> Function:
    """A function of its own, since a mark stays on what it was put on."""

    def call(ctx: Any, payload: Any) -> object:
        return function(ctx, payload)

    return call


def new_job(job_type: str = "echo", payload: object = None, **fields: Any) -> NewJob:
    """A submission."""
    return NewJob(type=job_type, payload=msgspec.Raw(msgspec.json.encode(payload)), **fields)


class Harness:
    """An engine, the store under it, and the gates that its handlers wait at."""

    def __init__(
        self,
        store: Any = None,
        *,
        clock: Clock | None = None,
        workers: int = 1,
        queues: dict[str, int] | None = None,
        handlers: dict[str, Function] | None = None,
        modules: Sequence[str] = (),
        specs: Sequence[HandlerSpec] = (),
        **settings: Any,
    ) -> None:
        self.clock = clock or SystemClock()
        self.store: Any = store or MemoryStore(self.clock, random.Random(1))
        #: Opens for handlers of the type ``gate``; every test's end opens it.
        self.gate = threading.Event()
        #: Rises with each ``gate`` handler that has begun.
        self.at_gate = threading.Semaphore(0)
        #: Handlers that are past the gate, in order, by payload.
        self.passed: list[object] = []
        functions: dict[str, Function] = {"gate": self._wait_at_gate, **(handlers or {})}
        registry = registry_of(**functions)
        registry.load(modules)
        for spec in specs:
            registry.register(spec)
        self.engine = Engine(
            self.store,
            registry,
            self.clock,
            random.Random(2),
            queues or {"default": workers},
            **{"shutdown_timeout": 0.2, "grace": 0.05, **settings},
        )

    def _wait_at_gate(self, ctx: JobContext, payload: object) -> object:
        """A handler that knows no cancel: it ends when the gate opens."""
        self.at_gate.release()
        self.gate.wait()
        self.passed.append(payload)
        return payload

    def start(self) -> "Harness":
        self.engine.start()
        return self

    def submit(self, job_type: str = "echo", payload: object = None, **fields: Any) -> str:
        """The new job's id."""
        return self.engine.submit(new_job(job_type, payload, **fields)).job.id

    def block_worker(self, **fields: Any) -> str:
        """Have a worker wait at the gate; returns once it does.

        Begins when the feed of the start is over: under load that may still be under way, and would
        bring in what the test submits next, or this job, which would then be in the buffer twice.
        """
        eventually(lambda: self.engine._parts.queues["default"].accepts)
        job_id = self.submit("gate", "blocker", **fields)
        assert self.at_gate.acquire(timeout=5)
        return job_id

    def job(self, job_id: str) -> Job:
        found: Job = self.store.get_job(job_id)
        return found

    def final(self, job_id: str) -> Job:
        """The job once it is final."""
        job = self.engine.wait_final(job_id, 5, lambda: False)
        assert job.status.is_final, job
        return job

    def wait_for(self, job_id: str, status: JobStatus) -> Job:
        """The job once it has this status."""
        return eventually(lambda: (job := self.job(job_id)).status is status and job)  # type: ignore[return-value]

    def end(self) -> None:
        """Stop the engine and let go of every thread that waits at the gate."""
        self.gate.set()
        self.engine.stop()


#: What the fixture ``new_harness`` is: sets up an engine that is stopped when the test ends.
NewHarness = Callable[..., Harness]
