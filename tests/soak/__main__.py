"""Long runs that try to break the promises: ``python -m tests.soak NAME [OPTION …]``."""

import importlib
import signal
import sys

#: Each is a module of this package with ``main(arguments) -> exit code``.
SOAKS = ("crash", "faults", "full_disk", "leaks", "load", "power", "simulation")


def main(arguments: list[str]) -> int:
    """Run the soak that is named first with the arguments behind it; return its exit code."""
    if not arguments or arguments[0] not in SOAKS:
        print(f"usage: python -m tests.soak {'|'.join(SOAKS)} [--help]", file=sys.stderr)
        return 2
    code: int = importlib.import_module(f"tests.soak.{arguments[0]}").main(arguments[1:])
    return code


if __name__ == "__main__":
    # A SIGTERM, too, unwinds the stack, so that every process and directory is cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
