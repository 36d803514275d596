"""Responses: jobs and what belongs to them as JSON, key by key."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from flask import Response
from werkzeug.datastructures import Headers

from store.job import Job, JobError, JobStatus, Progress

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_encode = msgspec.json.Encoder().encode


class JobResource(msgspec.Struct, frozen=True):
    """A job on the wire: these keys, in this order, always all of them."""

    id: str
    type: str
    queue: str
    status: JobStatus
    priority: int
    payload: msgspec.Raw
    result: msgspec.Raw | None
    error: JobError | None
    progress: Progress
    attempt: int
    interruptions: int
    cancel_requested: bool
    max_attempts: int
    timeout: float
    tags: Sequence[str]
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


def job_resource(job: Job) -> JobResource:
    """The part of a job that clients see."""
    return JobResource(
        job.id,
        job.type,
        job.queue,
        job.status,
        job.priority,
        job.payload,
        job.result,
        job.error,
        job.progress,
        job.attempt,
        job.interruptions,
        job.cancel_requested,
        job.max_attempts,
        job.timeout,
        job.tags,
        job.created_at,
        job.run_at,
        job.started_at,
        job.finished_at,
    )


class Answer(Response):
    """An answer whose headers go out as they stand.

    Werkzeug would go over Location and Content-Length once more, for a tenth of the time that
    a whole submission takes.
    """

    default_mimetype = None

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:  # noqa: ARG002 - Werkzeug's signature
        """All that was given to the constructor."""
        return self.headers


def json_body(value: object) -> bytes:
    """``value`` as the body of an answer; the newline at its end is for people at a terminal."""
    return _encode(value) + b"\n"


def answer(value: object, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """An answer whose body is ``value`` as JSON."""
    return answer_with(json_body(value), status, headers)


def answer_with(body: bytes, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """An answer with a ``body`` that is JSON already."""
    own = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return Answer([body], status, [*own, *headers])
