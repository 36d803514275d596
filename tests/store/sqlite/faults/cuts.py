"""The script on a disk whose power is cut, at any point of it, and whether what was told is still true."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from store.sqlite import SqliteStore
from tests.fake_clock import FakeClock
from tests.store.sqlite.faults.power import EVERYTHING, NOTHING, SECTORS, WRITES, Remains
from tests.store.sqlite.faults.recorder import Event, Mark, Recorder
from tests.store.sqlite.faults.script import LOG_LINES, REOPEN, SCRIPT, World
from tests.store.sqlite.faults.trial import small_files
from tests.store.sqlite.faults.whole import Reference, answer_to, check_file, look_into, snapshot


class Told(NamedTuple):
    """What callers of the script know at some point of it."""

    #: How many steps were answered.
    answered: int
    #: How many of them a power cut cannot undo.
    settled: int


def record(
    directory: Path, recorder: Recorder, meddle: Callable[[SqliteStore], None] = lambda _: None, **disk: Any
) -> list[Event]:
    """Run the script on a disk that works; what happened to the files.

    ``meddle`` may change the store once it is open; ``disk`` are arguments of it.
    """
    clock, world = FakeClock(), World()
    how: dict[str, Any] = {"fdatasync": recorder.fdatasync, "fsync": recorder.fsync} | disk

    def start() -> SqliteStore:
        store = SqliteStore(
            directory / "gofer.db", clock, random.Random(1), log_lines=LOG_LINES, vfs=recorder.name, **how
        )
        store._database.writer.pragma("cache_size", 8)
        meddle(store)
        return store

    weighty = settled = 0
    with small_files():
        recorder.mark(Told(0, 0))
        store = start()
        for answered, step in enumerate(SCRIPT, start=1):
            step.let_time_pass(clock)
            if step is REOPEN:
                store.close()
                store = start()
            else:
                answer_to(step, store, world)
            weighty = answered if step.weighs else weighty
            settled = weighty if step.settles else settled
            recorder.mark(Told(answered, settled))
        store.close()
        recorder.mark(Told(len(SCRIPT), len(SCRIPT)))
    return recorder.events


class Judge:
    """Starts the store from what a power cut has left, and compares what it holds."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # After so many steps.
        self._states = [_state_after(steps) for steps in range(len(SCRIPT) + 1)]
        self._known: dict[frozenset[tuple[str, bytes]], list[str] | str] = {}
        #: How many different remains it has looked at.
        self.images = 0

    def complaint(self, files: dict[str, bytes], told: Told) -> str | None:
        """What is wrong with what is left, if anything."""
        image = frozenset(files.items())
        if image not in self._known:
            self.images += 1
            self._known[image] = self._start(files)
        held = self._known[image]
        if isinstance(held, str):
            return held
        if held in self._states[told.settled : told.answered + 2]:
            return None
        steps = [step.name for step in SCRIPT]
        if held in self._states:
            last = len(self._states) - 1 - self._states[::-1].index(held)
            return f"step {told.settled} ({steps[told.settled - 1]}) was lost: the store is as after step {last}"
        return f"after step {told.answered} ({steps[told.answered - 1]}) the store is as it never was: {held}"

    def _start(self, files: dict[str, bytes]) -> list[str] | str:
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()
        for name, content in files.items():
            (self._directory / name).write_bytes(content)
        path, clock = self._directory / "gofer.db", FakeClock()
        try:
            store = look_into(path, clock)
        except Exception as error:
            return f"it does not start: {error!r}"
        try:
            held = snapshot(store, clock)
        except Exception as error:
            return f"it cannot be read: {error!r}"
        finally:
            store.close()
        return "; ".join(check_file(path)) or held


def cut_everywhere(
    events: list[Event], judge: Judge, seed: int, *, every: int = 1, rounds: int = 1
) -> Iterator[str | None]:
    """Cut the power after each event, or every so many of them; the complaint or None, for each cut.

    It is cut after each event all the same until the store is open, and whenever somebody was told something.
    In each place, nothing is lost, everything, and a part, as often as there are ``rounds``.
    """
    remains = Remains()
    for number, event in enumerate(events):
        remains.take(event)
        told = remains.told
        if not isinstance(told, Told):
            continue
        if told.answered > 0 and not isinstance(event, Mark) and (number + seed) % every:
            continue
        for lost in [NOTHING, EVERYTHING, *[WRITES, SECTORS] * rounds]:
            rng = random.Random(f"{seed} {number} {lost}")
            complaint = judge.complaint(remains.after_cut(lost, rng), told)
            yield complaint and f"seed {seed}, event {number}, {lost} lost: {complaint}"


def _state_after(steps: int) -> list[str]:
    reference = Reference()
    for step in SCRIPT[:steps]:
        reference.take(step)
    return reference.snapshot()
