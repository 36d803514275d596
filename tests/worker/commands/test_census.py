"""The census: what it tells is no older than the question, and it is taken once for all who ask together."""

import os
import sys
import threading

import pytest

from tests.eventually import eventually
from worker import orphans
from worker.commands.census import Census
from worker.orphans import Process


def test_it_tells_who_lives() -> None:
    parent = os.getppid()

    (found,) = (process for process in Census().take() if process.pid == parent)

    assert (found.group, found.session) == (os.getpgid(parent), os.getsid(parent))
    assert os.getpid() not in [process.pid for process in Census().take()]


def test_who_asks_while_it_is_taken_gets_a_later_one_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is being taken may have passed over a process that was started before the question."""
    looks: list[list[Process]] = []
    begun, go_on = threading.Event(), threading.Event()

    def look() -> list[Process]:
        looks.append([])
        begun.set()
        assert go_on.wait(10)
        return looks[-1]

    monkeypatch.setattr(orphans, "look", look)
    census = Census()
    taken: list[object] = []
    threads = [threading.Thread(target=lambda: taken.append(census.take())) for _ in range(5)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    eventually(lambda: all(_has_asked(thread) for thread in threads[1:]))
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert len(looks) == 2
    assert [answer is looks[1] for answer in taken].count(True) == 4


def _has_asked(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code is Census.take.__code__ and "begun" in frame.f_locals
