"""Simulated threads, and the processes that they belong to."""

from collections.abc import Callable

from tests.simulation.carriers import Carrier


class Process:
    """Some simulated threads that live and die together."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: None of its threads runs for the time being, as under SIGSTOP.
        self.frozen = False
        #: None of its threads ever runs again, as after SIGKILL.
        self.dead = False
        #: Threads that could run if it were not frozen.
        self.parked: list[Task] = []

    def __repr__(self) -> str:
        return self.name


class Task:
    """One simulated thread, as the scheduler sees it."""

    def __init__(self, name: str, process: Process, function: Callable[[], None], carrier: Carrier) -> None:
        self.name = name
        self.process = process
        self.function = function
        self.carrier = carrier
        #: What ``current_thread`` gives in it.
        self.thread: object = self
        self.ended = False
        #: Threads that wait for its end.
        self.joiners: list[Task] = []
        #: What it waits for; None while it can run.
        self.waits_on: object = None
        #: Counts its waits, so that the deadline of one that is over is known to be stale.
        self.naps = 0
        #: The last wait was ended by somebody, not by its deadline.
        self.woken = False
        #: How far in front it is, for a scheduler that goes by that.
        self.priority = 0.0

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not self.ended

    def __repr__(self) -> str:
        return f"{self.process.name}/{self.name}"
