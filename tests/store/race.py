"""Real threads that start together."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def race(runs: Sequence[Callable[[], Result]]) -> list[Result]:
    """Call each function in a thread of its own, all at once; return what they returned, in order.

    Raises what one of them raised, once all have ended.
    """
    barrier = threading.Barrier(len(runs))

    def start(run: Callable[[], Result]) -> Result:
        barrier.wait(timeout=30)
        return run()

    with ThreadPoolExecutor(len(runs)) as threads:
        futures = [threads.submit(start, run) for run in runs]
    return [future.result() for future in futures]
