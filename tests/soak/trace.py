"""What the handlers themselves left behind, held against what the service says of its jobs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from store.transitions import FREE_CRASHES

Job = Mapping[str, Any]


class Line(NamedTuple):
    """One line of a trace."""

    #: ``begin`` or ``end``.
    what: str
    job_id: str
    attempt: int


def read(path: Path) -> list[Line]:
    """The lines of a trace, in the order in which they were written."""
    words = (line.split() for line in path.read_text().splitlines())
    return [Line(what, job_id, int(attempt)) for what, job_id, attempt in words]


def faults(lines: Sequence[Line], jobs: Mapping[str, Job]) -> Iterator[str]:
    """What contradicts the jobs: executions that were not counted, happened twice, or at the same time."""
    begun: dict[str, int] = {}
    for line in lines:
        current = begun.get(line.job_id, 0)
        if line.what == "begin" and line.attempt <= current:
            yield f"attempt {line.attempt} was executed after attempt {current}: {line.job_id}"
        if line.what == "end" and line.attempt != current:
            yield f"attempt {line.attempt} still ran when attempt {current} did: {line.job_id}"
        begun[line.job_id] = max(current, line.attempt)
    ended = {(line.job_id, line.attempt) for line in lines if line.what == "end"}
    for job_id, job in jobs.items():
        if begun.get(job_id, 0) > job["attempt"]:
            yield f"executions exceed the recorded attempts: {begun[job_id]} of {job}"
        if job["status"] == "completed" and (job_id, job["attempt"]) not in ended:
            yield f"a job is completed though its handler did not return: {job}"


def attempt_faults(job: Job, attempts: Sequence[Mapping[str, Any]], retries: int) -> Iterator[str]:
    """What is wrong with the record of a job's attempts; ``retries`` by hand gave it a new budget each."""
    statuses = [attempt["status"] for attempt in attempts]
    if [attempt["attempt"] for attempt in attempts] != list(range(1, job["attempt"] + 1)):
        yield f"the attempts are not 1 to {job['attempt']}: {attempts}"
    if "processing" in statuses or "completed" in statuses[:-1]:
        yield f"an attempt ended otherwise than its job: {statuses} of {job}"
    charged = sum(status in ("failed", "timed_out", "crashed") for status in statuses)
    # A crash beside others costs nothing, so often.
    free = min(statuses.count("crashed"), FREE_CRASHES * (1 + retries))
    if charged - free > job["max_attempts"] * (1 + retries):
        yield f"{charged} attempts exceed their bound: {statuses} of {job}"
    is_spent = charged >= job["max_attempts"] or statuses.count("crashed") >= 2
    if job["status"] == "failed" and job["error"]["type"] == "Crashed" and not is_spent:
        yield f"a job was given up before its time: {statuses} of {job}"


def solitude_faults(lines: Sequence[Line], is_suspect: Callable[[str, int], bool]) -> Iterator[str]:
    """Executions of suspects that had others beside them. ``is_suspect``: whether an attempt must run alone."""
    alone: Line | None = None
    ended = {line[1:] for line in lines if line.what == "end"}
    for line in lines:
        if alone and line.what == "begin":
            yield f"{line} ran beside a suspect, {alone}"
        if line.what == "begin":
            # What did not come to its end was killed, with the service or by a cancel: nobody knows when.
            alone = line if is_suspect(line.job_id, line.attempt) and line[1:] in ended else None
        elif alone and line[1:] == alone[1:]:
            alone = None
