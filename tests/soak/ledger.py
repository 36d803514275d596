"""What clients of a service were told, kept outside of it; whatever contradicts it later is a broken promise."""

import itertools
import math
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

Job = Mapping[str, Any]

_FINAL = frozenset({"completed", "failed", "cancelled"})
#: What a job is from its submission on.
_FIXED = ("id", "type", "queue", "priority", "payload", "max_attempts", "timeout", "tags", "created_at")
#: A broken service breaks its promises many times; so many are enough to see which.
_ENOUGH = 20


class Fate(Enum):
    """What is known of a submission."""

    #: Under way, or the service died before it answered.
    UNKNOWN = auto()
    #: Its jobs are stored.
    ACCEPTED = auto()
    #: It was refused, or was not there after a crash: none of its jobs may ever be seen.
    REFUSED = auto()


@dataclass(slots=True)
class Submission:
    """One request that submits jobs, all or none."""

    #: The first tag of its jobs; the second is ``<tag>.<place>``.
    tag: str
    jobs: Sequence[dict[str, object]]
    #: Its Idempotency-Key.
    key: str | None
    fate: Fate = Fate.UNKNOWN
    ids: list[str] = field(default_factory=list)
    #: Somebody asked to delete one of its jobs, so that its key may mean a new job.
    was_thinned: bool = False


@dataclass(slots=True)
class _Entry:
    """A job that was accepted, or found."""

    first: Job
    submission: Submission
    #: The highest attempt that was seen, and when.
    attempt: int = 0
    attempt_at: float = 0
    #: As it was seen final, and when, since the last retry by hand.
    final: Job | None = None
    final_at: float = 0
    #: Since when no retry by hand is under way; what was asked before may show what was before it.
    calm_since: float = 0
    #: How many retries by hand were asked for.
    retries: int = 0
    #: The attempt after which an acknowledged retry by hand made it pending again.
    retried_after: int | None = None
    #: The attempt that was acknowledged to be told to end.
    cancelling: int | None = None
    #: A cancel was asked for since the last retry.
    cancel_asked: bool = False
    #: Its deletion was asked for; and since when it is known to be gone.
    may_be_gone: bool = False
    gone_since: float = math.inf


