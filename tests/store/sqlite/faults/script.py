"""A run through all that a store does, one step after the other, always the same."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import msgspec

from store.job import Job, JobStatus, NewJob
from store.leases import Lease
from store.protocol import JobStore, Note
from store.transitions import Failed, Outcome
from tests.fake_clock import START, FakeClock
from tests.store.samples import (
    BOOM,
    CANCELLED,
    DONE,
    EVERYTHING,
    FAILED,
    FAILED_FOR_GOOD,
    HALF,
    INTERRUPTED,
    OURS,
    THEIRS,
    line,
    new_job,
)

#: How many lines a job's log keeps: few, so that old ones are deleted.
LOG_LINES = 3
#: How often a job may take the service down while it runs alone.
SOLO_LIMIT = 2
#: The idempotency keys that the script uses.
KEYS = ("one", "two", "three")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: The id of a job that does not exist, since its submission failed.
_NOBODY = "00000000-0000-7000-8000-000000000000"


@dataclass
class World:
    """What somebody who works with a store remembers: the jobs by a label, which is part of their payload."""

    ids: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    def id(self, label: str) -> str:
        """The job's id."""
        return self.ids.get(label, _NOBODY)

    def learn(self, job: Job | None) -> None:
        """Remember a job that the store gave."""
        if job is not None:
            label = label_of(job)
            self.ids[label], self.attempts[label] = job.id, job.attempt

    def name(self, answer: object) -> str:
        """The answer as text, with labels instead of ids."""
        return named(answer, {job_id: label for label, job_id in self.ids.items()})


@dataclass(frozen=True)
class Step:
    """One thing to do."""

    name: str
    act: Callable[[JobStore, World], object]
    #: It changes what nobody may see undone: a submission, an outcome, what was asked for by hand.
    weighs: bool = False
    #: Once it was answered, a power cut undoes nothing that weighs, of this step and of those before.
    settles: bool = False
    #: It changes nothing.
    reads: bool = False
    #: Seconds that pass before it.
    wait: float = 0.25
    #: Seconds that the wall clock is set by before it.
    jump: float = 0

    def let_time_pass(self, clock: FakeClock) -> None:
        """Bring the clock to the time of this step."""
        clock.advance(self.wait)
        clock.jump(self.jump)


#: The step at which the store is closed and opened again; whoever runs the script does that.
REOPEN = Step("reopen", lambda store, world: None, settles=True)


def label_of(job: Job | NewJob) -> str:
    """The label of a job of the script."""
    label: str = msgspec.json.decode(job.payload)["label"]
    return label


def named(answer: object, labels: dict[str, str]) -> str:
    """The answer as text, with labels instead of ids; an id that nobody knows says nothing."""
    text = msgspec.json.encode(answer, order="deterministic").decode()
    return _ID.sub(lambda found: labels.get(found[0], "unknown"), text)


def job(label: str, size: int = 0, key: str | None = None, **fields: Any) -> NewJob:
    """A submission; with ``size``, its payload has so many bytes more."""
    payload = msgspec.json.encode({"label": label, "filler": "x" * size})
    if key is not None:
        fields |= {"idempotency_key": key, "fingerprint": key.encode()}
    return new_job(payload=payload, **fields)


def keyed(key: str) -> NewJob:
    """The submission that tells whether a key is known."""
    return job(f"after {key}", key=key)


def _create(*jobs: NewJob, reserve: Lease | None = None) -> Step:
    def act(store: JobStore, world: World) -> object:
        created = store.create_jobs(jobs, reserve=reserve)
        for each in created:
            world.learn(each.job)
        return created

    return Step(f"create {', '.join(map(label_of, jobs))}", act, weighs=True, settles=True)


def _claim(label: str, lease: Lease = OURS, *, alone: bool = False) -> Step:
    def act(store: JobStore, world: World) -> object:
        claimed = store.claim_job(world.id(label), lease, alone=alone)
        world.learn(claimed)
        return claimed

    return Step(f"claim {label}", act)


def _finish(label: str, outcome: Outcome, following: str | None = None, messages: Sequence[str] = ()) -> Step:
    def act(store: JobStore, world: World) -> object:
        finished = store.finish_job(
            world.id(label),
            world.attempts.get(label, 0),
            outcome,
            lines=[line(message) for message in messages],
            progress=HALF if messages else None,
            claim_next=(world.id(following), OURS) if following else None,
        )
        world.learn(finished.next_job)
        return finished

    return Step(f"finish {label}: {type(outcome).__name__}", act, weighs=True)


def _note(label: str, messages: Sequence[str], skipped: int = 0) -> Step:
    def act(store: JobStore, world: World) -> object:
        attempt = world.attempts.get(label, 0)
        store.record_notes([Note(world.id(label), attempt, HALF, tuple(map(line, messages)), skipped)])
        return None

    return Step(f"note {label}", act)


def _by_hand(name: str, label: str) -> Step:
    def act(store: JobStore, world: World) -> object:
        return getattr(store, f"{name}_job")(world.id(label))

    return Step(f"{name} {label}", act, weighs=True, settles=True)


def _queue(name: str, queue: str) -> Step:
    def act(store: JobStore, _: World) -> object:
        return getattr(store, f"{name}_queue")(queue)

    return Step(f"{name} {queue}", act, weighs=True, settles=True)


def _keep_house(store: JobStore, _: World) -> None:
    store.maintain()


