"""Bare results: ``GET /jobs/{id}/result`` and ``POST /jobs?result=1``, over real HTTP."""

from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest

from app.results import BareResults
from tests.app.conftest import Service, running
from tests.app.conversation import Conversation, Reply
from tests.app.test_jobs import FUTURE, UNKNOWN, problem
from tests.eventually import eventually
from worker.registry import HandlerSpec, Registry


def _bare(result: msgspec.Raw) -> str | msgspec.Raw:
    value = msgspec.json.decode(result)
    return value if isinstance(value, str) else result


#: Returns its payload as ``echo`` does; a string is shown as text.
PRINT = HandlerSpec(
    type="print",
    function=lambda ctx, payload: payload,
    decode=msgspec.json.decode,
    bare=_bare,
    is_truncated=lambda result: bytes(result) == b'"cut"',
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Service]:
    """One service for all tests here that leave it as they found it."""
    with running(PRINT) as service:
        yield service


def result_of(service: Service, job_type: str, payload: object = None) -> Reply:
    """The answer that gives a job's result once it is final."""
    job_id = service.submit(job_type, payload)
    service.finished(job_id)
    return service.get(f"/jobs/{job_id}/result")


def nothing_yet(reply: Reply, status: str) -> bool:
    """Whether a reply says that there is no result yet, and nothing else."""
    headers = reply.headers
    assert (reply.status, reply.body, headers["Content-Length"]) == (202, b"", "0")
    assert (headers["Retry-After"], headers["Content-Type"]) == ("1", None)
    return bool(headers["Gofer-Status"] == status)


class TestCompleted:
    """A job that completed"""

    def test_a_result_is_json(self, shared: Service) -> None:
        reply = result_of(shared, "echo", {"deep": [1, "ü", None]})

        assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
        assert reply.body == '{"deep":[1,"ü",null]}\n'.encode()

    @pytest.mark.parametrize(("payload", "body"), [(None, b"null\n"), ("text", b'"text"\n'), (1.5, b"1.5\n")])
    def test_any_json_value_is_a_result(self, shared: Service, payload: object, body: bytes) -> None:
        assert result_of(shared, "echo", payload).body == body

    @pytest.mark.parametrize("text", ["", "one line", "two\nlines\n", "\r\n\t ü 🙂", "<script>alert(1)</script>"])
    def test_a_text_is_exactly_that_text(self, shared: Service, text: str) -> None:
        reply = result_of(shared, "print", text)

        assert (reply.status, reply.body) == (200, text.encode())
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"

    def test_a_result_that_was_cut_off_says_so(self, shared: Service) -> None:
        assert result_of(shared, "print", "cut").headers["Gofer-Truncated"] == "true"
        assert result_of(shared, "print", "whole").headers["Gofer-Truncated"] is None

    def test_the_type_decides_for_each_result_what_it_is(self, shared: Service) -> None:
        reply = result_of(shared, "print", {"n": 1})

        assert (reply.headers["Content-Type"], reply.body) == ("application/json", b'{"n":1}\n')

    def test_a_type_that_is_not_loaded_any_more_gives_json(self, shared: Service) -> None:
        job_id = shared.submit("print", "text")
        shared.finished(job_id)
        answer = BareResults(Registry()).answer(shared.engine.store.get_job(job_id))

        assert (answer.headers["Content-Type"], answer.get_data()) == ("application/json", b'"text"\n')

    def test_a_result_that_its_type_would_not_give_any_more_is_json(self, shared: Service) -> None:
        """Before an update the type may have been another handler's."""
        job_id = shared.submit("print", "text")
        shared.finished(job_id)
        types = Registry()
        types.register(replace(PRINT, bare=lambda result: str(msgspec.json.decode(result, type=int))))
        answer = BareResults(types).answer(shared.engine.store.get_job(job_id))

        assert (answer.headers["Content-Type"], answer.get_data()) == ("application/json", b'"text"\n')

    def test_the_etag_saves_reading_it_again(self, shared: Service) -> None:
        job_id = shared.submit("print", "text")
        shared.finished(job_id)
        first = shared.get(f"/jobs/{job_id}/result")
        again = shared.get(f"/jobs/{job_id}/result", f"If-None-Match: {first.headers['ETag']}")
        other = shared.get(f"/jobs/{job_id}/result", 'If-None-Match: "x"')

        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
        assert first.headers["Cache-Control"] == again.headers["Cache-Control"] == "no-cache"
        assert (other.status, other.body) == (200, b"text")

    def test_head_is_get_without_the_body(self, shared: Service) -> None:
        job_id = shared.submit("print", "text")
        shared.finished(job_id)
        head = shared.call("HEAD", f"/jobs/{job_id}/result")

        assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "4")
        assert head.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert head.headers["ETag"] == shared.get(f"/jobs/{job_id}/result").headers["ETag"]


