"""The service on a wall clock that a test sets: a file says by how many seconds. Also a handler that needs time.

Everything reads the time in ``store/clock.py``, which tests/test_architecture.py checks, so that it is set there.
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
#: In the directory of the service; not there: the clock is right.
FILE = "clock-is-ahead"
#: Seconds.
WAIT = 6.0


def _start() -> int:
    """As ``python run.py``."""
    sys.path[0] = str(ROOT)
    import run
    from store.clock import SystemClock

    ahead, now = Path.cwd() / FILE, SystemClock.now

    def now_as_set(clock: SystemClock) -> datetime:
        seconds = float(ahead.read_text()) if ahead.exists() else 0.0
        return now(clock) + timedelta(seconds=seconds)

    SystemClock.now = now_as_set  # type: ignore[method-assign]
    return run.main([])


if __name__ == "__main__":
    sys.exit(_start())

from worker import JobContext, Retry, handler  # noqa: E402 - found only where the service loads this as a module


@handler("later")
def later(ctx: JobContext, _payload: None) -> int:
    """Need a second attempt, after a while."""
    if ctx.attempt == 1:
        raise Retry(after=WAIT)
    return int(ctx.attempt)
