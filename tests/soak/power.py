"""The power is cut after each thing that the store's work does to its files, and again and again under many threads.

``python -m tests.soak power --seed S [--rounds N] [--crowds N]``. The cuts of the script are the same for a seed; what
the threads of a crowd do is not the same twice.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.store.sqlite.faults.crowd import Crowd, cut_somewhere
from tests.store.sqlite.faults.cuts import Judge, cut_everywhere, record
from tests.store.sqlite.faults.recorder import Recorder

#: A broken store breaks its promises many times; so many are enough to see which.
_ENOUGH = 20


def main(arguments: Sequence[str]) -> int:
    """Cut the power everywhere, print each broken promise, and one line of figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak power", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides what is lost (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="random losses of each kind at each point (%(default)s)")
    parser.add_argument("--crowds", type=int, default=10, help="runs with many threads (%(default)s)")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        soak = PowerSoak(Path(directory), options.seed)
        soak.cut_the_script(options.rounds)
        for number in range(options.crowds):
            soak.cut_a_crowd(number)
    print(f"{soak.figures()}, {time.monotonic() - began:.0f} s, seed {options.seed}")
    return 1 if soak.broken else 0


class PowerSoak:
    """Cuts the power and counts."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory = directory
        self._seed = seed
        self._cuts = 0
        self._events = 0
        self._images = 0
        self.broken = 0

    def cut_the_script(self, rounds: int) -> None:
        """Cut after each event of one thread's work."""
        judge = Judge(self._directory / "image")
        (self._directory / "script").mkdir()
        events = record(self._directory / "script", Recorder())
        self._events += len(events)
        self._count(cut_everywhere(events, judge, self._seed, rounds=rounds))
        self._images += judge.images

    def cut_a_crowd(self, number: int) -> None:
        """Cut at many points of the work of many threads."""
        seed = self._seed * 1_000 + number
        directory = self._directory / f"crowd {number}"
        directory.mkdir()
        crowd = Crowd(directory, Recorder(), seed)
        events = crowd.work(submissions=150)
        self._events += len(events)
        for error in crowd.errors:
            self._report(repr(error))
        before = self._cuts
        self._count(cut_somewhere(events, self._directory / "image", seed, cuts=500))
        self._images += self._cuts - before

    def figures(self) -> str:
        """What was done, in one line."""
        return (
            f"power: {self._events} events, {self._cuts} cuts, {self._images} different remains, "
            f"{self.broken} broke a promise"
        )

    def _count(self, complaints: Iterable[str | None]) -> None:
        for complaint in complaints:
            self._cuts += 1
            if complaint:
                self._report(complaint)
            if self.broken >= _ENOUGH:
                break

    def _report(self, complaint: str) -> None:
        self.broken += 1
        print(complaint[:2_000], file=sys.stderr)
