"""Problem details (RFC 9457): the one border where errors become answers.

A call refuses by raising :class:`Problem`; errors of the layers below are
translated here by their ``code``. Nothing else in ``app/`` sets a status over 399.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec
from flask import Flask, Response, request
from msgspec import UNSET, UnsetType
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from app import keys
from store.errors import GoferError, OutcomeUnknown

_log = logging.getLogger(__name__)

#: The media type of every error (RFC 9457, section 3).
MEDIA_TYPE = "application/problem+json"
#: How many errors of one request are listed; the rest would not be read anyway.
MAX_ERRORS = 50
#: How much of a wrong value or name an error repeats, in characters.
_SHOWN = 100


class Kind(msgspec.Struct, frozen=True):
    """What all problems with one code have in common."""

    status: int
    title: str
    #: Seconds after which trying again makes sense; None where it does not.
    retry_after: int | None = None


#: Every code that an answer can carry, ours and those of :class:`GoferError`.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "bad_request": Kind(400, "The request is malformed"),
        "bad_header": Kind(400, "A header has a wrong value"),
        "bad_query": Kind(400, "The query string is not valid"),
        "bad_json": Kind(400, "The body is not valid JSON"),
        "invalid_cursor": Kind(400, "The cursor is not valid"),
        "unauthorized": Kind(401, "A key is needed"),
        "forbidden": Kind(403, "The key does not allow this"),
        "cross_site": Kind(403, "Pages of other sites may not call this"),
        "not_found": Kind(404, "There is nothing here"),
        "job_not_found": Kind(404, "There is no such job"),
        "unknown_queue": Kind(404, "There is no such queue"),
        "method_not_allowed": Kind(405, "The method is not allowed here"),
        "not_acceptable": Kind(406, "The answer cannot be had like this"),
        "illegal_transition": Kind(409, "The job's status forbids this"),
        "stale_attempt": Kind(409, "The attempt is over"),
        "body_too_large": Kind(413, "The body is too large"),
        "foreign_host": Kind(421, "The service is not known by this name"),
        "unsupported_media_type": Kind(415, "The media type is not supported"),
        "invalid_submission": Kind(422, "The submission is not valid"),
        "idempotency_conflict": Kind(422, "The idempotency key was used for another submission"),
        "unknown_type": Kind(422, "There is no handler for this type"),
        "invalid_payload": Kind(422, "The payload is not valid"),
        "job_failed": Kind(424, "The job failed"),
        "job_cancelled": Kind(424, "The job was cancelled"),
        "too_many_attempts": Kind(429, "Too many attempts failed"),
        "headers_too_large": Kind(431, "The headers are too large"),
        "internal": Kind(500, "Something went wrong inside the service"),
        "not_implemented": Kind(501, "This is not supported"),
        "not_ready": Kind(503, "The service is not ready", retry_after=5),
        "shutting_down": Kind(503, "The service is stopping", retry_after=5),
        "backlog_full": Kind(503, "Too many jobs are waiting", retry_after=5),
        "store_unavailable": Kind(503, "The store is unavailable", retry_after=5),
        "store_full": Kind(503, "The store is full", retry_after=30),
        "store_damaged": Kind(503, "The store is damaged"),
        "store_closed": Kind(503, "The service has stopped", retry_after=5),
        # No Retry-After: to repeat it blindly may do it twice.
        "outcome_unknown": Kind(503, "It is unknown whether this was done"),
    }
)

#: The codes of ours that no client is meant to see: of the start, and of mistakes inside. One that
#: comes up in a request all the same is a bug, and answered as ``internal``.
UNANSWERED = frozenset(
    {
        "cannot_listen",
        "cannot_open_store",
        "config",
        "duplicate_handler",
        "handler_import",
        "queue_closed",
        "schema_too_new",
        "store_error",
        "store_in_use",
        "unhealthy",
    }
)

#: The codes of HTTP's own errors, as Flask raises them; any other one is the client's ``bad_request``.
_CODE_OF_STATUS = MappingProxyType({404: "not_found", 405: "method_not_allowed", 413: "body_too_large"})


class FieldError(msgspec.Struct, frozen=True):
    """One thing that is wrong with what the client sent."""

    #: Where, as in ``jobs[3].backoff.base``; empty for the whole.
    path: str
    #: What is wrong and what is allowed.
    message: str


class _Details(msgspec.Struct, frozen=True):
    """The members of a problem, in the order of the wire."""

    type: str
    title: str
    status: int
    detail: str
    #: Left out where no single part is to blame.
    errors: Sequence[FieldError] | UnsetType = UNSET


class Problem(Exception):
    """The request is answered with an error."""

    def __init__(
        self,
        code: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        headers: Iterable[tuple[str, str]] = (),
        extensions: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """``code`` is a key of :data:`KINDS`; ``detail`` says what was wrong this time, and what is allowed.

        ``extensions`` are further members (RFC 9457, section 3.2), of values that JSON has.
        """
        super().__init__(detail)
        self.kind = KINDS[code]
        self.code = code
        self.detail = detail
        self.errors = errors
        self.extensions = extensions
        self.headers = list(headers)
        if self.kind.retry_after is not None:
            self.headers.append(("Retry-After", str(self.kind.retry_after)))

    @classmethod
    def of_fields(cls, code: str, errors: Sequence[FieldError]) -> "Problem":
        """The problem that consists of ``errors``, of which there is at least one."""
        first = f"{errors[0].path}: {errors[0].message}" if errors[0].path else errors[0].message
        more = f" (and {len(errors) - 1} more, see errors)" if len(errors) > 1 else ""
        return cls(code, first + more, errors[:MAX_ERRORS])

    def body(self) -> bytes:
        """The problem as JSON."""
        errors = [FieldError(_clean(error.path), _clean(error.message)) for error in self.errors]
        kind = self.kind
        details = _Details(f"/problems/{self.code}", kind.title, kind.status, _clean(self.detail), errors or UNSET)
        return msgspec.json.encode({**msgspec.to_builtins(details), **self.extensions}) + b"\n"


def _clean(text: str) -> str:
    # A text from the system or from a handler may hold lone surrogates, which JSON cannot.
    return text.encode("utf-8", "replace").decode()


def shown(value: object) -> str:
    """``value`` as an error repeats it: as JSON, and never long."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def register(app: Flask, on_fatal: Callable[[OutcomeUnknown], None]) -> None:
    """Make every error of ``app`` a problem; hand those that must end the process to ``on_fatal``."""

    def gofer_error(error: GoferError) -> Response:
        if isinstance(error, OutcomeUnknown):
            on_fatal(error)
        if error.code == "internal" or error.code not in KINDS:
            return unexpected(error)
        return response_to(Problem(error.code, str(error)))

    app.register_error_handler(Problem, response_to)
    app.register_error_handler(GoferError, gofer_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, unexpected)


def unexpected(error: Exception) -> Response:
    """The answer to a bug: logged here, once, and kept from the client."""
    # By its name the request's line in the log is found.
    fields = {"id": request.headers.get("X-Request-Id")}
    path = ascii(keys.masked(request.path))
    _log.error("%s %s failed", request.method, path, exc_info=error, extra=fields)
    return response_to(Problem("internal", "the service's log says more"))


def _http_error(error: HTTPException) -> Response:
    code = _CODE_OF_STATUS.get(error.code or 0, "bad_request")
    allowed: list[tuple[str, str]] = []
    if isinstance(error, MethodNotAllowed):
        methods = ", ".join(sorted(error.valid_methods or ()))
        detail = f"{request.method} is not allowed here; allowed are: {methods}"
        allowed.append(("Allow", methods))
    elif code == "not_found":
        detail = f"there is nothing at {shown(request.path)}"
    elif code == "body_too_large":
        detail = f"the body is larger than {request.max_content_length} bytes"
    else:
        detail = error.description or error.name
    return response_to(Problem(code, detail, headers=allowed))


def response_to(problem: Problem) -> Response:
    """The answer that a problem is."""
    return Response(problem.body(), problem.kind.status, problem.headers, content_type=MEDIA_TYPE)
