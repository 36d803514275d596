"""The calls about jobs."""

from contextlib import suppress
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from flask import Blueprint, Response, request
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from app import query
from app.auth import in_callers_name
from app.fix import FixingParser
from app.job_id import checked
from app.policy import Policy, needs
from app.request_headers import Environ, check_json_body, idempotency_key, preferred_wait, traceparent
from app.resources import Answer, answer, job_resource, tagged
from app.results import BareResults
from app.submission import Instant, Name, Tag
from app.waiting import MAX_WAIT, WaitingRoom
from store.errors import StoreError
from store.job import Job, JobStatus, NewJob
from store.protocol import JobFilter
from worker.engine import Engine

_STATUSES = "one of " + ", ".join(JobStatus)


#: Seconds.
_Wait = Annotated[float, Meta(ge=0, le=MAX_WAIT, description=f"a number of seconds from 0 to {MAX_WAIT}")]


class SubmitQuery(msgspec.Struct, frozen=True):
    """The parameters of ``POST /jobs``."""

    #: Comes before ``Prefer: wait``.
    wait: _Wait | UnsetType = UNSET
    #: Answer with the bare result instead of the job.
    result: query.Flag = False


class JobQuery(msgspec.Struct, frozen=True):
    """The parameters of ``GET /jobs/{id}`` and ``GET /jobs/{id}/result``."""

    wait: _Wait = 0


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

    def __init__(self, engine: Engine, room: WaitingRoom, max_body: int) -> None:
        self._engine = engine
        self._room = room
        self._results = BareResults(engine.registry)
        self._parser = FixingParser(engine.registry, engine.queue_names(), max_body)

    @needs(Policy.SUBMIT)
    def submit(self) -> Response:
        """``POST /jobs``"""
        environ = request.environ
        wanted = query.parse(SubmitQuery)
        check_json_body(environ)
        new = self._parser.read(request.get_data(cache=False), idempotency_key(environ))
        (new,) = in_callers_name(environ, (new,))
        created = self._engine.submit(_traced(new, traceparent(environ)))
        headers = [("Location", f"/jobs/{created.job.id}")]
        if created.replayed:
            headers.append(("Idempotency-Replayed", "true"))
        preferred = _preferred_wait(environ) if wanted.wait is UNSET else None
        job = self._later(created.job, wanted.wait or preferred or 0)
        if preferred is not None and job.status.is_final:
            headers.append(("Preference-Applied", f"wait={preferred}"))
        if wanted.result:
            return self._results.answer(job, headers)
        return answer(job_resource(job), 200 if created.replayed or job.status.is_final else 201, headers)

    def _later(self, job: Job, seconds: float) -> Job:
        """The job just submitted, once it is final or the time is up."""
        if not seconds:
            return job
        # The job is stored: that it cannot be looked at just now must not say otherwise.
        with suppress(StoreError):
            return self._room.wait(job.id, seconds, request.environ)
        return job

    @needs(Policy.SUBMIT)
    def submit_batch(self) -> Response:
        """``POST /jobs/batch``"""
        environ = request.environ
        query.require_empty()
        check_json_body(environ)
        new_jobs = in_callers_name(
            environ, self._parser.read_batch(request.get_data(cache=False), idempotency_key(environ))
        )
        parent = traceparent(environ)
        created = self._engine.submit_many([_traced(new, parent) for new in new_jobs])
        body = {"jobs": [job_resource(one.job) for one in created]}
        if all(one.replayed for one in created):
            return answer(body, 200, [("Idempotency-Replayed", "true")])
        return answer(body, 201)

    @needs(Policy.READ)
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

    @needs(Policy.READ)
    def get(self, job_id: str) -> Response:
        """``GET /jobs/{id}``"""
        wanted = query.parse(JobQuery)
        job = self._room.wait(checked(job_id), wanted.wait, request.environ)
        return tagged(answer(job_resource(job)))

    @needs(Policy.READ)
    def result(self, job_id: str) -> Response:
        """``GET /jobs/{id}/result``"""
        wanted = query.parse(JobQuery)
        return tagged(self._results.answer(self._room.wait(checked(job_id), wanted.wait, request.environ)))

    @needs(Policy.READ)
    def attempts(self, job_id: str) -> Response:
        """``GET /jobs/{id}/attempts``"""
        query.require_empty()
        return answer({"attempts": self._engine.store.list_attempts(checked(job_id))})

    @needs(Policy.MANAGE)
    def cancel(self, job_id: str) -> Response:
        """``POST /jobs/{id}/cancel``: 202 while the handler that runs is still being told."""
        query.require_empty()
        job = self._engine.cancel(checked(job_id))
        return answer(job_resource(job), 200 if job.status.is_final else 202)

    @needs(Policy.MANAGE)
    def retry(self, job_id: str) -> Response:
        """``POST /jobs/{id}/retry``"""
        query.require_empty()
        return answer(job_resource(self._engine.retry(checked(job_id))))

    @needs(Policy.MANAGE)
    def delete(self, job_id: str) -> Response:
        """``DELETE /jobs/{id}``"""
        query.require_empty()
        self._engine.delete(checked(job_id))
        return Answer([], 204)


def blueprint(engine: Engine, room: WaitingRoom, max_body: int) -> Blueprint:
    """The routes of these calls. ``max_body``: bytes of a request's body."""
    calls = JobCalls(engine, room, max_body)
    routes = Blueprint("jobs", __name__)
    routes.post("/jobs")(calls.submit)
    routes.get("/jobs")(calls.list)
    routes.post("/jobs/batch")(calls.submit_batch)
    routes.get("/jobs/<job_id>")(calls.get)
    routes.delete("/jobs/<job_id>")(calls.delete)
    routes.get("/jobs/<job_id>/result")(calls.result)
    routes.get("/jobs/<job_id>/attempts")(calls.attempts)
    routes.post("/jobs/<job_id>/cancel")(calls.cancel)
    routes.post("/jobs/<job_id>/retry")(calls.retry)
    return routes


def _preferred_wait(environ: Environ) -> int | None:
    """The seconds of ``Prefer: wait``, as many of them as there may be; None without one."""
    seconds = preferred_wait(environ)
    return None if seconds is None else min(seconds, MAX_WAIT)


def _traced(new: NewJob, parent: str | None) -> NewJob:
    """``new`` in its trace, which is no part of what was asked for: it leaves the fingerprint alone."""
    return new if parent is None else replace(new, traceparent=parent)


def _page_after(cursor: str) -> str:
    """The current listing's address with its filters, from ``cursor`` on."""
    filters = [(name, text) for name, text in request.args.items() if name != "cursor"]
    return "/jobs?" + urlencode([*filters, ("cursor", cursor)])
