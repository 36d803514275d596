"""Combining: one turn serves everybody who is in line."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from store.combiner import Combiner, Ticket
from tests.eventually import eventually


class Desk:
    """A combiner whose turns are recorded and can be held up."""

    def __init__(self) -> None:
        self.turns: list[list[int]] = []
        self.open = threading.Event()
        self.busy = threading.Event()
        self.combiner: Combiner[int] = Combiner(self._serve)

    def _serve(self, batch: list[Ticket[int]]) -> None:
        self.turns.append([ticket.request for ticket in batch])
        self.busy.set()
        assert self.open.wait(5)
        for ticket in batch:
            if ticket.request < 0:
                ticket.error = ValueError(str(ticket.request))
            ticket.result = ticket.request * 2

    def in_line(self) -> int:
        return len(self.combiner._line)


@contextmanager
def crowd(desk: Desk, requests: list[int]) -> Iterator[dict[int, object]]:
    """Threads that ask while the desk is busy with the first of them; their answers by request."""
    answers: dict[int, object] = {}

    def ask(request: int) -> None:
        try:
            answers[request] = desk.combiner.run(request)
        except ValueError as error:
            answers[request] = error

    threads = [threading.Thread(target=ask, args=(request,)) for request in requests]
    threads[0].start()
    assert desk.busy.wait(5)
    for waiting, thread in enumerate(threads[1:], start=1):
        thread.start()
        eventually(lambda expected=waiting: desk.in_line() == expected)
    yield answers
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_alone_a_request_is_served_by_its_own_thread() -> None:
    desk = Desk()
    desk.open.set()
    assert desk.combiner.run(21) == 42


def test_requests_that_come_during_a_turn_share_the_next_one_in_order() -> None:
    desk = Desk()
    with crowd(desk, [1, 2, 3, 4]) as answers:
        desk.open.set()
    assert desk.turns == [[1], [2, 3, 4]]
    assert answers == {1: 2, 2: 4, 3: 6, 4: 8}


def test_an_error_reaches_only_the_one_who_asked() -> None:
    desk = Desk()
    with crowd(desk, [1, -2, 3]) as answers:
        desk.open.set()
    assert isinstance(answers.pop(-2), ValueError)
    assert answers == {1: 2, 3: 6}


@pytest.mark.parametrize("threads", [2, 16])
def test_nobody_is_forgotten_and_nobody_is_served_twice(threads: int) -> None:
    counted: list[int] = []

    def serve(batch: list[Ticket[int]]) -> None:
        counted.extend(ticket.request for ticket in batch)

    combiner: Combiner[int] = Combiner(serve)

    def ask(start: int) -> None:
        for request in range(start, 500 * threads, threads):
            combiner.run(request)

    crowd = [threading.Thread(target=ask, args=(start,)) for start in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(20)
        assert not thread.is_alive()
    assert sorted(counted) == list(range(500 * threads))


def test_a_turn_that_breaks_leaves_nobody_waiting() -> None:
    def serve(_: list[Ticket[int]]) -> None:
        raise ValueError("broken")

    combiner: Combiner[int] = Combiner(serve)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            combiner.run(1)
