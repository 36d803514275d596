"""Combining: threads that want the same kind of work done at the same time share one turn of it.

A thread puts its request in line. If nobody leads, it does: it serves
everything that is in line, its own request too, and hands the lead to the
first that came in meanwhile. Alone, a thread is never switched; in a crowd,
one turn serves many. Databases call it group commit.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from store.errors import StoreUnavailable

Request = TypeVar("Request")


class Ticket(Generic[Request]):
    """One request in line, and what became of it."""

    __slots__ = ("_turn", "error", "request", "result", "served")

    def __init__(self, request: Request) -> None:
        self.request = request
        #: What the caller gets back.
        self.result: object = None
        #: What the caller gets raised instead, if not None.
        self.error: BaseException | None = None
        self.served = False
        # Released to end the wait: when the request is served, or to hand over the lead.
        self._turn = threading.Lock()
        self._turn.acquire()

    def wait(self) -> None:
        """Wait until the request is served or the lead is handed over."""
        self._turn.acquire()

    def lead(self) -> None:
        """Hand the lead to the waiting thread."""
        self._turn.release()

    def settle(self) -> None:
        """End the wait: ``result`` and ``error`` hold."""
        self.served = True
        self._turn.release()


class Combiner(Generic[Request]):
    """Runs requests of many threads in shared turns. Safe to use from any thread."""

    def __init__(self, serve: Callable[[list[Ticket[Request]]], None]) -> None:
        """``serve`` runs one turn at a time and fills in results and errors."""
        self._serve = serve
        self._lock = threading.Lock()
        # guards: _line, _led
        self._line: list[Ticket[Request]] = []
        self._led = False

    def run(self, request: Request) -> object:
        """Have the request served; return its result or raise its error."""
        ticket = Ticket(request)
        with self._lock:
            self._line.append(ticket)
            follows, self._led = self._led, True
        if follows:
            ticket.wait()
        if not ticket.served:
            self._take_turn()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result

    def _take_turn(self) -> None:
        with self._lock:
            batch, self._line = self._line, []
        try:
            self._serve(batch)
        except BaseException as error:  # noqa: BLE001 - nobody may be left waiting, whatever went wrong
            fail_all(batch, error)
        finally:
            with self._lock:
                successor = self._line[0] if self._line else None
                self._led = successor is not None
            if successor is not None:
                successor.lead()
            for ticket in batch:
                ticket.settle()


def fail_all(tickets: Sequence[Ticket[Any]], error: BaseException) -> None:
    """Have each of them raise the error; errors of the store as an instance of its own.

    One that is raised in many threads at once would collect all their tracebacks.
    """
    for ticket in tickets:
        ticket.error = type(error)(str(error)) if isinstance(error, StoreUnavailable) else error
