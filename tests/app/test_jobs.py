"""The calls about jobs, over real HTTP and with real workers."""

import re
import threading
import uuid

import pytest

from tests.app.conftest import MAX_BODY, Service, running
from tests.app.conversation import Conversation, Reply
from tests.eventually import eventually

KEYS = [
    "id",
    "type",
    "queue",
    "status",
    "priority",
    "payload",
    "result",
    "error",
    "progress",
    "attempt",
    "interruptions",
    "cancel_requested",
    "max_attempts",
    "timeout",
    "tags",
    "created_at",
    "run_at",
    "started_at",
    "finished_at",
    "submitted_by",
]
UNKNOWN = str(uuid.UUID(int=7))
FUTURE = "2099-01-01T00:00:00Z"


def problem(reply: Reply, status: int, code: str) -> str:
    """Check that a reply is this problem; return its detail."""
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.json["type"] == f"/problems/{code}"
    assert reply.json["status"] == status
    return str(reply.json["detail"])


def waiters(service: Service, job_id: str) -> int:
    """How many requests wait for the job. One that has come in may still be on its way to its seat."""
    return len(service.engine._parts.finals._waiting.get(job_id, ()))


class TestSubmit:
    """``POST /jobs``"""

    def test_a_submission_is_answered_with_the_job_and_where_it_is(self, shared: Service) -> None:
        reply = shared.post("/jobs", {"type": "echo", "payload": {"n": 1}, "tags": ["nightly"], "run_at": FUTURE})
        job = reply.json

        assert reply.status == 201
        assert reply.headers["Content-Type"] == "application/json"
        assert reply.headers["Location"] == f"/jobs/{job['id']}"
        assert reply.body.endswith(b"}\n")
        assert list(job) == KEYS
        assert uuid.UUID(job["id"]).version == 7
        assert (job["status"], job["payload"], job["tags"], job["run_at"]) == (
            "pending",
            {"n": 1},
            ["nightly"],
            FUTURE,
        )
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", job["created_at"])

    def test_a_job_runs_and_its_result_is_read_back(self, shared: Service) -> None:
        job = shared.finished(shared.submit("echo", {"deep": [1, "ü", None]}))

        assert (job["status"], job["result"], job["attempt"], job["error"]) == ("completed", job["payload"], 1, None)
        assert list(job["progress"].items()) == [("fraction", 1.0), ("message", "")]
        assert job["started_at"] <= job["finished_at"]

    def test_the_payload_comes_back_byte_for_byte(self, shared: Service) -> None:
        reply = shared.post("/jobs", b'{"type":"echo","payload":{"n":  1.50, "big":123456789012345678901234567890}}')

        assert b'"payload":{"n":  1.50, "big":123456789012345678901234567890}' in reply.body

    def test_prefer_wait_answers_with_the_final_job(self, shared: Service) -> None:
        reply = shared.post("/jobs", {"type": "echo", "payload": 5}, "Prefer: respond-async, wait=10")

        assert (reply.status, reply.json["status"], reply.json["result"]) == (200, "completed", 5)
        assert reply.headers["Preference-Applied"] == "wait=10"
        assert reply.headers["Location"] == f"/jobs/{reply.json['id']}"

    def test_prefer_wait_answers_as_usual_when_the_time_is_up(self, shared: Service) -> None:
        reply = shared.post("/jobs", {"type": "echo", "run_at": FUTURE}, "Prefer: wait=0")

        assert (reply.status, reply.json["status"]) == (201, "pending")

    def test_a_wrong_content_type_is_refused(self, shared: Service) -> None:
        with Conversation(shared.port) as client:
            reply = client.ask("POST", "/jobs", b"type=echo", "Content-Type: application/x-www-form-urlencoded")

        assert "must be application/json" in problem(reply, 415, "unsupported_media_type")

    def test_bad_json_is_refused(self, shared: Service) -> None:
        assert "stands twice" in problem(shared.post("/jobs", b'{"type":"echo","type":"sleep"}'), 400, "bad_json")

    def test_a_submission_that_makes_no_sense_is_refused_with_every_reason(self, shared: Service) -> None:
        reply = shared.post("/jobs", {"type": "echo", "priority": 1000, "colour": "red"})
        detail = problem(reply, 422, "invalid_submission")

        assert {error["path"] for error in reply.json["errors"]} == {"colour", "priority"}
        assert detail.startswith("colour: unknown field; allowed are: backoff, max_attempts")

    def test_an_unknown_type_lists_the_known_ones(self, shared: Service) -> None:
        reply = shared.post("/jobs", {"type": "mail"})

        assert "allowed are: echo, fails, particular, sleep, typed" in problem(reply, 422, "invalid_submission")

    def test_the_query_string_says_the_same_as_prefer_wait_and_comes_before_it(self, shared: Service) -> None:
        reply = shared.post("/jobs?wait=10", {"type": "echo", "payload": 5}, "Prefer: wait=0")
        later = shared.post("/jobs?wait=0", {"type": "echo", "run_at": FUTURE}, "Prefer: wait=60")

        assert (reply.status, reply.json["status"], reply.json["result"]) == (200, "completed", 5)
        assert reply.headers["Location"] == f"/jobs/{reply.json['id']}"
        assert reply.headers["Preference-Applied"] is None
        assert (later.status, later.json["status"]) == (201, "pending")

    @pytest.mark.parametrize(
        ("parameter", "message"),
        [
            ("wait=61", 'wait: must be a number of seconds from 0 to 60, not "61"'),
            ("wait=null", 'not "null"'),
            ("wait=", 'not ""'),
            ("result=yes", 'result: must be 1 or true, 0 or false, not "yes"'),
            ("results=1", "did you mean result?"),
        ],
    )
    def test_a_wrong_parameter_submits_nothing(self, service: Service, parameter: str, message: str) -> None:
        assert message in problem(service.post(f"/jobs?{parameter}", {"type": "echo"}), 400, "bad_query")
        assert service.get("/jobs").json["jobs"] == []

    def test_a_body_of_exactly_the_limit_is_taken(self, shared: Service) -> None:
        frame = b'{"type":"echo","run_at":"2099-01-01T00:00:00Z","payload":"%s"}'
        fits = frame % (b"x" * (MAX_BODY - len(frame) + 2))

        assert len(fits) == MAX_BODY
        assert shared.post("/jobs", fits).status == 201
        assert f"larger than {MAX_BODY} bytes" in problem(shared.post("/jobs", fits + b" "), 413, "body_too_large")

    def test_a_body_far_over_the_limit_is_refused(self, shared: Service) -> None:
        problem(shared.post("/jobs", b"x" * 3_000_000), 413, "body_too_large")

    def test_a_full_backlog_is_answered_with_the_time_to_try_again(self) -> None:
        with running(max_backlog=2) as service:
            for _ in range(2):
                service.submit(run_at=FUTURE)
            reply = service.post("/jobs", {"type": "echo"})

            problem(reply, 503, "backlog_full")
            assert int(reply.headers["Retry-After"]) > 0


