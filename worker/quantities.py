"""How people write durations and sizes."""

import math
import re
from types import MappingProxyType

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)")
_SECONDS = MappingProxyType({"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0})
#: Seconds, more than anybody means.
_LONGEST = 100 * 366 * 86_400

_SIZE = re.compile(r"([0-9]{1,18})\s*(|B|[KMGT]iB|[KMGT]B|kB)")
_BYTES = MappingProxyType(
    {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
    | {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
)


def seconds(text: str) -> float:
    """The seconds of a duration such as ``90s``, ``15m``, ``12h``, ``7d``, or a bare number. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    value = float(match[1]) * _SECONDS[match[2]] if match else math.inf
    if value > _LONGEST:
        raise ValueError(f"must be a duration such as 10, 90s, 15m, 12h or 7d, not {text!r}")
    return value


def size(text: str) -> int:
    """The bytes of a size such as ``256KiB``, ``1MiB``, ``2GB``, or a bare number. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"must be a size such as 65536, 256KiB, 1MiB or 2GB, not {text!r}")
    return int(match[1]) * _BYTES[match[2]]
