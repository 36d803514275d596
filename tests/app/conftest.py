"""A whole service in one process: memory store, engine, application and server."""

import json
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask

from app import create_app
from app.auth import Gate
from app.server import HttpServer, listen
from store.clock import SystemClock
from store.errors import OutcomeUnknown
from store.memory import MemoryStore
from tests.app.conversation import Conversation, Reply
from worker.engine import Engine
from worker.outgoing.addresses import Network
from worker.registry import HandlerSpec, Registry

#: The largest body that the service of these tests takes.
MAX_BODY = 100_000


class Service:
    """A running service and the ways to talk to it."""

    def __init__(self, engine: Engine, app: Flask, server: HttpServer, fatal: list[OutcomeUnknown]) -> None:
        self.engine = engine
        self.app = app
        self.server = server
        self.port = int(server.effective_port)
        #: What the application said must end the process.
        self.fatal = fatal

    def call(self, method: str, path: str, body: object = None, *headers: str) -> Reply:
        """One request on a connection of its own; ``body`` is sent as JSON unless it is bytes already."""
        if body is not None:
            headers = ("Content-Type: application/json", *headers)
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        with Conversation(self.port) as client:
            return client.ask(method, path, data, *headers)

    def get(self, path: str, *headers: str) -> Reply:
        """``GET``"""
        return self.call("GET", path, None, *headers)

    def post(self, path: str, body: object = None, *headers: str) -> Reply:
        """``POST``"""
        return self.call("POST", path, body, *headers)

    def submit(self, job_type: str = "echo", payload: object = None, **more: object) -> str:
        """Submit a job; return its id."""
        reply = self.post("/jobs", {"type": job_type, "payload": payload, **more})
        assert reply.status == 201, reply.body
        return str(reply.json["id"])

    def finished(self, job_id: str) -> Any:
        """The job once it is final."""
        job = self.get(f"/jobs/{job_id}?wait=10").json
        assert job["status"] in ("completed", "failed", "cancelled"), job
        return job


@contextmanager
def running(
    *specs: HandlerSpec,
    gate: Gate | None = None,
    any_host: bool = False,
    trusted_proxies: Sequence[Network] = (),
    **engine_settings: Any,
) -> Iterator[Service]:
    """A service with the queues ``default`` and ``slow``, which ends with the block.

    ``specs``: types of jobs beside those of ``tests.app.job_handlers``.
    """
    clock, rng = SystemClock(), random.Random(3)
    registry = Registry()
    registry.load(["tests.app.job_handlers"])
    for spec in specs:
        registry.register(spec)
    queues: Mapping[str, int] = {"default": 2, "slow": 1}
    store = MemoryStore(clock, rng)
    engine = Engine(store, registry, clock, rng, queues, shutdown_timeout=0.2, **engine_settings)
    fatal: list[OutcomeUnknown] = []
    app = create_app(engine, gate=gate, any_host=any_host, on_fatal=fatal.append, max_body=MAX_BODY, max_waiting=2)
    server = HttpServer(
        app,
        listen("127.0.0.1", 0),
        clock,
        threads=4,
        max_body=MAX_BODY,
        trusted_proxies=trusted_proxies,
        is_stranger=gate.is_stranger if gate else lambda _: False,
        on_death=lambda: pytest.fail("the loop died"),
    )
    engine.start()
    server.start()
    try:
        yield Service(engine, app, server, fatal)
    finally:
        engine.stop()
        server.stop(5)
        store.close()


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Logging may be configured at will; afterwards it is as it was."""
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises
    for name in ("waitress", "waitress.queue"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def shared() -> Iterator[Service]:
    """One service for all tests of a module, which therefore leave it as they found it."""
    with running() as service:
        yield service


@pytest.fixture
def service() -> Iterator[Service]:
    """A service of the test's own."""
    with running() as service:
        yield service