class TestIdempotency:
    """``Idempotency-Key``"""

    def test_a_repeated_submission_gets_the_first_job_as_it_is_now(self, shared: Service) -> None:
        first = shared.post("/jobs", {"type": "echo", "payload": 1}, "Idempotency-Key: repeated")
        shared.finished(first.json["id"])
        again = shared.post("/jobs", b'{ "payload":1,"type":"echo" }', 'Idempotency-Key: "repeated"')

        assert (first.status, first.headers["Idempotency-Replayed"]) == (201, None)
        assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
        assert (again.json["id"], again.json["status"]) == (first.json["id"], "completed")
        assert again.headers["Location"] == first.headers["Location"]

    def test_the_same_key_with_another_submission_is_refused(self, shared: Service) -> None:
        shared.post("/jobs", {"type": "echo", "payload": 1}, "Idempotency-Key: other")

        reply = shared.post("/jobs", {"type": "echo", "payload": 2}, "Idempotency-Key: other")
        problem(reply, 422, "idempotency_conflict")

    def test_many_who_race_with_one_key_create_one_job(self, shared: Service) -> None:
        ids: list[str] = []

        def submit() -> None:
            ids.append(shared.post("/jobs", {"type": "echo"}, "Idempotency-Key: raced").json["id"])

        threads = [threading.Thread(target=submit) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ids) == 12
        assert len(set(ids)) == 1

    def test_a_repeated_batch_gets_the_first_jobs(self, shared: Service) -> None:
        body = {"jobs": [{"type": "echo"}, {"type": "echo"}]}
        first = shared.post("/jobs/batch", body, "Idempotency-Key: batch")
        again = shared.post("/jobs/batch", body, "Idempotency-Key: batch")

        assert (first.status, again.status, again.headers["Idempotency-Replayed"]) == (201, 200, "true")
        assert [job["id"] for job in again.json["jobs"]] == [job["id"] for job in first.json["jobs"]]

    def test_a_batch_and_a_single_submission_do_not_share_keys(self, shared: Service) -> None:
        shared.post("/jobs/batch", {"jobs": [{"type": "echo"}]}, "Idempotency-Key: both")

        for key in ("both", "both#0"):
            assert shared.post("/jobs", {"type": "echo"}, f"Idempotency-Key: {key}").status == 201

    def test_a_bad_key_is_refused(self, shared: Service) -> None:
        reply = shared.post("/jobs", {"type": "echo"}, "Idempotency-Key: caf\xe9")

        assert "1 to 255 printable ASCII" in problem(reply, 400, "bad_header")


