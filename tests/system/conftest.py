"""Starting services, and making sure that none outlives its test."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.service import Service


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start services in the test's directory; the test says what to wait for."""
    with contextlib.ExitStack() as ended:

        def start(**settings: object) -> Service:
            service = Service(tmp_path, **settings)
            ended.callback(service.kill)
            return service

        yield start


@pytest.fixture
def start(launch: Callable[..., Service]) -> Callable[..., Service]:
    """Start services that are ready."""

    def start(**settings: object) -> Service:
        service = launch(**settings)
        service.wait_until_ready()
        return service

    return start


@pytest.fixture
def service(start: Callable[..., Service]) -> Service:
    """A service that is ready, with four workers and nothing unusual about it."""
    return start()
