"""Servers and callers that end with their test."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.worker.outgoing.caller import Caller
from tests.worker.outgoing.raw_server import RawServer, Script

#: What ``serve`` and ``new_caller`` are.
Serve = Callable[..., RawServer]
NewCaller = Callable[..., Caller]


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(ends: ExitStack) -> Serve:
    """Start servers that follow a script."""

    def start(script: Script, **options: Any) -> RawServer:
        return ends.enter_context(RawServer(script, **options))

    return start


@pytest.fixture
def new_caller(ends: ExitStack) -> NewCaller:
    """Make callers with settings of their own."""

    def make(**settings: Any) -> Caller:
        caller = Caller(**settings)
        ends.callback(caller.jobs.close)
        return caller

    return make


@pytest.fixture
def caller(new_caller: NewCaller) -> Caller:
    """One that may call loopback."""
    return new_caller()


@pytest.fixture
def server_tls() -> ssl.SSLContext:
    """For a server with a certificate for ``localhost`` and 127.0.0.1 that it has signed itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).parent / "localhost.pem")
    return context


@pytest.fixture
def client_tls() -> ssl.SSLContext:
    """For a caller that trusts that certificate."""
    return ssl.create_default_context(cafile=Path(__file__).parent / "localhost.pem")