class TestBatch:
    """``POST /jobs/batch``"""

    def test_all_jobs_are_created_in_order(self, shared: Service) -> None:
        reply = shared.post("/jobs/batch", {"jobs": [{"type": "echo", "payload": n} for n in range(1000)]})
        jobs = reply.json["jobs"]

        assert reply.status == 201
        assert [job["payload"] for job in jobs] == list(range(1000))
        assert sorted(job["id"] for job in jobs) == [job["id"] for job in jobs]
        assert shared.finished(jobs[-1]["id"])["result"] == 999

    def test_one_bad_submission_refuses_all(self, shared: Service) -> None:
        tag = "all-or-none"
        reply = shared.post("/jobs/batch", {"jobs": [{"type": "echo", "tags": [tag]}, {"type": "nope"}]})

        assert problem(reply, 422, "invalid_submission").startswith("jobs[1].type: ")
        assert shared.get(f"/jobs?tag={tag}").json["jobs"] == []


class TestTrace:
    """``traceparent``"""

    PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def test_a_job_keeps_the_trace_that_it_was_submitted_in(self, shared: Service) -> None:
        store = shared.engine.store
        one = shared.post("/jobs", {"type": "echo"}, f"traceparent: {self.PARENT}")
        many = shared.post("/jobs/batch", {"jobs": [{"type": "echo"}] * 2}, f"Traceparent: {self.PARENT}")

        jobs = [one.json, *many.json["jobs"]]
        assert [store.get_job(job["id"]).traceparent for job in jobs] == [self.PARENT] * 3

    def test_an_invalid_one_is_passed_over(self, shared: Service) -> None:
        reply = shared.post("/jobs", {"type": "echo"}, f"traceparent: {self.PARENT}", f"traceparent: {self.PARENT}")

        assert reply.status == 201
        assert shared.engine.store.get_job(reply.json["id"]).traceparent is None

    def test_a_repeated_submission_may_come_in_another_trace(self, shared: Service) -> None:
        key = "Idempotency-Key: traced"
        first = shared.post("/jobs", {"type": "echo"}, key, f"traceparent: {self.PARENT}")
        again = shared.post("/jobs", {"type": "echo"}, key, f"traceparent: {self.PARENT[:-2]}00")

        assert (again.status, again.json["id"]) == (200, first.json["id"])
        assert shared.engine.store.get_job(first.json["id"]).traceparent == self.PARENT


