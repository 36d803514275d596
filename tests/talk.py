"""A handler that does what a test tells it to, when the test does."""

import threading
from collections.abc import Callable
from typing import Any

from worker.context import JobContext


class Talk:
    """Call it as a handler. It takes one step after the other until it is told to end."""

    def __init__(self) -> None:
        self._steps: list[Callable[[JobContext], object]] = []
        self._ready = threading.Semaphore(0)

    def then(self, step: Callable[[JobContext], object]) -> None:
        """Do something, once all before it is done."""
        self._steps.append(step)
        self._ready.release()

    def say(self, *texts: str) -> None:
        """Log some lines."""
        self.then(lambda ctx: [ctx.log(text) for text in texts])

    def end(self, error: BaseException | None = None) -> None:
        """Return, or raise an error."""

        def stop(_: JobContext) -> None:
            raise error or StopIteration

        self.then(stop)

    def __call__(self, ctx: JobContext, _: Any) -> None:
        while True:
            assert self._ready.acquire(timeout=10)
            try:
                self._steps.pop(0)(ctx)
            except StopIteration:
                return
