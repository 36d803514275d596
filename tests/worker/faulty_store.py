"""A store that fails when a test says so."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any


class FaultyStore:
    """Another store, with faults before its operations, or after them."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._lock = threading.Lock()
        # guards: everything below
        self._before: dict[str, list[Callable[[], None]]] = {}
        self._after: dict[str, list[Callable[[], None]]] = {}
        #: How often each operation was called.
        self.calls: Counter[str] = Counter()

    def fail(self, operation: str, error: BaseException, times: int = 1, *, after: bool = False) -> None:
        """Let the next calls of an operation fail, before anything is done or after everything is."""

        def raise_it() -> None:
            raise error

        self.run(operation, raise_it, times, after=after)

    def run(self, operation: str, action: Callable[[], None], times: int = 1, *, after: bool = False) -> None:
        """Run something before, or after, the next calls of an operation."""
        with self._lock:
            actions = self._after if after else self._before
            actions.setdefault(operation, []).extend([action] * times)

    def hold(self, operation: str, *, after: bool = False) -> tuple[threading.Event, threading.Event]:
        """Keep the next call of an operation, before or after it is done: the events of its coming and its going on."""
        came, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            came.set()
            assert go_on.wait(5)

        self.run(operation, wait, after=after)
        return came, go_on

    def is_waiting(self, operation: str) -> bool:
        """Whether something is still to be run before or after an operation."""
        with self._lock:
            return bool(self._before.get(operation) or self._after.get(operation))

    def mend(self) -> None:
        """Let nothing fail any more."""
        with self._lock:
            self._before.clear()
            self._after.clear()

    def __getattr__(self, operation: str) -> Any:
        method = getattr(self._store, operation)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._next(self._before, operation)
            with self._lock:
                self.calls[operation] += 1
            result = method(*args, **kwargs)
            self._next(self._after, operation)
            return result

        return call

    def _next(self, actions: dict[str, list[Callable[[], None]]], operation: str) -> None:
        with self._lock:
            waiting = actions.get(operation)
            action = waiting.pop(0) if waiting else None
        if action:
            action()