def _read(label: str) -> Step:
    def act(store: JobStore, world: World) -> object:
        job_id = world.id(label)
        return store.get_job(job_id), store.list_attempts(job_id), store.list_log(job_id)

    return Step(f"read {label}", act, settles=True, reads=True)


def _list(store: JobStore, _: World) -> object:
    return store.list_jobs(EVERYTHING, 100).jobs, store.count_jobs(), store.count_queues()


def _delete_finished(status: JobStatus, limit: int) -> Step:
    def act(store: JobStore, _: World) -> object:
        return store.delete_finished(status, START + timedelta(days=1), limit)

    return Step(f"delete {status}", act, weighs=True)


def _recover(store: JobStore, _: World) -> object:
    return store.recover(solo_limit=SOLO_LIMIT)


#: Bytes: a few of such payloads are more than the cache of the connection holds, and fill many pages.
_LARGE = 4_000

_LIST = Step("list", _list, settles=True, reads=True)
_FLUSH = Step("flush", lambda store, _: store.flush(), settles=True, reads=True)
#: Pending jobs are moved along with the wall clock.
FOLLOW = Step("follow the clock", lambda store, _: store.follow_clock(1_000), weighs=True)
#: Keep house.
MAINTAIN = Step("maintain", _keep_house, reads=True)

#: The steps, in order. The store is open before the first, and closed after the last.
SCRIPT: list[Step] = [
    Step("start", _recover, settles=True),
    _create(job("a", tags=("t", "u"))),
    _create(job("b", priority=1, key="one"), job("c", key="two", tags=("t",)), job("d", queue="slow"), reserve=OURS),
    _create(job("b again", key="one")),
    _create(job("lost", tags=("lost",)), msgspec.structs.replace(job("c", key="two"), fingerprint=b"another")),
    _create(job("later", run_at=START + timedelta(days=2))),
    Step("reserve", lambda store, _: store.reserve_jobs("default", 2, OURS)),
    _claim("b"),
    _note("b", ["1", "2"]),
    _note("b", ["4", "5"], skipped=1),
    _finish("b", DONE, following="c", messages=["6"]),
    _read("b"),
    _finish("c", FAILED),
    _claim("c"),
    _by_hand("cancel", "c"),
    _finish("c", CANCELLED),
    _LIST,
    _claim("d"),
    _finish("d", FAILED_FOR_GOOD, messages=["alas"]),
    _by_hand("retry", "d"),
    _claim("d"),
    _finish("d", INTERRUPTED),
    _read("d"),
    MAINTAIN,
    _create(job("e", tags=("t", "e"), key="three"), reserve=THEIRS),
    _claim("e"),
    Step("release e", lambda store, world: store.release_jobs([world.id("e")], THEIRS.owner)),
    _by_hand("cancel", "e"),
    _by_hand("delete", "e"),
    _by_hand("cancel", "later"),
    _by_hand("cancel", "b"),
    _queue("pause", "slow"),
    _create(job("f", queue="slow")),
    _claim("f"),
    Step("reserve nothing", lambda store, _: store.reserve_jobs("slow", 9, OURS)),
    _create(*(job(f"large {number}", _LARGE, tags=("t",)) for number in range(12))),
    _FLUSH,
    MAINTAIN,
    _claim("large 0"),
    _finish("large 0", DONE, following="large 1"),
    # A refusal that tells an outcome which is not synced.
    _by_hand("cancel", "large 0"),
    _finish("large 0", FAILED),
    _note("large 1", ["x" * 3_000] * 4),
    _finish("large 1", Failed(BOOM, retry_in=60), following="large 2"),
    MAINTAIN,
    Step("renew", lambda store, world: store.renew_leases([world.id("large 2"), world.id("large 1")], OURS)),
    _claim("a", THEIRS),
    Step("expire", lambda store, _: store.release_expired(), weighs=True, wait=31),
    _read("large 2"),
    _delete_finished(JobStatus.COMPLETED, 1),
    _delete_finished(JobStatus.CANCELLED, 9),
    _claim("a", alone=True),
    _claim("large 3"),
    Step("end solitude", lambda store, world: store.end_solitude(world.id("a"), world.attempts.get("a", 0))),
    _claim("large 4", alone=True),
    _LIST,
    REOPEN,
    Step("recover", _recover, settles=True, weighs=True),
    _LIST,
    Step("release suspects", lambda store, world: store.release_suspects([world.id("a"), world.id("large 4")])),
    _LIST,
    # Not before it was opened again: a store does not know of what happens to the clock while it cannot look.
    replace(FOLLOW, jump=-3_600),
    FOLLOW,
    _queue("resume", "slow"),
    _create(job("g", key="three")),
    _claim("f"),
    _finish("f", DONE, following="g"),
    MAINTAIN,
    _finish("g", DONE),
    Step("count", lambda store, _: store.count_jobs(), settles=True, reads=True),
    _create(job("h")),
    MAINTAIN,
    _by_hand("cancel", "h"),
    _claim("large 5"),
    _finish("large 5", DONE),
    _FLUSH,
    _claim("large 6"),
    _finish("large 6", Failed(BOOM, final=True)),
]

#: Steps that fill more of the write-ahead log than one part of its index covers, so that the index must grow.
LONG_LOG: list[Step] = [
    Step("start", _recover),
    *(_create(job(f"large {number}", 1_000_000)) for number in range(9)),
]
