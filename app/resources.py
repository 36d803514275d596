"""Responses: jobs and what belongs to them as JSON, key by key."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from flask import Response, request
from werkzeug.datastructures import Headers

from store.job import Job, JobError, JobStatus, Progress

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_encode = msgspec.json.Encoder().encode

#: The media type of all answers but bare texts and problems.
JSON = "application/json"


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
    submitted_by: str | None


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
        job.submitted_by,
    )


class Untyped(Response):
    """An answer of no type unless it says of which: Werkzeug would take it for a page."""

    default_mimetype = None


class Answer(Untyped):
    """An answer whose headers go out as they stand.

    Werkzeug would go over Location and Content-Length once more, for a tenth of the time that
    a whole submission takes.
    """

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:  # noqa: ARG002 - Werkzeug's signature
        """All that was given to the constructor."""
        return self.headers


def json_body(value: object) -> bytes:
    """``value`` as the body of an answer; the newline at its end is for people at a terminal."""
    return _encode(value) + b"\n"


def answer(value: object, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """An answer whose body is ``value`` as JSON."""
    return answer_with(json_body(value), status, headers)


def answer_with(
    body: bytes, status: int = 200, headers: Iterable[tuple[str, str]] = (), media_type: str = JSON
) -> Answer:
    """An answer whose ``body`` is of this media type already."""
    own = [("Content-Type", media_type), ("Content-Length", str(len(body)))]
    return Answer([body], status, [*own, *headers])


def tagged(full: Answer) -> Response:
    """``full`` with an ETag, or 304 for a client that has exactly this already; nothing but a 200 is tagged.

    For GET and HEAD only (RFC 9110, section 13.1.2).
    """
    if full.status_code != 200:
        return full
    etag = hashlib.blake2b(full.get_data(), digest_size=16).hexdigest()
    headers = {"ETag": f'"{etag}"', "Cache-Control": "no-cache"}
    if request.if_none_match.contains_weak(etag):
        return Response(status=304, headers=headers)
    full.headers.update(headers)
    return full
