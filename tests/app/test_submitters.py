"""Jobs belong to who submitted them: their types, their names, and their idempotency keys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import keys
from store.job import JobStatus
from tests.app.conftest import Service, running
from tests.app.conversation import Reply
from tests.app.keyholder import KeyHolder, bearer
from tests.app.test_jobs import problem
from tests.fake_clock import FakeClock

OWN = "the-key-of-the-operator"


class Office:
    """A service and those who hold its keys, by name."""

    def __init__(self, service: Service, holder: KeyHolder) -> None:
        self.service = service
        self._keys = {
            "ci": holder.make("ci", "submit"),
            "cd": holder.make("cd", "submit"),
            "mailer": holder.make("mailer", "submit:echo", "submit:typed"),
            "reader": holder.make("reader", "read"),
            "default": OWN,
        }

    def post(self, name: str, path: str, body: object, *headers: str) -> Reply:
        """POST with the key of that name."""
        return self.service.post(path, body, bearer(self._keys[name]), *headers)

    def get(self, name: str, path: str) -> Reply:
        """GET with the key of that name."""
        return self.service.get(path, bearer(self._keys[name]))

    def stored(self) -> int:
        """How many jobs there are."""
        return sum(self.service.engine.store.count_jobs()[status] for status in JobStatus)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    holder, clock = KeyHolder(tmp_path), FakeClock()
    with running(gate=holder.gate(clock, keys.chosen(OWN))) as service:
        office = Office(service, holder)
        clock.advance(1)
        yield office


ECHO = {"type": "echo"}


class TestTypes:
    """``submit:TYPE``"""

    def test_its_types_are_taken_and_others_are_not_even_stored(self, office: Office) -> None:
        assert office.post("mailer", "/jobs", ECHO).status == 201
        reply = office.post("mailer", "/jobs", {"type": "sleep", "payload": {"seconds": 0}})

        assert problem(reply, 403, "forbidden") == "the key lacks the scope submit:sleep"
        assert reply.headers["WWW-Authenticate"].endswith('error="insufficient_scope", scope="submit:sleep"')
        assert office.stored() == 1

    def test_a_batch_with_a_job_of_another_type_is_refused_as_a_whole(self, office: Office) -> None:
        reply = office.post("mailer", "/jobs/batch", {"jobs": [ECHO, {"type": "fails"}, {"type": "particular"}, ECHO]})

        assert problem(reply, 403, "forbidden") == "the key lacks the scopes submit:fails, submit:particular"
        assert office.stored() == 0
        assert office.post("mailer", "/jobs/batch", {"jobs": [ECHO, ECHO]}).status == 201

    def test_what_is_wrong_with_a_body_is_told_to_those_who_may_submit_something(self, office: Office) -> None:
        problem(office.post("mailer", "/jobs", {"type": "echo", "priority": "high"}), 422, "invalid_submission")
        problem(office.post("mailer", "/jobs", {"type": "no such type"}), 422, "invalid_submission")
        problem(office.post("reader", "/jobs", {"type": "echo", "priority": "high"}), 403, "forbidden")
        problem(office.post("reader", "/jobs", b"{"), 403, "forbidden")

    def test_a_known_idempotency_key_is_no_way_around_the_type(self, office: Office) -> None:
        sleep = {"type": "sleep", "payload": {"seconds": 0}}
        office.post("default", "/jobs", sleep, "Idempotency-Key: k")

        problem(office.post("mailer", "/jobs", sleep, "Idempotency-Key: k"), 403, "forbidden")


class TestNames:
    """``submitted_by``"""

    def test_a_job_says_who_submitted_it(self, office: Office) -> None:
        job = office.post("ci", "/jobs", ECHO).json
        batch = office.post("cd", "/jobs/batch", {"jobs": [ECHO, ECHO]}).json["jobs"]

        assert list(job)[-1] == "submitted_by"
        assert [one["submitted_by"] for one in (job, *batch)] == ["ci", "cd", "cd"]
        assert office.get("reader", f"/jobs/{job['id']}?wait=10").json["submitted_by"] == "ci"
        assert [one["submitted_by"] for one in office.get("reader", "/jobs").json["jobs"]] == ["cd", "cd", "ci"]

    def test_it_stays_so_whoever_retries_it(self, office: Office) -> None:
        job = office.post("ci", "/jobs", {"type": "echo", "run_at": "2099-01-01T00:00:00Z"}).json
        office.post("default", f"/jobs/{job['id']}/cancel", None)

        assert office.post("default", f"/jobs/{job['id']}/retry", None).json["submitted_by"] == "ci"

    def test_without_keys_nobody_did(self, service: Service) -> None:
        assert service.post("/jobs", ECHO).json["submitted_by"] is None

    def test_nobody_says_it_of_themselves(self, office: Office) -> None:
        problem(office.post("ci", "/jobs", {"type": "echo", "submitted_by": "cd"}), 422, "invalid_submission")


class TestAnswers:
    """Who may submit and not read."""

    def test_the_answer_to_the_own_submission_may_be_waited_for(self, office: Office) -> None:
        reply = office.post("ci", "/jobs", {"type": "echo", "payload": 5}, "Prefer: wait=10")
        assert (reply.status, reply.json["status"], reply.json["result"]) == (200, "completed", 5)
        assert office.post("ci", "/jobs?wait=10&result=1", {"type": "echo", "payload": 5}).json == 5

    def test_but_no_job_can_be_asked_for_not_even_the_own(self, office: Office) -> None:
        job = office.post("ci", "/jobs", ECHO).json["id"]

        for path in ("", "/result", "/logs", "/attempts"):
            problem(office.get("ci", f"/jobs/{job}{path}"), 403, "forbidden")


class TestIdempotency:
    """An ``Idempotency-Key`` is one of its caller."""

    def submit(self, office: Office, name: str | None, key: str, body: object = ECHO, path: str = "/jobs") -> Any:
        reply = office.post(name, path, body, f"Idempotency-Key: {key}") if name else None
        assert reply is not None
        assert reply.status in (200, 201), reply.body
        return reply.json

    def test_the_same_caller_gets_the_same_job(self, office: Office) -> None:
        assert self.submit(office, "ci", "k")["id"] == self.submit(office, "ci", "k")["id"]
        assert office.stored() == 1

    def test_another_one_gets_a_job_of_their_own(self, office: Office) -> None:
        first, other = self.submit(office, "ci", "k"), self.submit(office, "cd", "k")

        assert first["id"] != other["id"]
        assert (first["submitted_by"], other["submitted_by"]) == ("ci", "cd")

    def test_nobody_hears_of_a_conflict_with_the_key_of_another(self, office: Office) -> None:
        self.submit(office, "ci", "k", {"type": "echo", "payload": 1})
        self.submit(office, "cd", "k", {"type": "echo", "payload": 2})
        reply = office.post("ci", "/jobs", {"type": "echo", "payload": 3}, "Idempotency-Key: k")

        problem(reply, 422, "idempotency_conflict")

    def test_the_keys_of_batches_are_their_callers_too(self, office: Office) -> None:
        batch = {"jobs": [ECHO, ECHO]}
        first = self.submit(office, "ci", "k", batch, "/jobs/batch")["jobs"]
        again = self.submit(office, "ci", "k", batch, "/jobs/batch")["jobs"]
        other = self.submit(office, "cd", "k", batch, "/jobs/batch")["jobs"]

        assert [job["id"] for job in again] == [job["id"] for job in first]
        assert len({job["id"] for job in (*first, *other)}) == 4

    def test_no_key_can_be_written_that_is_one_of_another_caller(self, office: Office) -> None:
        """The store keeps the name and the key with a tab between them, which no header of ours may hold."""
        self.submit(office, "ci", "k")
        reply = office.post("cd", "/jobs", ECHO, "Idempotency-Key: ci\tk")

        problem(reply, 400, "bad_header")
