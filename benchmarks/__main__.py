"""Run the benchmarks: ``python -m benchmarks [--rounds N] [--quick] [--only PART,…]``."""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping

from benchmarks import command, drain, isolated, latency, memory, post
from benchmarks.table import Row, machine, render


def _parts(rounds: int, *, quick: bool) -> Mapping[str, Callable[[], list[Row]]]:
    if quick:
        return {
            "post": lambda: post.measure(rounds, seconds=1),
            "drain": lambda: drain.measure(rounds, jobs=4_000),
            "latency": lambda: latency.measure(jobs=100),
            "memory": lambda: memory.measure(jobs=20_000),
            "command": lambda: command.measure(rounds, jobs=300),
            "isolated": lambda: isolated.measure(rounds, jobs=1_000),
        }
    return {
        "post": lambda: post.measure(rounds, seconds=4),
        "drain": lambda: drain.measure(rounds, jobs=20_000),
        "latency": lambda: latency.measure(jobs=300),
        "memory": lambda: memory.measure(jobs=100_000),
        "command": lambda: command.measure(rounds, jobs=2_000),
        "isolated": lambda: isolated.measure(rounds, jobs=5_000),
    }


def main() -> int:
    """Measure what was asked for, print the table, return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Gofer against its peers.", allow_abbrev=False
    )
    parser.add_argument("--rounds", type=int, help="rounds of post, drain, command and isolated (5, or 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small loads: shows that it runs, settles nothing")
    parser.add_argument("--only", default="post,drain,latency,memory,command,isolated", help="parts (%(default)s)")
    options = parser.parse_args()
    parts = _parts(options.rounds or (1 if options.quick else 5), quick=options.quick)
    chosen = options.only.split(",")
    if unknown := [name for name in chosen if name not in parts]:
        parser.error(f"--only: unknown {', '.join(unknown)}; there are {', '.join(parts)}")
    print(machine())
    rows = []
    for name in chosen:
        print(f"measuring {name} …", file=sys.stderr)
        rows += parts[name]()
    print(render(rows))
    return 0


if __name__ == "__main__":
    # A SIGTERM, too, unwinds the stack, so that every process and directory is cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
