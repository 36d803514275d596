"""Job ids: UUID version 7 (RFC 9562, section 5.7), so that ids sort by time of creation."""

import random
import threading
from collections.abc import Callable
from datetime import datetime

#: The number of 1/4096 fractions of a millisecond in a second.
_TICKS_PER_SECOND = 4_096_000


class IdSource:
    """Makes ids, each greater than every one before it. Safe to use from any thread."""

    def __init__(self, now: Callable[[], datetime], rng: random.Random, last: str | None = None) -> None:
        """Make ids at the times that ``now`` gives; ``last`` is the greatest id that exists already."""
        self._now = now
        self._rng = rng
        self._lock = threading.Lock()
        # guards: _last_tick
        self._last_tick = _tick_of(last) if last else 0

    def next(self) -> str:
        """A new id.

        The 12 bits of ``rand_a`` hold the fraction of the millisecond (RFC 9562, section 6.2,
        method 3). When the clock stands still or goes back, the last value counts on.
        """
        tick = int(self._now().timestamp() * _TICKS_PER_SECOND)
        with self._lock:
            tick = self._last_tick = max(tick, self._last_tick + 1)
            tail = self._rng.getrandbits(62) | 1 << 63
        text = f"{tick >> 12:012x}7{tick & 0xFFF:03x}{tail:016x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _tick_of(job_id: str) -> int:
    digits = job_id.replace("-", "")
    return int(digits[:12] + digits[13:16], 16)
