"""From bodies to jobs, or to everything that is wrong with them."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from app.errors import Problem
from app.shapes import description
from app.submission import BackoffOptions, Batch, Submission, SubmissionParser
from store.job import Backoff
from worker.registry import HandlerSpec, Registry


@pytest.fixture(scope="module")
def parser() -> SubmissionParser:
    registry = Registry()
    registry.load(["tests.app.job_handlers"])

    return SubmissionParser(registry, ["default", "slow"])


def refused(parser: SubmissionParser, **submission: object) -> dict[str, str]:
    with pytest.raises(Problem) as caught:
        parser.read(json.dumps(submission).encode())
    assert caught.value.code == "invalid_submission"
    return {error.path: error.message for error in caught.value.errors}


def test_a_bare_submission_gets_the_defaults(parser: SubmissionParser) -> None:
    new = parser.read(b'{"type": "echo"}')

    assert (new.type, bytes(new.payload), new.queue, new.priority) == ("echo", b"null", "default", 0)
    assert (new.max_attempts, new.timeout, new.run_at, new.tags) == (5, 3600.0, None, ())
    assert (new.backoff, new.idempotency_key, new.fingerprint) == (Backoff(), None, None)


def test_what_the_submission_leaves_open_comes_from_the_handler(parser: SubmissionParser) -> None:
    new = parser.read(b'{"type": "particular", "backoff": {"cap": 9}}')

    assert (new.queue, new.max_attempts, new.timeout) == ("slow", 2, 30.0)
    assert new.backoff == Backoff(base=3.0, factor=2.0, cap=9.0)


def test_what_the_submission_says_comes_before_the_handler(parser: SubmissionParser) -> None:
    new = parser.read(
        b'{"type": "particular", "queue": "default", "priority": -100, "max_attempts": 100, "timeout": 0.5,'
        b' "run_at": "2026-01-05T11:00:00.5+01:00", "tags": ["b", "a", "b"],'
        b' "backoff": {"base": 0, "factor": 1, "cap": 0}}'
    )

    assert (new.queue, new.priority, new.max_attempts, new.timeout) == ("default", -100, 100, 0.5)
    assert new.run_at == datetime(2026, 1, 5, 10, 0, 0, 500_000, tzinfo=UTC)
    assert new.run_at.tzinfo is UTC
    assert new.tags == ("b", "a")
    assert new.backoff == Backoff(0, 1, 0)


def test_the_payload_is_kept_byte_for_byte(parser: SubmissionParser) -> None:
    new = parser.read(
        b'{"payload": {"n":  1.50, "big": 123456789012345678901234567890, "u": "\\u0000"} , "type": "echo"}'
    )

    assert bytes(new.payload) == b'{"n":  1.50, "big": 123456789012345678901234567890, "u": "\\u0000"}'


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("priority", 101, "must be a whole number from -100 to 100, not 101"),
        ("priority", 1.0, "must be a whole number from -100 to 100, not 1.0"),
        ("priority", True, "must be a whole number from -100 to 100, not true"),
        ("priority", None, "must be a whole number from -100 to 100, not null"),
        ("priority", 10**30, "must be a whole number"),
        ("max_attempts", 0, "must be a whole number from 1 to 100, not 0"),
        ("timeout", 0, "must be a number of seconds above 0"),
        ("timeout", 604_801, "must be a number of seconds above 0"),
        ("timeout", "10", 'not "10"'),
        ("timeout", 10**400, "must be a number of seconds above 0"),
        ("run_at", "2026-01-05T10:00:00", "with an offset"),
        ("run_at", "tomorrow", "as RFC 3339 writes it"),
        ("run_at", 1_767_607_200, "as RFC 3339 writes it"),
        ("run_at", "1969-12-31T23:59:59Z", "1970 to 9999"),
        ("run_at", "0001-01-01T00:00:00+01:00", "1970 to 9999"),
        ("run_at", "9999-12-31T23:59:59-01:00", "1970 to 9999"),
        ("queue", "", "a string of 1 to 100 characters"),
        ("queue", "nowhere", "unknown queue; allowed are: default, slow"),
        ("queue", "slwo", "did you mean slow?"),
        ("tags", "nightly", "at most 20 strings"),
        ("tags", ["x"] * 21, "at most 20 strings"),
        ("backoff", 5, "must be an object, not 5"),
        ("colour", "red", "unknown field; allowed are: backoff, max_attempts, payload"),
        ("priorty", 5, "did you mean priority?"),
        ("PRIORITY", 5, "did you mean priority?"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(
    parser: SubmissionParser, field: str, value: object, message: str
) -> None:
    assert message in refused(parser, type="echo", **{field: value})[field]


@pytest.mark.parametrize("tag", ["", "x" * 101, "a\nb", "a\n", "\x00", "\x7f", "\x85", 1, None])
def test_a_bad_tag_is_named_by_its_place(parser: SubmissionParser, tag: object) -> None:
    assert "none a control character" in refused(parser, type="echo", tags=["good", tag])["tags[1]"]


def test_a_wrong_part_of_the_backoff_is_named(parser: SubmissionParser) -> None:
    errors = refused(parser, type="echo", backoff={"base": -1, "factor": 11, "cap": None, "jitter": 1})

    assert errors["backoff.base"] == "must be a number of seconds from 0 to 86400, not -1"
    assert errors["backoff.factor"] == "must be a number from 1 to 10, not 11"
    assert "backoff.cap" in errors
    assert errors["backoff.jitter"] == "unknown field; allowed are: base, cap, factor"


def test_everything_that_is_wrong_is_said_at_once(parser: SubmissionParser) -> None:
    assert set(refused(parser, priority="high", timeout=-1, tags=[""])) == {"type", "priority", "timeout", "tags[0]"}


def test_an_unknown_type_lists_the_known_ones(parser: SubmissionParser) -> None:
    message = refused(parser, type="ehco")["type"]

    assert '"ehco"' in message
    assert "did you mean echo?" in message
    assert "allowed are: echo, " in message


def test_a_type_and_a_queue_that_are_both_unknown_are_both_named(parser: SubmissionParser) -> None:
    assert set(refused(parser, type="?", queue="?")) == {"type", "queue"}


def test_a_payload_that_the_handler_does_not_take_is_refused_with_its_path(parser: SubmissionParser) -> None:
    assert list(refused(parser, type="typed", payload={"rows": [{"price": 1}, {"price": "x"}]})) == [
        "payload.rows[1].price"
    ]


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"3"])
def test_a_body_that_is_no_object_is_refused(parser: SubmissionParser, body: bytes) -> None:
    with pytest.raises(Problem, match="must be an object"):
        parser.read(body)


def test_bad_json_comes_before_a_wrong_shape(parser: SubmissionParser) -> None:
    with pytest.raises(Problem) as caught:
        parser.read(b'{"type": 5, "payload": NaN}')
    assert caught.value.code == "bad_json"


def test_what_is_shown_of_a_wrong_value_is_never_long(parser: SubmissionParser) -> None:
    assert len(refused(parser, type="echo", priority="9" * 100_000)["priority"]) < 200


def test_a_batch_is_read_in_order(parser: SubmissionParser) -> None:
    new = parser.read_batch(b'{"jobs": [{"type": "echo", "payload": 1}, {"type": "sleep", "payload": 2}]}')

    assert [(job.type, bytes(job.payload)) for job in new] == [("echo", b"1"), ("sleep", b"2")]


@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        ({}, "jobs", "is missing; it must be a list of 1 to 1000 submissions"),
        ({"jobs": []}, "jobs", "must be a list of 1 to 1000 submissions"),
        ({"jobs": [{"type": "echo"}] * 1001}, "jobs", "must be a list of 1 to 1000 submissions"),
        ({"jobs": {"type": "echo"}}, "jobs", "must be a list of 1 to 1000 submissions"),
        ({"jobs": [{"type": "echo"}], "more": 1}, "more", "unknown field"),
        ({"jobs": [{"type": "echo"}, {"type": "nope"}]}, "jobs[1].type", "unknown type"),
        ({"jobs": [{"type": "echo"}, 7]}, "jobs[1]", "must be an object, not 7"),
        ({"jobs": [{"type": "echo"}, {"typ": "echo"}]}, "jobs[1].type", "is missing"),
        ({"jobs": [{"type": "typed", "payload": {"rows": 1}}]}, "jobs[0].payload.rows", ""),
        ({"jobs": [{"type": "echo", "run_at": "0001-01-01T00:00:00Z"}]}, "jobs[0].run_at", "1970"),
    ],
)
def test_a_wrong_batch_is_refused_with_the_place(
    parser: SubmissionParser, body: object, path: str, message: str
) -> None:
    with pytest.raises(Problem) as caught:
        parser.read_batch(json.dumps(body).encode())
    assert message in {error.path: error.message for error in caught.value.errors}[path]


def test_the_errors_of_a_batch_are_bounded(parser: SubmissionParser) -> None:
    with pytest.raises(Problem) as caught:
        parser.read_batch(json.dumps({"jobs": [{"a": 1}] * 1000}).encode())
    assert len(caught.value.errors) == 50


def test_no_more_errors_of_a_batch_are_looked_for_than_are_listed() -> None:
    class Counted(Registry):
        lookups = 0

        def get(self, job_type: str) -> HandlerSpec:
            self.lookups += 1
            return super().get(job_type)

    registry = Counted()
    with pytest.raises(Problem) as caught:
        SubmissionParser(registry, ["default"]).read_batch(json.dumps({"jobs": [{"type": "a"}] * 1000}).encode())

    assert (len(caught.value.errors), registry.lookups) == (50, 50)


def test_the_fingerprint_ignores_white_space_and_the_order_of_keys(parser: SubmissionParser) -> None:
    one = parser.read(b'{"type": "echo", "payload": {"a": 1, "b": 2}}', "key")
    same = parser.read(b'{ "payload": {"b":2,"a":1},\n "type":"echo" }', "key")
    other = parser.read(b'{"type": "echo", "payload": {"a": 1, "b": 3}}', "key")

    assert one.idempotency_key == "key"
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_a_batch_and_a_single_submission_never_share_a_key(parser: SubmissionParser) -> None:
    batch = parser.read_batch(b'{"jobs": [{"type": "echo"}, {"type": "echo"}]}', "key")
    keys = [job.idempotency_key for job in batch]

    assert len(set(keys)) == 2
    # No header can hold what parts the key from the number.
    assert all(key is not None and not key.isprintable() for key in keys)


@pytest.mark.parametrize("shape", [Submission, BackoffOptions, Batch])
def test_every_field_says_what_it_may_be(shape: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(shape):
        assert field.type is msgspec.Raw or description(field.type) != "something else", field.name
