"""The result of a run: rows of medians against targets, and the machine that they come from."""

import importlib.metadata
import math
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured claim."""

    #: What was measured.
    name: str
    #: One value for each round.
    values: Sequence[float]
    #: ``x``, ``ms`` or ``MB``.
    unit: str
    #: What the value must reach; None for a row that only informs.
    target: float | None = None
    #: Whether the value must be at least, not at most, the target.
    at_least: bool = True
    #: The absolute numbers behind the value.
    detail: str = ""

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.values)

    @property
    def holds(self) -> bool:
        """Whether the median reaches the target."""
        if self.target is None:
            return True
        return self.median >= self.target if self.at_least else self.median <= self.target

    @classmethod
    def ratio(cls, name: str, own: Sequence[float], peer: Sequence[float], target: float, note: str = "") -> Self:
        """Our rate to a peer's, round by round."""
        detail = f"{statistics.median(own):,.0f}/s to {statistics.median(peer):,.0f}/s{note}"
        return cls(name, [ours / theirs for ours, theirs in zip(own, peer, strict=True)], "x", target, detail=detail)

    def cells(self) -> tuple[str, ...]:
        """The row as texts, one for each column."""
        spread = f"{min(self.values):.2f} … {max(self.values):.2f}" if len(self.values) > 1 else ""
        return (self.name, f"{self.median:.2f} {self.unit}", spread, self._target(), self._verdict(), self.detail)

    def _target(self) -> str:
        if self.target is None:
            return ""
        return f"{'≥' if self.at_least else '≤'} {self.target:g} {self.unit}"

    def _verdict(self) -> str:
        if self.target is None:
            return ""
        return "holds" if self.holds else "FALLS SHORT"


_HEADER = ("measured", "median", "min … max", "target", "verdict", "behind it (medians)")


def render(rows: Sequence[Row]) -> str:
    """The table as aligned text."""
    lines = [_HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
    lines.insert(1, tuple("-" * width for width in widths))
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def machine() -> str:
    """One line that says where and when the numbers were taken."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {_processor()}, "
        f"Python {platform.python_version()}, SQLite {_own_sqlite()} (Gofer's) and {sqlite3.sqlite_version} (huey's), "
        f"fdatasync {_sync_time() * 1000:.2f} ms"
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median_of(rounds: Sequence[T], value: Callable[[T], float]) -> float:
    """The median over the rounds of one number of each."""
    return statistics.median(value(one) for one in rounds)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _own_sqlite() -> str:
    # An apsw release is named after the SQLite that it brings, with one number more.
    return importlib.metadata.version("apsw").rpartition(".")[0]


def _sync_time() -> float:
    """Seconds that the disk takes to sync a small append: what every durable commit waits for."""
    times = []
    with tempfile.TemporaryFile() as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times)