class TestGet:
    """``GET /jobs/{id}``"""

    @pytest.mark.parametrize("job_id", [UNKNOWN, "x", "%00" * 36, "%ff%fe", "a" * 1000, UNKNOWN[:-1] + "%2e", "ü" * 36])
    @pytest.mark.parametrize(
        "call", [("GET", ""), ("GET", "/result"), ("GET", "/logs"), ("POST", "/cancel"), ("DELETE", "")]
    )
    def test_an_id_that_there_is_not_is_not_found(self, shared: Service, job_id: str, call: tuple[str, str]) -> None:
        method, more = call
        path = f"/jobs/{job_id}{more}".replace("ü", "%c3%bc")

        problem(shared.call(method, path), 404, "job_not_found")

    def test_a_slash_in_an_id_leads_nowhere(self, shared: Service) -> None:
        problem(shared.get(f"/jobs/{UNKNOWN}%2Fx"), 404, "not_found")

    def test_waiting_ends_when_the_job_does(self, service: Service) -> None:
        job_id = service.submit("sleep", 0.2)
        job = service.get(f"/jobs/{job_id}?wait=10").json

        assert (job["status"], job["result"]) == ("completed", {"slept": 0.2})

    def test_waiting_ends_when_the_time_is_up(self, shared: Service) -> None:
        job_id = shared.submit(run_at=FUTURE)

        assert shared.get(f"/jobs/{job_id}?wait=0.05").json["status"] == "pending"

    @pytest.mark.parametrize("wait", ["61", "-1", "nan", "inf", "", "soon", "%ff"])
    def test_a_wrong_wait_is_refused(self, shared: Service, wait: str) -> None:
        problem(shared.get(f"/jobs/{UNKNOWN}?wait={wait}"), 400, "bad_query")

    def test_past_the_bound_of_waiting_requests_the_answer_comes_at_once(self, service: Service) -> None:
        job_id = service.submit(run_at=FUTURE)
        waiting = [Conversation(service.port) for _ in range(2)]
        for client in waiting:
            client.send(f"GET /jobs/{job_id}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        eventually(lambda: waiters(service, job_id) == 2)

        assert service.get(f"/jobs/{job_id}?wait=60").json["status"] == "pending"
        service.post(f"/jobs/{job_id}/cancel")
        assert [client.read().json["status"] for client in waiting] == ["cancelled"] * 2
        for client in waiting:
            client.close()

    def test_a_client_that_hangs_up_gives_its_place_back(self, service: Service) -> None:
        job_id = service.submit(run_at=FUTURE)
        with Conversation(service.port) as one, Conversation(service.port) as other:
            for client in (one, other):
                client.send(f"GET /jobs/{job_id}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            eventually(lambda: waiters(service, job_id) == 2)

        def waits() -> bool:
            reply = service.get(f"/jobs/{service.submit('sleep', 0.05)}?wait=10")
            return bool(reply.json["status"] == "completed")

        eventually(waits, timeout=30)  # half of what they would have waited

    def test_the_etag_changes_with_the_job(self, shared: Service) -> None:
        job_id = shared.submit(run_at=FUTURE)
        first = shared.get(f"/jobs/{job_id}")
        etag = first.headers["ETag"]
        same = shared.get(f"/jobs/{job_id}", f"If-None-Match: {etag}")
        shared.post(f"/jobs/{job_id}/cancel")
        changed = shared.get(f"/jobs/{job_id}", f'If-None-Match: "x", W/{etag}')

        assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
        assert first.headers["Cache-Control"] == "no-cache"
        assert (same.status, same.body, same.headers["ETag"]) == (304, b"", etag)
        assert (changed.status, changed.json["status"]) == (200, "cancelled")

    def test_head_is_get_without_the_body(self, shared: Service) -> None:
        job_id = shared.submit(run_at=FUTURE)
        full, head = shared.get(f"/jobs/{job_id}"), shared.call("HEAD", f"/jobs/{job_id}")

        assert (head.status, head.body) == (200, b"")
        assert (head.headers["Content-Length"], head.headers["ETag"]) == (str(len(full.body)), full.headers["ETag"])


class TestList:
    """``GET /jobs``"""

    def test_pages_lead_through_all_jobs_newest_first(self, service: Service) -> None:
        ids = [service.submit(tags=["a b&c"], run_at=FUTURE) for _ in range(5)]
        service.submit(run_at=FUTURE)
        seen: list[str] = []
        path = "/jobs?tag=a+b%26c&limit=2"
        while path:
            reply = service.get(path)
            seen += [job["id"] for job in reply.json["jobs"]]
            path = reply.json["next"]
            assert reply.headers["Link"] == (f'<{path}>; rel="next"' if path else None)

        assert seen == ids[::-1]

    def test_filters_narrow_the_list(self, service: Service) -> None:
        done = service.submit("echo")
        service.finished(done)
        waiting = service.submit("sleep", 1, queue="slow", run_at=FUTURE)
        created = service.get(f"/jobs/{done}").json["created_at"].replace("Z", "%2B00:00")

        def ids(filters: str) -> list[str]:
            return [job["id"] for job in service.get(f"/jobs?{filters}").json["jobs"]]

        assert ids("") == [waiting, done]
        assert ids("status=completed") == ids("type=echo") == ids("queue=default") == [done]
        assert ids("status=pending&type=sleep&queue=slow") == ids(f"created_after={created}") == [waiting]
        assert ids("created_before=2020-01-01T00:00:00Z") == ids("tag=none") == []

    @pytest.mark.parametrize(
        ("query", "path", "message"),
        [
            ("status=done", "status", "must be one of pending, processing, completed, failed, cancelled, not"),
            ("limit=0", "limit", "must be a whole number from 1 to 1000"),
            ("limit=1001", "limit", "must be a whole number from 1 to 1000"),
            ("limit=many", "limit", 'not "many"'),
            ("created_after=yesterday", "created_after", "RFC 3339"),
            ("created_after=1700000000", "created_after", "RFC 3339"),
            ("created_before=2026-01-05T10:00:00", "created_before", "with an offset"),
            ("tag=", "tag", "1 to 100 characters"),
            ("type=", "type", "1 to 100 characters"),
            ("page=2", "page", "unknown query parameter; allowed are: created_after"),
            ("limits=2", "limits", "did you mean limit?"),
            ("limit=1&limit=2", "limit", "is given twice"),
        ],
    )
    def test_a_wrong_parameter_is_named_with_what_is_allowed(
        self, shared: Service, query: str, path: str, message: str
    ) -> None:
        reply = shared.get(f"/jobs?{query}")
        problem(reply, 400, "bad_query")
        (error,) = reply.json["errors"]

        assert error["path"] == path
        assert message in error["message"]

    @pytest.mark.parametrize("cursor", ["x", "%00", "0", UNKNOWN + "x", "a" * 5000, "%e2%82%ac"])
    def test_a_cursor_that_no_page_gave_is_refused(self, shared: Service, cursor: str) -> None:
        problem(shared.get(f"/jobs?cursor={cursor}"), 400, "invalid_cursor")

    def test_a_query_string_that_is_not_utf_8_is_refused(self, shared: Service) -> None:
        assert "not UTF-8" in problem(shared.get("/jobs?tag=%ff"), 400, "bad_query")

    def test_a_query_string_with_too_many_parts_is_refused(self, shared: Service) -> None:
        assert "more than 50" in problem(shared.get("/jobs?" + "a=1&" * 100), 400, "bad_query")


class TestSteering:
    """Cancel, retry, delete"""

    def test_a_pending_job_is_cancelled_at_once(self, shared: Service) -> None:
        reply = shared.post(f"/jobs/{shared.submit(run_at=FUTURE)}/cancel")

        assert (reply.status, reply.json["status"]) == (200, "cancelled")

    def test_a_running_job_is_told_to_end(self, service: Service) -> None:
        job_id = service.submit("sleep", 600)
        eventually(lambda: service.get(f"/jobs/{job_id}").json["status"] == "processing")
        reply = service.post(f"/jobs/{job_id}/cancel")

        assert (reply.status, reply.json["cancel_requested"]) == (202, True)
        assert service.finished(job_id)["status"] == "cancelled"

    def test_a_failed_job_tells_why_and_can_be_retried(self, shared: Service) -> None:
        job = shared.finished(shared.submit("fails"))
        assert (job["status"], job["error"]["type"], job["error"]["message"]) == (
            "failed",
            "Fail",
            "as it was asked to",
        )
        assert list(job["error"]) == ["type", "message", "traceback"]

        reply = shared.post(f"/jobs/{job['id']}/retry")
        assert (reply.status, reply.json["status"]) == (200, "pending")
        assert shared.finished(job["id"])["attempt"] == 2

    def test_logs_and_attempts_are_kept(self, shared: Service) -> None:
        job_id = shared.submit("fails")
        shared.finished(job_id)
        (line,) = shared.get(f"/jobs/{job_id}/logs").json["lines"]
        (attempt,) = shared.get(f"/jobs/{job_id}/attempts").json["attempts"]

        assert list(line) == ["number", "time", "attempt", "level", "message"]
        assert (line["attempt"], line["level"], line["message"]) == (1, "warning", "about to fail")
        assert list(attempt) == ["attempt", "status", "started_at", "finished_at", "error"]
        assert (attempt["attempt"], attempt["status"], attempt["error"]["type"]) == (1, "failed", "Fail")

    def test_a_final_job_is_deleted(self, shared: Service) -> None:
        job_id = shared.submit()
        shared.finished(job_id)
        reply = shared.call("DELETE", f"/jobs/{job_id}")

        assert (reply.status, reply.body) == (204, b"")
        assert not {"Content-Type", "Content-Length", "Transfer-Encoding"} & set(reply.headers)
        problem(shared.get(f"/jobs/{job_id}"), 404, "job_not_found")

    def test_what_the_status_forbids_is_a_conflict(self, shared: Service) -> None:
        job_id = shared.submit()
        shared.finished(job_id)
        waiting = shared.submit(run_at=FUTURE)

        assert "completed" in problem(shared.post(f"/jobs/{job_id}/cancel"), 409, "illegal_transition")
        assert "completed" in problem(shared.post(f"/jobs/{job_id}/retry"), 409, "illegal_transition")
        assert "pending" in problem(shared.call("DELETE", f"/jobs/{waiting}"), 409, "illegal_transition")

    def test_a_body_that_nobody_asked_for_is_ignored(self, shared: Service) -> None:
        assert shared.post(f"/jobs/{shared.submit(run_at=FUTURE)}/cancel", b"{not json").status == 200


class TestShutdown:
    """What clients see of the end"""

    def test_submissions_are_refused_and_everything_else_goes_on(self, service: Service) -> None:
        job_id = service.submit()
        service.finished(job_id)
        service.engine.begin_stop()
        refused = service.post("/jobs", {"type": "echo"})

        problem(refused, 503, "shutting_down")
        assert int(refused.headers["Retry-After"]) > 0
        problem(service.post("/jobs/batch", {"jobs": [{"type": "echo"}]}), 503, "shutting_down")
        assert "shutting down" in problem(service.get("/ready"), 503, "not_ready")
        assert service.get(f"/jobs/{job_id}").status == 200
        assert service.get("/health").json == {"status": "ok"}

    def test_who_waits_for_a_job_is_let_go(self, service: Service) -> None:
        job_id = service.submit("sleep", 600)
        with Conversation(service.port) as client:
            client.send(f"GET /jobs/{job_id}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            eventually(lambda: waiters(service, job_id))
            service.engine.begin_stop()

            assert client.read().json["id"] == job_id
