"""Lines with which a command says how far it has come: ``::progress 40/100 resizing``."""

import re
from typing import NamedTuple

#: What such a line begins with.
PREFIX = b"::progress "

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
#: ``40/100``, ``40%`` or ``0.4``, and perhaps a message.
_LINE = re.compile(rf"::progress +({_NUMBER})(?:/({_NUMBER})|(%))?(?:[ \t]+(.*))?", re.DOTALL)


class ProgressLine(NamedTuple):
    """What such a line says."""

    #: 0 to 1.
    fraction: float
    message: str


def parse(line: str) -> ProgressLine | None:
    """What the line says; None for a line that is none of these, or says nonsense such as ``120%``."""
    match = _LINE.fullmatch(line.rstrip())
    if match is None:
        return None
    part, whole, percent, message = match.groups()
    total = float(whole) if whole else 100.0 if percent else 1.0
    if not total > 0 or float(part) > total:
        return None
    return ProgressLine(float(part) / total, message or "")
