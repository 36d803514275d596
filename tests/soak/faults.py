"""Each call that the store's work makes to the disk fails, in each way, alone and with all after it.

``python -m tests.soak faults [--kind KIND]``. Complete, and the same every time, so there is no seed.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.store.sqlite.faults.faults import WAYS, Fault, Faults, every_fault
from tests.store.sqlite.faults.trial import try_fault

#: A broken store breaks its promises many times; so many are enough to see which.
_ENOUGH = 20


def main(arguments: Sequence[str]) -> int:
    """Try every fault, print each that breaks a promise, and one line of figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak faults", description=__doc__)
    parser.add_argument("--kind", choices=WAYS, help="calls of this kind only")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        soak = FaultsSoak(Path(directory))
        soak.run(options.kind)
    print(f"{soak.figures()}, {time.monotonic() - began:.0f} s")
    return 1 if soak.broken else 0


class FaultsSoak:
    """Tries one fault after the other."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "trial"
        self._calls: Counter[str] = Counter()
        self._tried: Counter[str] = Counter()
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
                self._report(fault, complaints)

    def figures(self) -> str:
        """What was done, in one line."""
        kinds = ", ".join(f"{kind} {number}" for kind, number in self._tried.items())
        calls = sum(self._calls[kind] for kind in WAYS)
        return (
            f"faults: {calls} calls, {self._tried.total()} faults tried ({kinds}), "
            f"{self._struck} struck, {self.broken} broke a promise"
        )

    def _try(self, fault: Fault | None) -> tuple[Faults, list[str]]:
        shutil.rmtree(self._directory, ignore_errors=True)
        return try_fault(fault, self._directory)

    def _report(self, fault: Fault, complaints: list[str]) -> None:
        if complaints:
            self.broken += 1
            print(f"{fault}: {'; '.join(complaints)}"[:2_000], file=sys.stderr)
