"""The calls about jobs."""

import hashlib
from contextlib import suppress
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from flask import Blueprint, Response, request
from msgspec import Meta

from app import query
from app.request_headers import check_json_body, idempotency_key, preferred_wait
from app.resources import answer, answer_with, job_resource, json_body
from app.submission import Instant, Name, SubmissionParser, Tag
from app.waiting import MAX_WAIT, WaitingRoom
from store.errors import JobNotFound, StoreError
from store.job import JobStatus
from store.protocol import JobFilter
from worker.engine import Engine

_STATUSES = "one of " + ", ".join(JobStatus)


class JobQuery(msgspec.Struct, frozen=True):
    """The parameters of ``GET /jobs/{id}``."""

    #: Seconds.
    wait: Annotated[float, Meta(ge=0, le=MAX_WAIT, description=f"a number of seconds from 0 to {MAX_WAIT}")] = 0


class ListQuery(msgspec.Struct, frozen=True):
    """The parameters of ``GET /jobs``."""

    status: Annotated[JobStatus, Meta(description=_STATUSES)] | None = None
    type: Name | None = None
    queue: Name | None = None
    tag: Annotated[Tag, Meta(description="a tag: 1 to 100 characters, none a control character")] | None = None
    created_after: Instant | None = None
    created_before: Instant | None = None
    limit: Annotated[int, Meta(ge=1, le=1000, description="a whole number from 1 to 1000")] = 50
    cursor: Annotated[str, Meta(description="taken from the next of a page before")] | None = None


class JobCalls:
    """Submits, shows, lists and steers jobs."""

    def __init__(self, engine: Engine, room: WaitingRoom) -> None:
        self._engine = engine
        self._room = room
        self._parser = SubmissionParser(engine.registry, engine.queue_names())

    def submit(self) -> Response:
        """``POST /jobs``"""
        environ = request.environ
        query.require_empty()
        check_json_body(environ)
        new = self._parser.read(request.get_data(cache=False), idempotency_key(environ))
        created = self._engine.submit(new)
        job = created.job
        headers = [("Location", f"/jobs/{job.id}")]
        status = 201
        if created.replayed:
            status = 200
            headers.append(("Idempotency-Replayed", "true"))
        if "HTTP_PREFER" in environ and (seconds := preferred_wait(environ)) is not None:
            seconds = min(seconds, MAX_WAIT)
            # The job is stored: that it cannot be looked at just now must not say otherwise.
            with suppress(StoreError):
                job = self._room.wait(job.id, seconds, environ)
            if job.status.is_final:
                status = 200
                headers.append(("Preference-Applied", f"wait={seconds}"))
        return answer(job_resource(job), status, headers)

    def submit_batch(self) -> Response:
        """``POST /jobs/batch``"""
        query.require_empty()
        check_json_body(request.environ)
        new_jobs = self._parser.read_batch(request.get_data(cache=False), idempotency_key(request.environ))
        created = self._engine.submit_many(new_jobs)
        body = {"jobs": [job_resource(one.job) for one in created]}
        if all(one.replayed for one in created):
            return answer(body, 200, [("Idempotency-Replayed", "true")])
        return answer(body, 201)

    def list(self) -> Response:
        """``GET /jobs``"""
        wanted = query.parse(ListQuery)
        where = JobFilter(
            status=wanted.status,
            type=wanted.type,
            queue=wanted.queue,
            tag=wanted.tag,
            created_after=wanted.created_after,
            created_before=wanted.created_before,
        )
        page = self._engine.store.list_jobs(where, wanted.limit, wanted.cursor)
        following = _page_after(page.next_cursor) if page.next_cursor is not None else None
        link = [("Link", f'<{following}>; rel="next"')] if following else []
        return answer({"jobs": [job_resource(job) for job in page.jobs], "next": following}, 200, link)

    def get(self, job_id: str) -> Response:
        """``GET /jobs/{id}``"""
        wanted = query.parse(JobQuery)
        job = self._room.wait(_checked(job_id), wanted.wait, request.environ)
        body = json_body(job_resource(job))
        etag = hashlib.blake2b(body, digest_size=16).hexdigest()
        headers = [("ETag", f'"{etag}"'), ("Cache-Control", "no-cache")]
        # RFC 9110, section 13.1.2: a GET compares weakly.
        if request.if_none_match.contains_weak(etag):
            return Response(status=304, headers=headers)
        return answer_with(body, 200, headers)

    def log(self, job_id: str) -> Response:
        """``GET /jobs/{id}/logs``"""
        query.require_empty()
        return answer({"lines": self._engine.store.list_log(_checked(job_id))})

    def attempts(self, job_id: str) -> Response:
        """``GET /jobs/{id}/attempts``"""
        query.require_empty()
        return answer({"attempts": self._engine.store.list_attempts(_checked(job_id))})

    def cancel(self, job_id: str) -> Response:
        """``POST /jobs/{id}/cancel``: 202 while the handler that runs is still being told."""
        query.require_empty()
        job = self._engine.cancel(_checked(job_id))
        return answer(job_resource(job), 200 if job.status.is_final else 202)

    def retry(self, job_id: str) -> Response:
        """``POST /jobs/{id}/retry``"""
        query.require_empty()
        return answer(job_resource(self._engine.retry(_checked(job_id))))

    def delete(self, job_id: str) -> Response:
        """``DELETE /jobs/{id}``"""
        query.require_empty()
        self._engine.delete(_checked(job_id))
        return Response(status=204)


def blueprint(engine: Engine, room: WaitingRoom) -> Blueprint:
    """The routes of these calls."""
    calls = JobCalls(engine, room)
    routes = Blueprint("jobs", __name__)
    routes.post("/jobs")(calls.submit)
    routes.get("/jobs")(calls.list)
    routes.post("/jobs/batch")(calls.submit_batch)
    routes.get("/jobs/<job_id>")(calls.get)
    routes.delete("/jobs/<job_id>")(calls.delete)
    routes.get("/jobs/<job_id>/logs")(calls.log)
    routes.get("/jobs/<job_id>/attempts")(calls.attempts)
    routes.post("/jobs/<job_id>/cancel")(calls.cancel)
    routes.post("/jobs/<job_id>/retry")(calls.retry)
    return routes


def _checked(job_id: str) -> str:
    """``job_id`` if it can be one; no store needs to look for anything else. Raises JobNotFound."""
    if len(job_id) != 36 or not job_id.isascii():
        raise JobNotFound(job_id[:100])
    return job_id


def _page_after(cursor: str) -> str:
    """The current listing's address with its filters, from ``cursor`` on."""
    filters = [(name, text) for name, text in request.args.items() if name != "cursor"]
    return "/jobs?" + urlencode([*filters, ("cursor", cursor)])
