"""Has a program run within limits."""

import os
import sys
from collections.abc import Sequence

from worker.commands import limiter
from worker.commands.declaration import Limits


def wrap(program: str, argv: Sequence[bytes], limits: Limits) -> tuple[str, list[bytes]]:
    """What to start instead, and with which arguments: the limiter, which then becomes ``program``."""
    texts = ["-" if limit is None else str(limit) for limit in (limits.memory, limits.cpu, limits.open_files)]
    call = [sys.executable, "-I", "-S", limiter.__file__, *texts, program]
    return sys.executable, [*map(os.fsencode, call), *argv]
