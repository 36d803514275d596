"""Engines with declared commands."""

from collections.abc import Callable, Iterator

import pytest

from store.clock import SystemClock
from tests.worker.commands.declare import declared
from tests.worker.harness import Harness, NewHarness
from worker.handlers import command
from worker.process_groups import ProcessGroups


@pytest.fixture
def groups() -> Iterator[ProcessGroups]:
    groups = ProcessGroups()
    yield groups
    groups.close()


@pytest.fixture
def serve(groups: ProcessGroups, new_harness: NewHarness) -> Callable[..., Harness]:
    """Start an engine that knows the command that is declared."""

    def serve(toml: str, **settings: object) -> Harness:
        return new_harness(specs=command.specs([declared(toml)], groups, SystemClock()), **settings).start()

    return serve


#: What the fixture ``serve`` is.
Serve = Callable[..., Harness]
