"""Locks, conditions, events and threads of a simulation: what stands in the place of ``threading``.

They behave as those of CPython do, down to what a waiter whose time is up may swallow. Only one
simulated thread runs at a time, so nothing here needs a lock of its own.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

from tests.simulation.scheduler import Scheduler
from tests.simulation.task import Task


class Lock:
    """``threading.Lock``."""

    scheduler: Scheduler

    def __init__(self) -> None:
        self._owner: Task | None = None
        self._waiting: list[Task] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self.scheduler.step()
        if self._owner is None:
            self._owner = self.scheduler.current
            return True
        return blocking and self._take(None if timeout < 0 else self.scheduler.now + timeout)

    def _take(self, deadline: float | None) -> bool:
        me = self.scheduler.current
        while self._owner is not None:
            self._waiting.append(me)
            if not self.scheduler.wait(self, deadline):
                self._waiting.remove(me)
                return False
        self._owner = me
        return True

    def release(self) -> None:
        if self._owner is None and not self.scheduler.is_ending:
            raise RuntimeError("release unlocked lock")
        self._owner = None
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self.scheduler.wake(task)

    def locked(self) -> bool:
        return self._owner is not None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def give_up(self) -> int:
        """Release it for a wait; what ``take_back`` needs."""
        self.release()
        return 1

    def take_back(self, depth: int) -> None:
        """Acquire it after a wait."""
        self._take(None)


class RLock(Lock):
    """``threading.RLock``."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        taken = self._owner is self.scheduler.current or super().acquire(blocking, timeout)
        self._depth += taken
        return taken

    def release(self) -> None:
        self._depth -= 1
        if self._depth <= 0:
            super().release()

    def give_up(self) -> int:
        depth, self._depth = self._depth, 0
        super().release()
        return depth

    def take_back(self, depth: int) -> None:
        super().take_back(depth)
        self._depth = depth


class Condition:
    """``threading.Condition``."""

    scheduler: Scheduler
    RLock: type[RLock]

    def __init__(self, lock: Any = None) -> None:
        self._lock = lock if lock is not None else self.RLock()
        self.acquire, self.release = self._lock.acquire, self._lock.release
        self._waiting: deque[Task] = deque()

    def __enter__(self) -> bool:
        entered: bool = self._lock.acquire()
        return entered

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        me = self.scheduler.current
        deadline = None if timeout is None else self.scheduler.now + max(0.0, timeout)
        self._waiting.append(me)
        depth = self._lock.give_up()
        woken = self.scheduler.wait(self, deadline)
        self._lock.take_back(depth)
        # As in CPython: until it has the lock again, one whose time is up can still be notified,
        # and that notice is lost to others.
        if not woken and me in self._waiting:
            self._waiting.remove(me)
        return woken

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        deadline = None if timeout is None else self.scheduler.now + timeout
        result = predicate()
        while not result:
            if deadline is not None and deadline <= self.scheduler.now:
                break
            self.wait(None if deadline is None else deadline - self.scheduler.now)
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        for _ in range(min(n, len(self._waiting))):
            self.scheduler.wake(self._waiting.popleft())

    def notify_all(self) -> None:
        self.notify(len(self._waiting))


class Event:
    """``threading.Event``."""

    scheduler: Scheduler

    def __init__(self) -> None:
        self._flag = False
        self._waiting: list[Task] = []

    def is_set(self) -> bool:
        return self._flag

    def set(self) -> None:
        self.scheduler.step()
        self._flag = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self.scheduler.wake(task)

    def clear(self) -> None:
        self.scheduler.step()
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        self.scheduler.step()
        if self._flag:
            return True
        me = self.scheduler.current
        self._waiting.append(me)
        woken = self.scheduler.wait(self, None if timeout is None else self.scheduler.now + timeout)
        if not woken and me in self._waiting:
            self._waiting.remove(me)
        return woken


class Thread:
    """``threading.Thread``. It belongs to the process of the thread that makes it."""

    scheduler: Scheduler

    def __init__(
        self,
        *,
        target: Callable[..., object],
        name: str,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        daemon: bool = True,
    ) -> None:
        self.name = name
        self.daemon = daemon
        #: None before the start.
        self.task: Task | None = None
        self._call: Callable[[], Any] = partial(target, *args, **(kwargs or {}))

    def start(self) -> None:
        if self.task is not None:
            raise RuntimeError("threads can only be started once")
        self.task = self.scheduler.spawn(self.name, self.scheduler.current.process, self._call)
        self.task.thread = self
        self.scheduler.step()

    def join(self, timeout: float | None = None) -> None:
        assert self.task is not None, "cannot join thread before it is started"
        self.scheduler.join(self.task, None if timeout is None else self.scheduler.now + timeout)

    def is_alive(self) -> bool:
        return self.task is not None and not self.task.ended


class PriorityQueue(queue.PriorityQueue[Any]):
    """``queue.PriorityQueue``, on the locks of the simulation."""

    Lock: type[Lock]
    Condition: type[Condition]

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self.mutex = self.Lock()  # type: ignore[assignment]
        self.not_empty = self.Condition(self.mutex)  # type: ignore[assignment]
        self.not_full = self.Condition(self.mutex)  # type: ignore[assignment]


def primitives(scheduler: Scheduler) -> SimpleNamespace:
    """What the worker layer uses of ``threading``, and ``PriorityQueue``, for one simulation."""
    bound: dict[str, Any] = {"scheduler": scheduler}
    for primitive in (Lock, RLock, Condition, Event, Thread, PriorityQueue):
        bound[primitive.__name__] = type(primitive.__name__, (primitive,), dict(bound))
    return SimpleNamespace(
        **bound,
        TIMEOUT_MAX=threading.TIMEOUT_MAX,
        current_thread=lambda: scheduler.current.thread,
    )