class TestUnfinished:
    """A job that has no result yet"""

    def test_a_pending_job_has_nothing_yet(self, shared: Service) -> None:
        job_id = shared.submit(run_at=FUTURE)
        reply = shared.get(f"/jobs/{job_id}/result")

        assert nothing_yet(reply, "pending")
        assert (reply.headers["Location"], reply.headers["ETag"]) == (f"/jobs/{job_id}", None)
        assert nothing_yet(shared.get(f"/jobs/{job_id}/result?wait=0.05"), "pending")
        assert nothing_yet(shared.get(f"/jobs/{job_id}/result", "If-None-Match: *"), "pending")
        assert nothing_yet(shared.call("HEAD", f"/jobs/{job_id}/result"), "pending")

    def test_a_running_job_has_nothing_yet(self, service: Service) -> None:
        job_id = service.submit("sleep", 600)

        eventually(lambda: nothing_yet(service.get(f"/jobs/{job_id}/result"), "processing"))

    def test_waiting_ends_when_the_job_does(self, service: Service) -> None:
        job_id = service.submit("sleep", 0.2)

        assert service.get(f"/jobs/{job_id}/result?wait=10").json == {"slept": 0.2}

    @pytest.mark.parametrize("wait", ["61", "-1", "nan", "", "null"])
    def test_a_wrong_wait_is_refused(self, shared: Service, wait: str) -> None:
        problem(shared.get(f"/jobs/{UNKNOWN}/result?wait={wait}"), 400, "bad_query")

    def test_who_waits_is_let_go_at_the_end_of_the_service(self, service: Service) -> None:
        job_id = service.submit("sleep", 600)
        with Conversation(service.port) as client:
            client.send(f"GET /jobs/{job_id}/result?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            eventually(lambda: any(channel.requests for channel in service.server.active_channels.values()))
            service.engine.begin_stop()

            nothing_yet(client.read(), "processing")


class TestWithout:
    """A job that will have no result"""

    def test_a_failed_job_is_a_problem_that_holds_its_error(self, shared: Service) -> None:
        job_id = shared.submit("fails")
        job = shared.finished(job_id)
        reply = shared.get(f"/jobs/{job_id}/result?wait=60")

        assert problem(reply, 424, "job_failed") == "Fail: as it was asked to"
        assert list(reply.json) == ["type", "title", "status", "detail", "job", "error"]
        assert (reply.json["job"], reply.json["error"]) == (job_id, job["error"])

    def test_a_cancelled_job_is_a_problem(self, shared: Service) -> None:
        job_id = shared.submit(run_at=FUTURE)
        shared.post(f"/jobs/{job_id}/cancel")
        reply = shared.get(f"/jobs/{job_id}/result")

        assert problem(reply, 424, "job_cancelled") == "the job was cancelled"
        assert (reply.json["job"], reply.json["error"]) == (job_id, None)

    def test_a_job_that_was_cancelled_after_a_failure_tells_both(self, service: Service) -> None:
        job_id = service.submit("fails")
        service.finished(job_id)
        service.post("/queues/default/pause")
        service.post(f"/jobs/{job_id}/retry")
        service.post(f"/jobs/{job_id}/cancel")
        detail = problem(service.get(f"/jobs/{job_id}/result"), 424, "job_cancelled")

        assert detail == "the job was cancelled; Fail: as it was asked to"

    def test_no_job_is_not_found(self, shared: Service) -> None:
        problem(shared.get(f"/jobs/{UNKNOWN}/result?wait=60"), 404, "job_not_found")


class TestSubmit:
    """``POST /jobs?result=1``"""

    def test_the_answer_is_the_result(self, shared: Service) -> None:
        reply = shared.post("/jobs?wait=10&result=1", {"type": "print", "payload": "text"})

        assert (reply.status, reply.body) == (200, b"text")
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert shared.get(f"{reply.headers['Location']}/result").body == b"text"
        # A tag of what this address would answer to a GET, which it is not.
        assert reply.headers["ETag"] is None

    def test_prefer_wait_does_for_it_too(self, shared: Service) -> None:
        reply = shared.post("/jobs?result=true", {"type": "echo", "payload": [1]}, "Prefer: wait=10")

        assert (reply.status, reply.json, reply.headers["Preference-Applied"]) == (200, [1], "wait=10")

    @pytest.mark.parametrize("query", ["result=1", "wait=0&result=1", "wait=0.05&result=true"])
    def test_without_a_result_it_says_where_to_ask_again(self, shared: Service, query: str) -> None:
        reply = shared.post(f"/jobs?{query}", {"type": "echo", "run_at": FUTURE})

        assert nothing_yet(reply, "pending")
        assert reply.headers.get_all("Location") == [reply.headers["Location"]]
        assert shared.get(reply.headers["Location"]).json["status"] == "pending"

    def test_a_failure_says_where_the_job_is(self, shared: Service) -> None:
        reply = shared.post("/jobs?wait=10&result=1", {"type": "fails"})

        assert problem(reply, 424, "job_failed") == "Fail: as it was asked to"
        assert reply.headers["Location"] == f"/jobs/{reply.json['job']}"

    def test_without_result_a_failure_is_the_job(self, shared: Service) -> None:
        reply = shared.post("/jobs?wait=10&result=0", {"type": "fails"})

        assert (reply.status, reply.json["status"]) == (200, "failed")

    def test_a_repeated_submission_gets_the_first_result(self, shared: Service) -> None:
        submission = {"type": "echo", "payload": 7}
        first = shared.post("/jobs?wait=10&result=1", submission, "Idempotency-Key: result")
        again = shared.post("/jobs?wait=10&result=1", submission, "Idempotency-Key: result")

        assert (first.status, first.headers["Idempotency-Replayed"]) == (200, None)
        assert (again.status, again.json, again.headers["Idempotency-Replayed"]) == (200, 7, "true")
        assert again.headers["Location"] == first.headers["Location"]

    def test_past_the_bound_of_waiting_requests_the_answer_comes_at_once(self, service: Service) -> None:
        job_id = service.submit(run_at=FUTURE)
        waiting = [Conversation(service.port) for _ in range(2)]
        for client in waiting:
            client.send(f"GET /jobs/{job_id}/result?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        eventually(lambda: sum(len(channel.requests) for channel in service.server.active_channels.values()) == 2)

        assert nothing_yet(service.post("/jobs?wait=60&result=1", {"type": "echo", "run_at": FUTURE}), "pending")
        service.post(f"/jobs/{job_id}/cancel")
        assert [client.read().status for client in waiting] == [424] * 2
        for client in waiting:
            client.close()