class Ledger:
    """Records answers, and what they promise. Safe to use from any thread.

    A job is steered (cancelled, retried, deleted) by one client at a time, and read by any. Who reads takes the
    time (:meth:`now`) before it asks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # guards: everything below
        self._clock = itertools.count(1)
        self._tags = itertools.count(1)
        self._submissions: dict[str, Submission] = {}
        self._ids: dict[str, str] = {}
        self._entries: dict[str, _Entry] = {}
        #: Every broken promise, in words.
        self.broken: list[str] = []
        #: What happened how often.
        self.counts: Counter[str] = Counter()

    def now(self) -> float:
        """A time later than all that the ledger has recorded."""
        with self._lock:
            return next(self._clock)

    def accuse(self, what: str, *details: object) -> None:
        """Record a broken promise."""
        with self._lock:
            self._accuse_locked(what, *details)

    def _accuse_locked(self, what: str, *details: object) -> None:
        self.counts["broken"] += 1
        if len(self.broken) < _ENOUGH:
            self.broken.append(": ".join([what, *map(str, details)]))

    # Submissions.

    def submitting(self, jobs: Sequence[dict[str, object]], *, keyed: bool) -> Submission:
        """A submission that is about to be sent; its jobs get their tags."""
        with self._lock:
            tag = str(next(self._tags))
            tagged = [job | {"tags": [tag, f"{tag}.{place}"]} for place, job in enumerate(jobs)]
            submission = Submission(tag, tagged, f"key-{tag}" if keyed else None)
            self._submissions[tag] = submission
            return submission

    def accepted(self, submission: Submission, asked_at: float, jobs: Sequence[Job], *, replayed: bool) -> None:
        """The service acknowledged it, at once or when it was sent again."""
        with self._lock:
            ids = [job["id"] for job in jobs]
            if submission.fate is Fate.REFUSED and replayed:
                self._accuse_locked("a submission that was not there was replayed", submission)
            if submission.fate is Fate.ACCEPTED and (submission.ids != ids or not replayed):
                self._accuse_locked("a key made other jobs than before", submission, ids)
            if len(ids) != len(submission.jobs):
                self._accuse_locked("a submission became another number of jobs", submission, ids)
            self._accept_locked(submission, ids)
            self.counts["replays" if replayed else "submissions"] += 1
            for job in jobs:
                self._saw_locked(asked_at, job)

    def _accept_locked(self, submission: Submission, ids: list[str]) -> None:
        if submission.fate is not Fate.ACCEPTED:
            self.counts["jobs"] += len(ids)
        submission.fate = Fate.ACCEPTED
        submission.ids = ids

    def refused(self, submission: Submission) -> None:
        """The service said that it did not take it."""
        with self._lock:
            self.counts["refused"] += 1
            if submission.fate is Fate.ACCEPTED:
                self._accuse_locked("what was accepted was refused when it was sent again", submission)
            submission.fate = Fate.REFUSED

    def settled(self, submission: Submission, asked_at: float, found: Sequence[Job]) -> None:
        """After a crash: the jobs that came of a submission without an answer."""
        with self._lock:
            self.counts["unknown submissions"] += 1
            if len(found) not in (0, len(submission.jobs)):
                self._accuse_locked("a batch was stored in part", submission, [job["id"] for job in found])
            self.counts["of these stored"] += bool(found)
            if found:
                self._accept_locked(submission, [job["id"] for job in reversed(found)])
            else:
                submission.fate = Fate.REFUSED
            for job in found:
                self._saw_locked(asked_at, job)

    # Jobs.

    def saw(self, asked_at: float, jobs: Iterable[Job]) -> None:
        """These came as the answer to what was asked at that time."""
        with self._lock:
            for job in jobs:
                self._saw_locked(asked_at, job)

    def missed(self, asked_at: float, job_id: str) -> None:
        """The job was not found."""
        with self._lock:
            entry = self._entries[job_id]
            if not entry.may_be_gone:
                self._accuse_locked("an acknowledged job is gone", job_id)
            entry.gone_since = min(entry.gone_since, next(self._clock))

    def _saw_locked(self, asked_at: float, job: Job) -> None:
        self.counts["sightings"] += 1
        entry = self._entries.get(job["id"]) or self._new_locked(job)
        if entry is None:
            return
        now = next(self._clock)
        if any(job[name] != entry.first[name] for name in _FIXED):
            self._accuse_locked("a job became another one", entry.first, job)
        if asked_at > entry.gone_since:
            self._accuse_locked("a deleted job came back", job)
        if asked_at > entry.attempt_at and job["attempt"] < entry.attempt:
            self._accuse_locked("attempts were forgotten", job, entry.attempt)
        if job["attempt"] > entry.attempt:
            entry.attempt, entry.attempt_at = job["attempt"], now
        self._compare_locked(entry, asked_at, now, job)

    def _new_locked(self, job: Job) -> _Entry | None:
        tag, place = job["tags"]
        submission = self._submissions.get(tag)
        if submission is None or submission.fate is Fate.REFUSED:
            self._accuse_locked("a job that nobody was told of", job)
            return None
        if self._ids.setdefault(place, job["id"]) != job["id"] and not submission.was_thinned:
            self._accuse_locked("a submission became two jobs", self._ids[place], job)
        if asked := _difference(submission.jobs[int(place.partition(".")[2])], job):
            self._accuse_locked("a job is not as it was submitted", asked, job)
        entry = self._entries[job["id"]] = _Entry(job, submission)
        return entry

    def _compare_locked(self, entry: _Entry, asked_at: float, now: float, job: Job) -> None:
        final = entry.final
        is_calm = entry.calm_since < asked_at
        if final and final["status"] == "completed" and job["status"] in _FINAL and job != final:
            self._accuse_locked("a completed job changed", final, job)
        elif final and is_calm and (job["status"] in _FINAL or asked_at > entry.final_at) and job != final:
            self._accuse_locked("a final job changed", final, job)
        elif final is None and is_calm and job["status"] in _FINAL:
            entry.final, entry.final_at = job, now
            self.counts["outcomes seen"] += 1

    # Steering.

    def cancelling(self, job_id: str) -> None:
        """A cancel is about to be asked for."""
        with self._lock:
            self._entries[job_id].cancel_asked = True

    def cancelled(self, asked_at: float, job: Job, *, at_once: bool) -> None:
        """A cancel was acknowledged: the job is cancelled, or its handler is being told."""
        with self._lock:
            self.counts["cancels"] += 1
            entry = self._entries[job["id"]]
            if not at_once:
                entry.cancelling = job["attempt"]
            elif job["status"] != "cancelled":
                self._accuse_locked("a cancel was acknowledged that did not happen", job)
            self._saw_locked(asked_at, job)

    def retrying(self, job_id: str) -> None:
        """A retry is about to be asked for."""
        with self._lock:
            entry = self._entries[job_id]
            entry.calm_since = math.inf
            entry.retries += 1

    def retried(self, asked_at: float, job: Job) -> None:
        """A retry was acknowledged."""
        with self._lock:
            self.counts["retries"] += 1
            entry = self._entries[job["id"]]
            if job["status"] in _FINAL or (entry.final and entry.final["status"] == "completed"):
                self._accuse_locked("a retry was acknowledged that cannot be", entry.final, job)
            self._saw_locked(asked_at, job)
            self._forget_final_locked(entry)
            entry.retried_after = job["attempt"]

    def retry_unknown(self, job_id: str) -> None:
        """The service died before it answered to a retry."""
        with self._lock:
            entry = self._entries[job_id]
            if entry.final is None or entry.final["status"] != "completed":
                self._forget_final_locked(entry)
            entry.retried_after = None
            entry.calm_since = next(self._clock)

    def _forget_final_locked(self, entry: _Entry) -> None:
        entry.final = None
        entry.cancelling = None
        entry.cancel_asked = False
        entry.calm_since = next(self._clock)

    def not_retried(self, job_id: str) -> None:
        """A retry was refused, because of the job's state."""
        with self._lock:
            entry = self._entries[job_id]
            if entry.final and entry.final["status"] != "completed":
                self._accuse_locked("a final job cannot be retried", entry.final)
            entry.calm_since = next(self._clock)

    def deleting(self, job_id: str) -> bool:
        """A deletion is about to be asked for; whether the job may be gone already."""
        with self._lock:
            entry = self._entries[job_id]
            was_there = not entry.may_be_gone
            entry.may_be_gone = entry.submission.was_thinned = True
            return not was_there

    def deleted(self, job_id: str) -> None:
        """A deletion was acknowledged, or there was nothing to delete."""
        with self._lock:
            self.counts["deletions"] += 1
            self._entries[job_id].gone_since = next(self._clock)

    def not_deleted(self, job_id: str) -> None:
        """A deletion was refused, because of the job's state."""
        with self._lock:
            entry = self._entries[job_id]
            entry.may_be_gone = False
            if entry.final:
                self._accuse_locked("a final job cannot be deleted", entry.final)

    # The end.

    def kept_ids(self) -> set[str]:
        """The jobs that must be in the store."""
        with self._lock:
            return {job_id for job_id, entry in self._entries.items() if not entry.may_be_gone}

    def retries_of(self, job_id: str) -> int:
        """How many retries by hand were asked for."""
        with self._lock:
            return self._entries[job_id].retries

    def close(self, jobs: Mapping[str, Job]) -> None:
        """Compare with every job of the service, once it has nothing left to do."""
        self.saw(self.now(), jobs.values())
        with self._lock:
            for job_id, entry in self._entries.items():
                if job_id in jobs:
                    self._close_entry_locked(entry, jobs[job_id])
                elif not entry.may_be_gone:
                    self._accuse_locked("an acknowledged job is lost", entry.first)
            for submission in self._submissions.values():
                if submission.fate is Fate.ACCEPTED and not set(submission.ids) <= self._entries.keys():
                    self._accuse_locked("an acknowledged submission is lost", submission)

    def _close_entry_locked(self, entry: _Entry, job: Job) -> None:
        self.counts[job["status"]] += 1
        if job["status"] not in _FINAL:
            self._accuse_locked("a job did not end", job)
        if job["status"] == "completed" and job["result"] != {"id": job["id"], "attempt": job["attempt"]}:
            self._accuse_locked("a result is another attempt's", job)
        ran_on = entry.cancelling is not None and job["attempt"] != entry.cancelling
        if ran_on or (entry.cancelling is not None and job["status"] == "failed"):
            self._accuse_locked("an acknowledged cancel was forgotten", entry.cancelling, job)
        if entry.retried_after == job["attempt"] and not (entry.cancel_asked and job["status"] == "cancelled"):
            self._accuse_locked("an acknowledged retry was forgotten", job)


def _difference(asked: Mapping[str, object], job: Job) -> dict[str, object]:
    """What of a submission is not in its job; times and backoff are told in other words there."""
    return {name: value for name, value in asked.items() if name not in ("run_at", "backoff") and job[name] != value}
