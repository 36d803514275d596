"""The script on a disk that fails, and whether everybody was told the truth."""

import gc
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from store.errors import CannotOpenStore, OutcomeUnknown, StoreUnavailable
from store.sqlite import SqliteStore, checkpointer, database
from tests.fake_clock import FakeClock
from tests.store.sqlite.faults.faults import Fault, Faults
from tests.store.sqlite.faults.script import LOG_LINES, MAINTAIN, REOPEN, SCRIPT, Step, World
from tests.store.sqlite.faults.system_calls import descriptor_sync, intercepted
from tests.store.sqlite.faults.whole import Reference, answer_to, check_file, look_into, snapshot

_OPEN = Step("open", lambda store, world: None, reads=True, wait=0)
_CLOSE = Step("close", lambda store, world: None, reads=True, wait=0)


class Fate(Enum):
    """What became of a step."""

    #: It was answered.
    DONE = auto()
    #: Nothing was done.
    UNAVAILABLE = auto()
    #: It may have been done.
    UNKNOWN = auto()
    #: It was told what nobody may be told.
    BROKEN = auto()


class Verdict(NamedTuple):
    """What a caller was told."""

    step: Step
    fate: Fate
    #: An answer, or the error.
    answer: str


@contextmanager
def small_files() -> Iterator[None]:
    """Every look at the log leads to a checkpoint, it starts anew often, and shrinks then."""
    with (
        patch.object(checkpointer, "_WORTHWHILE", 1),
        patch.object(checkpointer, "_RESTART", 1),
        patch.object(database, "_WAL_LIMIT", 30_000),
    ):
        yield


def try_fault(
    fault: Fault | None, directory: Path, script: Sequence[Step] = SCRIPT, *, pages: int = 8
) -> tuple[Faults, list[str]]:
    """Run a script with this fault in a new directory; how it struck, and which promises were broken.

    ``pages``: what the writer keeps in memory; with few of them, transactions write before they end.
    """
    directory.mkdir()
    faults = Faults(fault)
    open_before = _descriptors()
    trial = Trial(directory / "gofer.db", faults, pages)
    with small_files(), intercepted(faults):
        trial.run(script, directory / "crashed.db")
        has_leaked = _descriptors() != open_before
        if has_leaked:
            # What is closed later would call functions that are gone by then.
            gc.collect()
    found = list(_complaints(trial.verdicts, fault))
    if has_leaked:
        found.append("descriptors were left open")
    allowed = list(_allowed(trial.verdicts, found))
    for path in (directory / "crashed.db", directory / "gofer.db"):
        found += _judge_file(path, trial.clock, allowed)
    return faults, found


class Trial:
    """One run of a script on one file."""

    def __init__(self, path: Path, faults: Faults, pages: int) -> None:
        self._path = path
        self._faults = faults
        self._pages = pages
        self.clock = FakeClock()
        self.verdicts: list[Verdict] = []
        # None while it is closed.
        self._store: SqliteStore | None = None

    def run(self, script: Sequence[Step], crashed: Path) -> None:
        """Take every step; then copy what the death of the process would leave behind, and close the store."""
        self._note(_OPEN, self._open)
        world = World()
        for step in script:
            step.let_time_pass(self.clock)
            if step is REOPEN and self._store is not None:
                self._note(step, self._reopen)
            elif self._store is not None:
                self._note(step, partial(answer_to, step, self._store, world))
        for suffix in ("", "-wal", "-journal"):
            if (source := self._path.with_name(self._path.name + suffix)).exists():
                shutil.copyfile(source, crashed.with_name(crashed.name + suffix))
        if self._store is not None:
            self._note(_CLOSE, self._close)

    def _note(self, step: Step, act: Callable[[], str]) -> None:
        try:
            fate, answer = Fate.DONE, act()
        except OutcomeUnknown as error:
            fate, answer = Fate.UNKNOWN, str(error)
        except (StoreUnavailable, CannotOpenStore) as error:
            fate, answer = Fate.UNAVAILABLE, f"{type(error).__name__}: {error}"
        except Exception as error:
            fate, answer = Fate.BROKEN, repr(error)
        self.verdicts.append(Verdict(step, fate, answer))

    def _open(self) -> str:
        sync = descriptor_sync(self._faults)
        self._store = SqliteStore(self._path, self.clock, random.Random(1), sync, log_lines=LOG_LINES, fsync=sync)
        self._store._database.writer.pragma("cache_size", self._pages)
        return ""

    def _reopen(self) -> str:
        self._close()
        self._open()
        return "null"

    def _close(self) -> str:
        store, self._store = self._store, None
        assert store is not None
        store.close()
        return ""


def _complaints(verdicts: Sequence[Verdict], fault: Fault | None) -> Iterator[str]:
    """What nobody may be told, or what does not go together."""
    fates = [verdict.fate for verdict in verdicts]
    for step, fate, answer in verdicts:
        if fate is Fate.BROKEN:
            yield f"{step.name}: {answer}"
    has_failed = False
    for step, fate, _ in verdicts:
        has_failed = step is not REOPEN and (has_failed or fate is Fate.UNKNOWN)
        if has_failed and fate is Fate.DONE and not step.reads:
            yield f"{step.name}: was done by a store that has failed"
        if has_failed and step is MAINTAIN and fate is not Fate.UNKNOWN:
            yield "the housekeeping does not say that the store has failed"
    if Fate.UNKNOWN in fates:
        return
    # What failed to give a lock back holds it until it closes the file.
    if fault is None or not (fault.lasting or fault.kind == "unlock"):
        refused = [verdict.step.name for verdict in verdicts if verdict.fate is Fate.UNAVAILABLE]
        if len(refused) > (fault is not None):
            yield f"one fault made many steps fail: {refused}"


def _allowed(verdicts: Sequence[Verdict], found: list[str]) -> Iterator[list[str]]:
    """What the store may hold now; complains in ``found`` when the answers are those of no store."""
    unknown = [n for n, verdict in enumerate(verdicts) if verdict.fate is Fate.UNKNOWN and not verdict.step.reads]
    if len(unknown) > 2:
        found.append(f"many steps were answered 'unknown': {[verdicts[n].step.name for n in unknown]}")
        unknown = unknown[:2]
    contradictions = []
    for done in product((False, True), repeat=len(unknown)):
        reference = Reference()
        taken = {n for n, is_done in zip(unknown, done, strict=True) if is_done}
        contradictions.append(list(_contradictions(reference, verdicts, taken)))
        yield reference.snapshot()
    found += min(contradictions, key=len)[:1]


def _contradictions(reference: Reference, verdicts: Sequence[Verdict], taken: set[int]) -> Iterator[str]:
    for number, (step, fate, answer) in enumerate(verdicts):
        if step in (_OPEN, _CLOSE) or not (fate is Fate.DONE or number in taken):
            reference.skip(step)
            continue
        expected = reference.take(step, unheard=number in taken)
        if fate is Fate.DONE and answer != expected:
            yield f"{step.name}: was told {answer[:500]}, not {expected[:500]}"


def _judge_file(path: Path, clock: FakeClock, allowed: Sequence[list[str]]) -> Iterator[str]:
    """What is wrong with what a file holds."""
    try:
        store = look_into(path, clock)
    except CannotOpenStore as error:
        yield f"{path.name}: {error}"
        return
    try:
        held = snapshot(store, clock)
    finally:
        store.close()
    yield from (f"{path.name}: {fault}" for fault in check_file(path))
    if held not in allowed:
        differences = [sorted(set(held) ^ set(expected)) for expected in allowed]
        yield f"{path.name}: holds something else: {min(differences, key=len)}"


def _descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}
