"""What a handler's process is looked at for before the next one comes; more in ``system/test_hostile_handlers.py``."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from worker.isolation.surroundings import Surroundings


class Spiteful:
    """A signal's handler that cannot be looked at."""

    def __call__(self, *_: object) -> None:
        """Do nothing."""

    def __eq__(self, _: object) -> bool:
        raise RuntimeError("do not compare me")

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def alarm() -> Iterator[None]:
    """The signal's handler is put back."""
    before = signal.getsignal(signal.SIGALRM)
    yield
    with suppress(RuntimeError):  # It looks at the one that was there, once it is replaced.
        signal.signal(signal.SIGALRM, before)


def test_what_nobody_changed_is_as_before() -> None:
    with Path(os.devnull).open() as kept:
        assert Surroundings([kept.fileno()]).are_as_before()


def test_a_descriptor_that_was_closed_is_noticed() -> None:
    with Path(os.devnull).open() as kept:
        surroundings = Surroundings([kept.fileno()])
    assert not surroundings.are_as_before()


def test_a_thread_that_ends_is_no_change_and_a_new_one_is() -> None:
    """A module of handlers may start one that fetches something and ends; each attempt would cost a new process."""
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(2)]
    threads[0].start()
    surroundings = Surroundings([])
    threads[1].start()
    assert not surroundings.are_as_before()
    end.set()
    for thread in threads:
        thread.join()
    assert surroundings.are_as_before()


@pytest.mark.usefixtures("alarm")
def test_a_handler_of_a_signal_that_cannot_be_looked_at_is_a_change_and_no_error() -> None:
    surroundings = Surroundings([])
    signal.signal(signal.SIGALRM, Spiteful())
    assert not surroundings.are_as_before()
