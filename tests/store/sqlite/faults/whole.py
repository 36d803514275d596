"""All that a store holds, and a store that holds what it should."""

import random
from copy import deepcopy
from pathlib import Path

import apsw

from store.errors import StoreError, StoreUnavailable
from store.memory import MemoryStore
from store.protocol import JobStore
from store.sqlite import SqliteStore
from tests.fake_clock import FakeClock
from tests.store.recount import check_counts
from tests.store.samples import all_jobs
from tests.store.sqlite.faults.script import FOLLOW, KEYS, LOG_LINES, Step, World, keyed, label_of, named

_QUEUES = ("default", "slow")

#: Rows that belong to no job.
_ORPHANS = """
SELECT count(*) FROM (
    SELECT job FROM job_tags UNION ALL SELECT job FROM attempts UNION ALL SELECT job FROM log_lines
)
WHERE job NOT IN (SELECT number FROM jobs)
"""
#: Jobs whose tags are not the ones that lead to them.
_UNTAGGED = """
SELECT count(*) FROM jobs
WHERE (SELECT count(*) FROM job_tags WHERE job = number) <> json_array_length(coalesce(tags, '[]'))
"""


def look_into(path: Path, clock: FakeClock) -> SqliteStore:
    """The store in a file that nobody has open, for somebody who does not mind if it is lost with the machine."""
    store = SqliteStore(path, clock, random.Random(2), lambda _: None, log_lines=LOG_LINES, fsync=lambda _: None)
    for connection in (store._database.writer, store._database.checkpointer):
        connection.pragma("synchronous", "off")
    return store


def snapshot(store: JobStore, clock: FakeClock) -> list[str]:
    """Everything, one line for each job and more. It uses up the store: its keys are tried last."""
    check_counts(store, clock)
    jobs = all_jobs(store)
    labels = {job.id: label_of(job) for job in jobs}
    lines = [
        named((job, sorted(job.tags), store.list_attempts(job.id), store.list_log(job.id)), labels) for job in jobs
    ]
    lines += [f"{queue} is paused: {store.is_paused(queue)}" for queue in _QUEUES]
    replays = [store.create_jobs([keyed(key)])[0] for key in KEYS]
    known = [label_of(each.job) if each.replayed else None for each in replays]
    return [*lines, f"keys: {known}"]


def check_file(path: Path) -> list[str]:
    """What is wrong with a database that nobody has open."""
    connection = apsw.Connection(str(path))
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check").fetchall()]
        orphans, untagged = (connection.execute(sql).fetchall()[0][0] for sql in (_ORPHANS, _UNTAGGED))
    except apsw.Error as error:
        return [str(error)]
    finally:
        connection.close()
    faults = [] if found == ["ok"] else found
    faults += [f"{orphans} rows belong to no job"] if orphans else []
    return faults + ([f"{untagged} jobs have other tags than lead to them"] if untagged else [])


class Reference:
    """The memory store, taken through the same steps."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self._store = MemoryStore(self.clock, random.Random(1), log_lines=LOG_LINES)
        self._world = World()
        # Seconds that the wall clock was set by, and no step since then has noticed.
        self._jump = 0.0

    def take(self, step: Step, *, unheard: bool = False) -> str:
        """Do it; the answer. ``unheard``: whoever asked for it does not get to know that."""
        self.skip(step)
        if step.act is FOLLOW.act:
            self.clock.jump(self._jump)
            self._jump = 0.0
        return answer_to(step, self._store, deepcopy(self._world) if unheard else self._world)

    def skip(self, step: Step) -> None:
        """The time passes, and nothing is done; nor does anybody notice that the wall clock was set."""
        self.clock.advance(step.wait)
        self._jump += step.jump

    def snapshot(self) -> list[str]:
        """All that it holds; it is used up then."""
        return snapshot(self._store, self.clock)


def answer_to(step: Step, store: JobStore, world: World) -> str:
    """What a store answers: as text, with labels instead of ids, or the name of its refusal.

    Raises StoreUnavailable and whatever is no refusal.
    """
    try:
        return world.name(step.act(store, world))
    except StoreUnavailable:
        raise
    except StoreError as error:
        return type(error).__name__
