"""Engines that end with their test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.worker.engines import Bench


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """Set up engines; each is stopped when the test ends."""
    with ExitStack() as ends:

        def set_up(store: Any = None, **settings: Any) -> Bench:
            made = Bench(store, **settings)
            ends.callback(made.end)
            return made

        yield set_up
