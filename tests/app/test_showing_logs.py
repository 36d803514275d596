"""``GET /jobs/{id}/logs`` without following, over real HTTP."""

from collections.abc import Iterator

import msgspec
import pytest

from tests.app.conftest import Service, running
from tests.app.test_jobs import UNKNOWN, problem
from tests.talk import Talk
from worker.registry import HandlerSpec

#: What the job of these tests logs.
MESSAGES = [f"line {number}" for number in range(1, 6)]


@pytest.fixture(scope="module")
def shared() -> Iterator[Service]:
    talk = Talk()
    talk.say(*MESSAGES)
    talk.end()
    with running(HandlerSpec(type="talk", function=talk, decode=msgspec.json.decode)) as service:
        yield service


@pytest.fixture(scope="module")
def path(shared: Service) -> str:
    """The address of a log with five lines."""
    job_id = shared.submit("talk")
    shared.finished(job_id)
    return f"/jobs/{job_id}/logs"


def test_a_log_is_json_unless_something_else_is_preferred(shared: Service, path: str) -> None:
    reply = shared.get(path, "Accept: */*")

    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert list(reply.json) == ["lines", "dropped"]
    assert list(reply.json["lines"][0]) == ["number", "time", "attempt", "level", "message"]
    assert [(line["number"], line["message"]) for line in reply.json["lines"]] == list(enumerate(MESSAGES, 1))
    assert reply.json["dropped"] == 0


def test_a_log_is_text_for_those_who_prefer_it(shared: Service, path: str) -> None:
    reply = shared.get(path, "Accept: text/plain")

    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert reply.headers["Content-Length"] == str(len(reply.body))
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Vary"] == "Accept"
    assert [line[25:] for line in reply.body.decode().splitlines()] == [f"info  {text}" for text in MESSAGES]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("?tail=2", [4, 5]),
        ("?after=3", [4, 5]),
        ("?after=1&tail=3", [3, 4, 5]),
        ("?after=5", []),
        ("?follow=0", [1, 2, 3, 4, 5]),
    ],
)
def test_a_part_can_be_asked_for(shared: Service, path: str, query: str, shown: list[int]) -> None:
    assert [line["number"] for line in shared.get(path + query).json["lines"]] == shown
    text = shared.get(path + query, "Accept: text/plain").body.decode()
    assert [line[-1] for line in text.splitlines()] == [str(number) for number in shown]


@pytest.mark.parametrize(
    ("query", "name", "message"),
    [
        ("tail=0", "tail", "must be a whole number from 1 to 100000"),
        ("tail=100001", "tail", "must be a whole number from 1 to 100000"),
        ("tail=x", "tail", "must be a whole number from 1 to 100000"),
        ("tail=null", "tail", "must be a whole number from 1 to 100000"),
        ("after=-1", "after", "must be the number of a line, or 0"),
        ("after=99999999999999999999", "after", "must be the number of a line, or 0"),
        ("follow=maybe", "follow", "must be 1 or true, 0 or false"),
        ("tails=1", "tails", "did you mean tail?"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_allowed(
    shared: Service, path: str, query: str, name: str, message: str
) -> None:
    reply = shared.get(f"{path}?{query}")
    problem(reply, 400, "bad_query")
    (error,) = reply.json["errors"]

    assert error["path"] == name
    assert message in error["message"]


@pytest.mark.parametrize(
    ("query", "accept", "offers"),
    [
        ("", "application/x-ndjson", "application/json, text/plain"),
        ("?follow=1", "application/json", "text/plain, application/x-ndjson"),
    ],
)
def test_a_form_that_there_is_not_is_refused_with_those_that_there_are(
    shared: Service, path: str, query: str, accept: str, offers: str
) -> None:
    assert f"there is: {offers}" in problem(shared.get(path + query, f"Accept: {accept}"), 406, "not_acceptable")


@pytest.mark.parametrize("query", ["", "?follow=1"])
@pytest.mark.parametrize("job_id", [UNKNOWN, "x"])
def test_a_job_that_there_is_not_has_no_log(shared: Service, query: str, job_id: str) -> None:
    problem(shared.get(f"/jobs/{job_id}/logs{query}"), 404, "job_not_found")


def test_a_head_tells_the_length_and_no_more(shared: Service, path: str) -> None:
    whole = shared.get(path, "Accept: text/plain")
    reply = shared.call("HEAD", path, None, "Accept: text/plain")

    assert (reply.status, reply.headers["Content-Length"]) == (200, str(len(whole.body)))


def test_a_log_that_lost_lines_says_how_many() -> None:
    talk = Talk()
    talk.say(*map(str, range(1, 21)))
    talk.end()
    # The notes keep five lines here and the store all: what is lost depends on how often the recorder comes.
    with running(HandlerSpec(type="talk", function=talk, decode=msgspec.json.decode), log_lines=5) as service:
        job_id = service.submit("talk")
        service.finished(job_id)
        log = service.get(f"/jobs/{job_id}/logs").json
        text = service.get(f"/jobs/{job_id}/logs", "Accept: text/plain").body.decode()
        tail = service.get(f"/jobs/{job_id}/logs?tail=3").json

    assert log["dropped"] == 20 - len(log["lines"])
    assert ("left out" in text) == (log["dropped"] > 0)
    assert ([line["message"] for line in tail["lines"]], tail["dropped"]) == (["18", "19", "20"], 0)
