"""The scheduler: exactly one simulated thread runs at a time, and a seed decides which."""

import _thread
import random
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tests.simulation.carriers import Carriers
from tests.simulation.task import Process, Task

#: Between the lines of these files there may be steps.
_TRACED = str(Path(__file__).parents[2] / "worker") + "/"


#: Real seconds after which a turn is held to hang: something has waited past the scheduler.
_PATIENCE = 60.0
#: Steps that may follow each other while no time passes: with more, the threads keep each other busy.
_MOST_STEPS_AT_ONCE = 20_000


class Killed(BaseException):
    """Ends a simulated thread wherever it is. Whoever catches it meets it again at the next step."""


class Broken(Exception):
    """The simulation came upon something that must not be."""


class Scheduler:
    """Decides at every step which thread goes on. Time passes only when none can.

    A step is every place where a thread may meet another: before it takes a lock, waits, sets an
    event, starts or joins a thread, calls the store. Between two steps a thread has the world to
    itself. Apart from the seed nothing decides, so the same seed gives the same run.
    """

    def __init__(self, rng: random.Random, carriers: Carriers) -> None:
        #: Seconds since the beginning.
        self.now = 0.0
        #: How often somebody was chosen.
        self.steps = 0
        #: Called when nobody can run, before time passes.
        self.on_rest: Callable[[], None] = _nothing
        #: Who runs.
        self.current: Task
        self._rng = rng
        self._carriers = carriers
        # Once in a while nearly every step is a change of threads; in other runs a thread goes far.
        self._restlessness = rng.choice((0.02, 0.1, 0.3, 0.7, 1.0))
        # In some runs, threads have ranks, and the first that can run does: so one may be kept from
        # running just where it hurts, for as long as others have something to do.
        self._has_ranks = rng.random() < 0.4
        # In a few runs, there may be a step at every line, too: for what is done without a lock.
        self._line_steps = rng.choice((0.05, 0.3)) if rng.random() < 0.1 else 0.0
        self._runnable: list[Task] = []
        self._deadlines: list[tuple[float, int, Task, int]] = []
        self._entries = 0
        self._rested_at = 0
        self._tasks: list[Task] = []
        self._failure: str | None = None
        self._closing = False
        self._main_baton = _thread.allocate_lock()
        self._main_baton.acquire()

    # Called from outside

    def run(self, process: Process, function: Callable[[], None]) -> None:
        """Run a first thread until it ends, then end all others. Raises Broken."""

        def first() -> None:
            function()
            self._closing = True

        self.spawn("main", process, first)
        self._give(self._runnable.pop())
        for task in self._tasks:
            # Those that are started while others end are in the list, too.
            if not task.ended:
                self._give(task)
        if self._failure:
            raise Broken(self._failure)

    def _give(self, task: Task) -> None:
        """Let a thread run until the turn comes back."""
        self.current = task
        task.carrier.baton.release()
        if not self._main_baton.acquire(timeout=_PATIENCE):
            raise Broken(f"hangs: {self.current!r} waits for something real")

    # Called by simulated threads

    def spawn(self, name: str, process: Process, function: Callable[[], None]) -> Task:
        """A new thread that can run."""
        task = Task(name, process, function, self._carriers.take())
        task.carrier.load(lambda: self._run(task))
        if self._has_ranks:
            task.priority = self._rng.random()
        self._tasks.append(task)
        self._ready(task)
        return task

    def step(self) -> None:
        """Perhaps let another thread go first."""
        task = self.current
        if self._closing or task.process.dead:
            raise Killed
        self.steps += 1
        if self.steps - self._rested_at > _MOST_STEPS_AT_ONCE:
            self.fail("the threads keep each other busy without end")
        if task.process.frozen:
            task.process.parked.append(task)
            self._pass_on(task, self._next())
        elif self._runnable:
            place = self._place(task)
            if place is not None:
                chosen, self._runnable[place] = self._runnable[place], task
                self._pass_on(task, chosen)

    def wait(self, what: object, deadline: float | None) -> bool:
        """Let others run until somebody wakes this thread, or until the deadline; False: the latter."""
        task = self.current
        if self._closing or task.process.dead:
            raise Killed
        task.waits_on = what
        task.woken = False
        task.naps += 1
        if deadline is not None:
            self._entries += 1
            heappush(self._deadlines, (deadline, self._entries, task, task.naps))
        self._pass_on(task, self._next())
        return task.woken

    def wake(self, task: Task) -> None:
        """End a thread's wait; nothing if it does not wait."""
        if task.waits_on is not None:
            task.woken = True
            self._end_wait(task)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.wait(self, self.now + seconds)

    def join(self, task: Task, deadline: float | None) -> None:
        """Wait for a thread to end, at most until the deadline."""
        self.step()
        if not task.ended:
            task.joiners.append(self.current)
            self.wait(task, deadline)

    def freeze(self, process: Process) -> None:
        """Let none of its threads run until ``thaw``."""
        process.frozen = True
        process.parked += [task for task in self._runnable if task.process is process]
        self._runnable = [task for task in self._runnable if task.process is not process]

    def thaw(self, process: Process) -> None:
        """Let its threads go on."""
        process.frozen = False
        parked, process.parked = process.parked, []
        if not process.dead:
            self._runnable += parked

    def kill(self, process: Process) -> None:
        """Let none of its threads ever run again; the caller may be one of them, until its next step."""
        process.dead = True
        self._runnable = [task for task in self._runnable if task.process is not process]

    def fail(self, why: str) -> NoReturn:
        """End the simulation: something is wrong. Does not return."""
        if not self._closing:  # Else the caller died long ago, and sees only now a world that has gone on.
            self._failure = why
            self._closing = True
        raise Killed

    @property
    def is_ending(self) -> bool:
        """Whether the thread that runs is being ended."""
        return self._closing or self.current.process.dead

    def alive(self, process: Process) -> list[Task]:
        """Its threads that have not ended."""
        return [task for task in self._tasks if task.process is process and not task.ended]

    # The turn

    def _run(self, task: Task) -> Callable[[], None]:
        """What a carrier does: the whole life of a thread. Returns what passes the turn on."""
        try:
            if not self._closing:
                if self._line_steps:
                    sys.settrace(self._trace)
                task.function()
        except Killed:
            pass
        except BaseException as error:
            self._failure = self._failure or f"{task!r} died of {_text(error)}"
            self._closing = True
        finally:
            sys.settrace(None)
        task.ended = True
        for joiner in task.joiners:
            self.wake(joiner)
        return self._passing_on()

    def _trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        """Let there be steps between the lines of the worker layer."""
        if event == "call":
            return self._trace if frame.f_code.co_filename.startswith(_TRACED) else None
        if event == "line" and self._rng.random() < self._line_steps:
            # The end of a thread waits for a step of its own code: between two lines, not even a
            # ``with`` has begun that has been entered.
            with suppress(Killed):
                self.step()
        return self._trace

    def _passing_on(self) -> Callable[[], None]:
        try:
            chosen = None if self._closing else self._next()
        except Killed:
            chosen = None
        if chosen is None:
            return self._main_baton.release
        self.current = chosen
        return chosen.carrier.baton.release

    def _pass_on(self, task: Task, chosen: Task) -> None:
        if chosen is not task:
            self.current = chosen
            chosen.carrier.baton.release()
            task.carrier.baton.acquire()
        if self._closing or task.process.dead:
            raise Killed

    def _place(self, task: Task) -> int | None:
        """The place in line of the thread that goes on in place of this one; None: this one does."""
        rng, runnable = self._rng, self._runnable
        if not self._has_ranks:
            return rng.randrange(len(runnable)) if rng.random() < self._restlessness else None
        if rng.random() < 0.03:
            task.priority = rng.random() * min(task.priority, 1.0) if rng.random() < 0.5 else rng.random()
        place = max(range(len(runnable)), key=lambda place: runnable[place].priority)
        return place if runnable[place].priority > task.priority else None

    def _next(self) -> Task:
        """Take out of the line who is to run; if nobody can, time passes first."""
        while not self._runnable:
            self._pass_time()
        if self._has_ranks:
            place = max(range(len(self._runnable)), key=lambda place: self._runnable[place].priority)
        else:
            place = self._rng.randrange(len(self._runnable))
        self._runnable[place], self._runnable[-1] = self._runnable[-1], self._runnable[place]
        return self._runnable.pop()

    def _pass_time(self) -> None:
        """Go on to the next deadline."""
        while self._deadlines and not _is_valid(self._deadlines[0]):
            heappop(self._deadlines)
        if not self._deadlines:
            self.fail("deadlock: nobody can run, and nobody waits for a time")
        until = self._deadlines[0][0]
        if until > self.now:
            self.on_rest()
            self.now, self._rested_at = until, self.steps
        while self._deadlines and self._deadlines[0][0] <= self.now:
            entry = heappop(self._deadlines)
            if _is_valid(entry):
                self._end_wait(entry[2])

    def _end_wait(self, task: Task) -> None:
        task.waits_on = None
        task.naps += 1
        self._ready(task)

    def _ready(self, task: Task) -> None:
        process = task.process
        if process.dead:
            return
        (process.parked if process.frozen else self._runnable).append(task)


def _is_valid(entry: tuple[float, int, Task, int]) -> bool:
    """Whether the wait that this deadline ends is still under way."""
    _, _, task, nap = entry
    return task.naps == nap and not task.process.dead


def _text(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _nothing() -> None:
    """Nobody looks."""
