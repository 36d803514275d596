"""A heap whose keys can leave from anywhere."""

from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=tuple[Any, ...])

#: Dead keys that are always allowed, so that small heaps are not rebuilt all the time.
_SLACK = 64


class LazyHeap(Generic[Key]):
    """A set of keys that knows its smallest. Not thread-safe: its owner's lock guards it.

    A discarded key stays in the heap, dead, until it comes to the top or until the dead outnumber
    the living; so every operation costs O(log n) on average, and memory follows the living.
    """

    def __init__(self) -> None:
        self._alive: set[Key] = set()
        # May also hold dead keys, and a key twice if it was discarded and came back.
        self._heap: list[Key] = []

    def __len__(self) -> int:
        return len(self._alive)

    def add(self, key: Key) -> None:
        """Add a key; one that is there already stays as it is."""
        if key not in self._alive:
            self._alive.add(key)
            heappush(self._heap, key)

    def discard(self, key: Key) -> None:
        """Remove a key if it is there."""
        if key in self._alive:
            self._alive.remove(key)
            self._compact()

    def first(self) -> Key | None:
        """The smallest key; None if there is none."""
        while self._heap and self._heap[0] not in self._alive:
            heappop(self._heap)
        return self._heap[0] if self._heap else None

    def pop(self) -> Key | None:
        """Remove the smallest key and return it; None if there is none."""
        key = self.first()
        if key is not None:
            heappop(self._heap)
            self._alive.remove(key)
        return key

    def clear(self) -> list[Key]:
        """Remove every key; return them in no particular order."""
        keys = list(self._alive)
        self._alive.clear()
        self._heap.clear()
        return keys

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._alive) + _SLACK:
            self._heap = list(self._alive)
            heapify(self._heap)
