"""Waiting for what another thread or process will do: the only place of the suite that polls."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

#: Seconds between two looks.
_INTERVAL = 0.005


def eventually(predicate: Callable[[], Value], timeout: float = 5) -> Value:
    """Call ``predicate`` until it returns something true, and return that.

    Raises AssertionError with what it returned last, after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout} s; the last answer was {value!r}")
        time.sleep(_INTERVAL)
