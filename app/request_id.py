"""The names of requests, by which an answer and what was logged about it find each other."""

import itertools
import re
import secrets

#: What a client may call its request: a word, so that it can be logged as it is.
_SANE = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestIds:
    """Names requests. Safe to use from any thread.

    The names of one process begin alike and are numbered: to ask the system for random bytes would
    give the interpreter away each time, and a thread waits long for its return under load.
    """

    def __init__(self) -> None:
        self._beginning = secrets.token_hex(4)
        # Its next() is one step of the interpreter, so it needs no lock.
        self._numbers = itertools.count(1)

    def choose(self, given: str | None) -> str:
        """What the client calls its request (``X-Request-Id``), if that is sane, else a new name."""
        if given is not None and _SANE.fullmatch(given):
            return given
        return f"{self._beginning}{next(self._numbers) & 0xFFFF_FFFF:08x}"
