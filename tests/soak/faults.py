"""Each call that the store's work makes to the disk fails, in each way, alone and with all after it.

``python -m tests.soak faults [--kind KIND] [--throngs N] [--seed S]``. The faults are all that there are, and the same
every time; then many threads meet one fault of a seed, again and again, and what they do is not the same twice.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.store.sqlite.faults.faults import WAYS, Fault, Faults, every_fault
from tests.store.sqlite.faults.throng import try_throng
from tests.store.sqlite.faults.trial import try_fault

#: A broken store breaks its promises many times; so many are enough to see which.
_ENOUGH = 20


def main(arguments: Sequence[str]) -> int:
    """Try every fault, print each that breaks a promise, and one line of figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak faults", description=__doc__)
    parser.add_argument("--kind", choices=WAYS, help="calls of this kind only, and no threads")
    parser.add_argument("--throngs", type=int, default=500, help="runs with many threads (%(default)s)")
    parser.add_argument("--seed", type=int, default=1_000, help="of the first of these (%(default)s)")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        soak = FaultsSoak(Path(directory))
        soak.run(options.kind)
        if options.kind is None:
            soak.run_throngs(range(options.seed, options.seed + options.throngs))
    print(f"{soak.figures()}, {time.monotonic() - began:.0f} s")
    return 1 if soak.broken else 0


class FaultsSoak:
    """Tries one fault after the other."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "trial"
        self._calls: Counter[str] = Counter()
        self._tried: Counter[str] = Counter()
        self._throngs = 0
        self._struck = 0
        self.broken = 0

    def run(self, kind: str | None) -> None:
        """Try every fault, or those of one kind."""
        whole, _ = self._try(None)
        self._calls = whole.counts
        for fault in every_fault(whole.counts):
            if kind in (None, fault.kind) and self.broken < _ENOUGH:
                faults, complaints = self._try(fault)
                self._tried[fault.kind] += 1
                self._struck += faults.failed > 0
                self._report(str(fault), complaints)

    def run_throngs(self, seeds: Iterable[int]) -> None:
        """Have many threads meet the fault of each seed."""
        for seed in seeds:
            if self.broken < _ENOUGH:
                shutil.rmtree(self._directory, ignore_errors=True)
                fault, struck, complaints = try_throng(self._directory, seed)
                self._throngs += 1
                self._struck += struck
                self._report(f"seed {seed}, {fault}", complaints)

    def figures(self) -> str:
        """What was done, in one line."""
        kinds = ", ".join(f"{kind} {number}" for kind, number in self._tried.items())
        calls = sum(self._calls[kind] for kind in WAYS)
        return (
            f"faults: {calls} calls, {self._tried.total()} faults tried ({kinds}), "
            f"{self._throngs} met by many threads, {self._struck} struck, {self.broken} broke a promise"
        )

    def _try(self, fault: Fault | None) -> tuple[Faults, list[str]]:
        shutil.rmtree(self._directory, ignore_errors=True)
        return try_fault(fault, self._directory)

    def _report(self, fault: str, complaints: list[str]) -> None:
        if complaints:
            self.broken += 1
            print(f"{fault}: {'; '.join(complaints)}"[:2_000], file=sys.stderr)
