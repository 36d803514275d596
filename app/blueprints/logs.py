"""The call that shows a job's log, and follows it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import msgspec
from flask import Blueprint, Response, request
from msgspec import Meta

from app import query
from app.accept import preferred
from app.job_id import checked
from app.job_log import LogForm, NdjsonLog, TextLog, count_dropped, start_of
from app.policy import Policy, needs
from app.resources import JSON, Answer, answer, answer_with
from app.waiting import WaitingRoom, gone
from store.errors import GoferError, JobNotFound
from store.job import LogLine
from worker.engine import Engine

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_TEXT, _NDJSON = "text/plain", "application/x-ndjson"
#: The media types of a whole log, and of one that is followed; the first is for clients that accept any.
_WHOLE, _FOLLOWED = (JSON, _TEXT), (_TEXT, _NDJSON)
_FORMS: Mapping[str, Callable[[int], LogForm]] = MappingProxyType({_TEXT: TextLog, _NDJSON: NdjsonLog})

_HEADERS = (("Vary", "Accept"),)
#: No one may hold a stream back; this tells nginx, which would by default.
_STREAM_HEADERS = (*_HEADERS, ("X-Accel-Buffering", "no"))

#: Lines that are sent together: between two such pieces it shows whether the client still reads.
_AT_ONCE = 100


class LogQuery(msgspec.Struct, frozen=True):
    """The parameters of ``GET /jobs/{id}/logs``."""

    #: Only the last so many lines.
    tail: Annotated[int, Meta(ge=1, le=100_000, description="a whole number from 1 to 100000")] | None = None
    #: Only lines with a greater number.
    after: Annotated[int, Meta(ge=0, le=10**15, description="the number of a line, or 0")] = 0
    #: Go on until the job has ended.
    follow: query.Flag = False


class LogResource(msgspec.Struct, frozen=True):
    """A log on the wire."""

    lines: Sequence[LogLine]
    #: Lines that were left out before or between these, though the client asked for them.
    dropped: int


class Stream(Answer):
    """An answer that goes on. Its head leaves at once, so that the client knows how it stands."""

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """As any other response, but for the head."""
        body, status, headers = self.get_wsgi_response(environ)
        # What start_response returns is the one way to send a head before there is any body (PEP 3333).
        start_response(status, headers)(b"")
        return body


class LogCalls:
    """Shows logs."""

    def __init__(self, engine: Engine, room: WaitingRoom) -> None:
        self._engine = engine
        self._room = room

    @needs(Policy.READ)
    def show(self, job_id: str) -> Response:
        """``GET /jobs/{id}/logs``"""
        wanted = query.parse(LogQuery)
        media_type = preferred(_FOLLOWED if wanted.follow else _WHOLE)
        lines = self._engine.store.list_log(checked(job_id), after=wanted.after, tail=wanted.tail)
        start = start_of(lines, wanted.after, wanted.tail)
        if media_type == JSON:
            return answer(LogResource(lines, count_dropped(lines, start)), 200, _HEADERS)
        form = _FORMS[media_type](start)
        if not wanted.follow:
            return answer_with(form.write(lines), 200, _HEADERS, form.content_type)
        stream = self._stream(job_id, form, lines, gone(request.environ))
        return Stream(stream, 200, [("Content-Type", form.content_type), *_STREAM_HEADERS])

    def _stream(self, job_id: str, form: LogForm, lines: list[LogLine], gone: Callable[[], bool]) -> Iterator[bytes]:
        """``lines``, and what comes after them until the job has ended.

        Nothing is held before the first piece is asked for: a HEAD asks for none.
        """
        try:
            with self._room.seat() as seated:
                if seated:
                    yield from _pieces(form, lines)
                    yield from self._follow(job_id, form, gone)
            if not seated:
                # In one piece, so that no thread waits for the client to read it.
                yield form.write(lines) + self._look_once(job_id, form, "too many requests wait")
            elif gone():
                # It may have closed its side only, and read on. No one can tell that from a client that hung up.
                yield self._look_once(job_id, form, "the client closed its side of the connection")
        except JobNotFound:  # deleted meanwhile, so there is no more of it
            return
        except GoferError as error:
            # Too late for a status. If the process has to end for this, the maintainer meets it, too.
            yield form.remark(f"{error}; {_how_to_go_on(form)}")

    def _follow(self, job_id: str, form: LogForm, gone: Callable[[], bool]) -> Iterator[bytes]:
        with closing(self._engine.follow(job_id, form.last, gone)) as batches:
            for lines in batches:
                yield from _pieces(form, lines)

    def _look_once(self, job_id: str, form: LogForm, reason: str) -> bytes:
        """What has come by now, and why it is not followed if there may be more."""
        is_final = self._engine.store.get_job(job_id).status.is_final
        written = form.write(self._engine.store.list_log(job_id, after=form.last))
        if is_final:
            return written
        return written + form.remark(f"not following: {reason}; {_how_to_go_on(form)}")


def blueprint(engine: Engine, room: WaitingRoom) -> Blueprint:
    """The routes of these calls."""
    calls = LogCalls(engine, room)
    routes = Blueprint("logs", __name__)
    routes.get("/jobs/<job_id>/logs")(calls.show)
    return routes


def _pieces(form: LogForm, lines: list[LogLine]) -> Iterator[bytes]:
    for begin in range(0, len(lines), _AT_ONCE):
        yield form.write(lines[begin : begin + _AT_ONCE])


def _how_to_go_on(form: LogForm) -> str:
    return f"ask again with ?follow=1&after={form.last}"
