"""Jobs of the type ``http``: call a URL, and keep what it answers."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from urllib3.exceptions import HTTPError, ProtocolError

from store.clock import Clock
from worker.context import JobContext
from worker.errors import Cancelled, Fail, Retry
from worker.handlers.http_call import HttpCall, HttpCallDecoder
from worker.outgoing.answer import Answer, read_answer, retry_after, to_result
from worker.outgoing.connections import Connections
from worker.outgoing.egress import Egress
from worker.outgoing.errors import BlockedAddress, BrokenAnswer, CannotConnect
from worker.outgoing.leash import Leash
from worker.outgoing.request import Request, redirected, without_query
from worker.registry import HandlerSpec
from worker.results import MAX_RESULT_BYTES

#: Redirects that one call follows.
_MAX_REDIRECTS = 5
#: Statuses below 500 that another attempt may mend.
_PASSING = frozenset({408, 425, 429})
#: What keeps a call from its answer, this time.
_NETWORK_ERRORS = (HTTPError, OSError, CannotConnect, BrokenAnswer)
#: Seconds that a call may take to end once it was told to, unless it is looking up a name.
_STOP_TIME = 1.0


class HttpJobs:
    """Makes the calls of ``http`` jobs. Safe to use from any thread."""

    def __init__(
        self, connections: Connections, egress: Egress, clock: Clock, *, max_body: int, user_agent: str
    ) -> None:
        """``max_body``: bytes of an answer's body that are kept."""
        self._connections = connections
        self._clock = clock
        self._max_body = max_body
        self._user_agent = user_agent
        self.spec = HandlerSpec(
            type="http",
            function=self._run,
            decode=HttpCallDecoder(egress),
            stop_time=_STOP_TIME,
            summary="Call a URL, and keep what it answers.",
            payload_type=HttpCall,
            example={"url": "https://example.com/"},
            bare=_bare,
            is_truncated=_is_truncated,
        )

    def close(self) -> None:
        """Close the connections that are kept for further calls."""
        self._connections.close()

    def _run(self, ctx: JobContext, call: HttpCall) -> object:
        begun = self._clock.monotonic()
        with self._leash(ctx, call.timeout) as leash:
            answer = self._follow(ctx, call, leash)
        if call.expects(answer.status):
            return to_result(answer, self._clock.monotonic() - begun, MAX_RESULT_BYTES)
        if answer.status in _PASSING or 500 <= answer.status <= 599:
            raise Retry(retry_after(answer, self._clock.now()), answer.message)
        raise Fail(answer.message)

    @contextmanager
    def _leash(self, ctx: JobContext, timeout: float) -> Iterator[Leash]:
        leash = Leash(self._clock, timeout)
        try:
            with ctx.cancelled.calling(leash.stop):
                yield leash
        finally:
            leash.let_go()

    def _follow(self, ctx: JobContext, call: HttpCall, leash: Leash) -> Answer:
        """The first answer that leads nowhere else."""
        request = self._first_request(ctx, call)
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._exchange(ctx, request, leash)
            if not call.follow_redirects or (call.expect and call.expects(answer.status)):
                return answer
            try:
                further = redirected(request, answer.status, answer.headers.get("location"))
            except ValueError as error:
                raise Fail(str(error)) from error
            if further is None:
                return answer
            request = further
        raise Fail(f"too many redirects: {_MAX_REDIRECTS} are followed")

    def _first_request(self, ctx: JobContext, call: HttpCall) -> Request:
        headers = {
            "User-Agent": self._user_agent,
            "Idempotency-Key": ctx.job_id,
            "Gofer-Job-Id": ctx.job_id,
            "Gofer-Attempt": str(ctx.attempt),
        }
        if ctx.traceparent:
            headers["traceparent"] = ctx.traceparent
        content = call.content()
        if content:
            headers["Content-Type"] = content[1]
        given = {name.lower() for name in call.headers}
        ours = {name: value for name, value in headers.items() if name.lower() not in given}
        return Request(call.method, call.url, ours | call.headers, content[0] if content else None)

    def _exchange(self, ctx: JobContext, request: Request, leash: Leash) -> Answer:
        """Send one request and read its answer; says in the job's log how that went."""
        begun = self._clock.monotonic()
        came = "no answer"
        try:
            answer = self._send(request, leash)
            came = str(answer.status)
        except BlockedAddress as error:
            raise Fail(str(error)) from error
        except _NETWORK_ERRORS as error:
            leash.check()
            raise Retry(reason=_reason(error)) from error
        finally:
            ctx.log(f"{request.method} {without_query(request.url)}: {came} in {self._clock.monotonic() - begun:.3f} s")
        return answer

    def _send(self, request: Request, leash: Leash) -> Answer:
        response = self._connections.send(request, leash)
        try:
            answer = read_answer(response, self._max_body)
        finally:
            # One that was read to its end has given its connection back to the pool; the others lose theirs.
            response.close()
        if leash.stopped:
            # The end of a body that only the end of the connection marks may be our own doing.
            raise Cancelled("the call was told to end")
        return answer


def _reason(error: Exception) -> str:
    """What went wrong, for people."""
    if isinstance(error, ProtocolError) and len(error.args) > 1:
        # The first part is urllib3's, the second is what happened.
        return f"the connection broke: {error.args[1]}"
    return " ".join(str(part) for part in error.args if str(part)) or type(error).__name__


class _Body(msgspec.Struct):
    body: msgspec.Raw
    truncated: bool = False


def _bare(result: msgspec.Raw) -> str | msgspec.Raw:
    """The body alone: text as text, JSON as JSON, and nothing as no text."""
    body = msgspec.json.decode(result, type=_Body).body
    if bytes(body) == b"null":
        return ""
    return msgspec.json.decode(body, type=str) if bytes(body).startswith(b'"') else body


def _is_truncated(result: msgspec.Raw) -> bool:
    return msgspec.json.decode(result, type=_Body).truncated
