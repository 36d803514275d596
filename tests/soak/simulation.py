"""Runs simulations of the engine, one for each seed: ``python -m tests.soak simulation --seeds 100000``.

A seed that breaks a promise is printed with the command that replays it.
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing import get_context

from tests.simulation.carriers import Carriers
from tests.simulation.planted import PLANTED
from tests.simulation.scenario import Figures, Scenario
from tests.simulation.scheduler import Broken

#: Seeds that a process does in one go.
_PORTION = 50
#: Broken seeds that are printed.
_MOST_SHOWN = 20


@dataclass(frozen=True)
class Portion:
    """Some seeds in a row."""

    seeds: range
    #: The name of the fault that is planted.
    planted: str | None
    traced: bool
    #: Leave out the seeds after the first that is broken.
    stops_early: bool


@dataclass
class Report:
    """What came of a portion."""

    figures: list[Figures] = field(default_factory=list)
    #: What is broken, by seed.
    broken: dict[int, str] = field(default_factory=dict)


def run(portion: Portion) -> Report:
    """Simulate each seed."""
    report = Report()
    carriers = Carriers()
    # A simulation is full of cycles, and short: what it leaves is collected after it.
    gc.disable()
    with PLANTED[portion.planted]() if portion.planted else nullcontext():
        for seed in portion.seeds:
            try:
                report.figures.append(Scenario(seed, carriers, print if portion.traced else None).run())
            except Broken as error:
                report.broken[seed] = str(error)
                if portion.stops_early:
                    break
            gc.collect()
    carriers.close()
    return report


def main(arguments: list[str]) -> int:
    """Return 1 if a promise was broken."""
    options = _options(arguments)
    _fix_hashes(arguments)
    begun = time.monotonic()
    first, last = options.first, options.first + options.seeds
    portions = [
        Portion(range(seed, min(seed + _PORTION, last)), options.planted, options.trace, options.stop)
        for seed in range(first, last, _PORTION)
    ]
    total = Report()
    for report in _reports(portions, options.processes):
        total.figures += report.figures
        for seed, why in report.broken.items():
            if len(total.broken) < _MOST_SHOWN:
                _show(seed, why, options.planted)
            total.broken[seed] = why
        if total.broken and options.stop:
            break
    print(_summary(total, first, time.monotonic() - begun), flush=True)
    return 1 if total.broken else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak simulation")
    parser.add_argument("--seeds", type=int, default=500, help="how many (500)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one (0)")
    parser.add_argument("--processes", type=int, default=1, help="processes that share them (1)")
    parser.add_argument("--planted", choices=sorted(PLANTED), help="a fault that is to be found")
    parser.add_argument("--stop", action="store_true", help="end with the first broken seed")
    parser.add_argument("--trace", action="store_true", help="say what happens: seconds, step, event")
    return parser.parse_args(arguments)


def _fix_hashes(arguments: list[str]) -> None:
    """Begin again with a fixed order of sets, without which a seed does not replay in another process."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        command = [sys.executable, "-m", "tests.soak", "simulation", *arguments]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})


def _reports(portions: list[Portion], processes: int) -> Iterator[Report]:
    if processes == 1:
        yield from map(run, portions)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(run, portions)


def _show(seed: int, why: str, planted: str | None) -> None:
    fault = f" --planted {planted}" if planted else ""
    print(f"seed {seed}: {why}")
    print(f"  replay: python -m tests.soak simulation --from {seed} --seeds 1 --trace{fault}", flush=True)


def _summary(report: Report, first: int, seconds: float) -> str:
    figures = report.figures
    return (
        f"simulation: {len(figures) + len(report.broken):,} seeds from {first:,}, {len(report.broken)} broken;"
        f" {sum(each.steps for each in figures):,} steps, {sum(each.jobs for each in figures):,} jobs,"
        f" {sum(each.attempts for each in figures):,} attempts,"
        f" {sum(each.seconds for each in figures):,.0f} simulated seconds in {seconds:.1f} s"
    )
