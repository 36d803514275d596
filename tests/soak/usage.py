"""What a process holds of its machine, and whether that grows."""

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from tests import processes

#: What each number may grow by in a whole run, once the service is warm: threads, descriptors, processes, MB. The
#: descriptors are connections to the store and to other servers, of which as many are kept as were needed at a time.
BOUNDS = (0, 8, 0, 8.0)
NAMES = ("threads", "descriptors", "processes", "MB")


@dataclass(frozen=True, slots=True)
class Usage:
    """One look at a process that has nothing to do."""

    threads: int
    descriptors: int
    #: Its children.
    processes: int
    #: Memory that belongs to it alone, of files not (10^6 bytes).
    memory: float

    def __str__(self) -> str:
        return (
            f"{self.threads} threads, {self.descriptors} descriptors, {self.processes} processes, {self.memory:.1f} MB"
        )


def of(pid: int) -> Usage:
    """What a process holds now."""
    root = Path("/proc") / str(pid)
    found = re.search(r"^RssAnon:\s+(\d+) kB$", (root / "status").read_text(), re.MULTILINE)
    assert found is not None
    return Usage(
        sum(1 for _ in (root / "task").iterdir()),
        sum(1 for _ in (root / "fd").iterdir()),
        len(processes.children(pid)),
        int(found[1]) * 1024 / 1e6,
    )


def growth(usages: Sequence[Usage]) -> tuple[Usage, Usage]:
    """How it was when the service was warm, and at the end: medians of up to three looks.

    The first fifth of the looks, and at least one, do not count: caches and pools fill then.
    """
    warm = usages[max(1, len(usages) // 5) :]
    few = max(1, min(3, len(warm) // 2))
    return _median(warm[:few]), _median(warm[-few:])


def _median(usages: Sequence[Usage]) -> Usage:
    threads, descriptors, children, memory = zip(*(astuple(usage) for usage in usages), strict=True)
    return Usage(
        statistics.median_low(threads),
        statistics.median_low(descriptors),
        statistics.median_low(children),
        statistics.median(memory),
    )


def leaks(usages: Sequence[Usage]) -> Iterator[str]:
    """What grew beyond its bound, in words."""
    before, after = (astuple(usage) for usage in growth(usages))
    for name, bound, old, new in zip(NAMES, BOUNDS, before, after, strict=True):
        if new > old + bound:
            yield f"{name} grew from {old:g} to {new:g}; {bound:g} more are allowed"
