"""How long a job waits between two attempts."""

import math
import random

from store.job import Backoff

#: Seconds: no delay is longer, whatever the numbers say; a date must be able to hold the sum.
LONGEST_DELAY = 365 * 86400.0


def delay(backoff: Backoff, failures: int, rng: random.Random) -> float:
    """Seconds until the next attempt of a job that failed ``failures`` (at least 1) times.

    Exponential with full jitter: anywhere between nothing and the bound, so that jobs that failed
    together do not come back together.
    """
    return rng.uniform(0.0, _bound(backoff, failures))


def _bound(backoff: Backoff, failures: int) -> float:
    try:
        grown = backoff.base * math.pow(backoff.factor, failures - 1)
    except OverflowError:
        grown = math.inf if backoff.base > 0 else 0.0
    return max(0.0, min(backoff.cap, grown, LONGEST_DELAY))
