"""``GET /jobs/{id}/logs?follow=1``, over real HTTP."""

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Self

import msgspec
import pytest

from app import channel
from tests.app.conftest import Service, running
from tests.eventually import eventually
from tests.talk import Talk
from worker.context import JobContext
from worker.errors import Retry
from worker.registry import HandlerSpec

#: In front of a line of the log.
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\S+Z ")


class Follower:
    """A client that follows a log."""

    def __init__(self, service: Service, job_id: str, query: str = "", accept: str = "*/*") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
        self._connection.request("GET", f"/jobs/{job_id}/logs?follow=1{query}", headers={"Accept": accept})
        #: The head of the answer is here, whether there is a line or not.
        self.response = self._connection.getresponse()
        assert self.response.status == 200

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self._connection.close()

    def line(self) -> str:
        """The next line, without its time; empty at the end."""
        return TIME.sub("", self.response.readline().decode())

    def rest(self) -> list[str]:
        """All lines from here to the end."""
        return list(iter(self.line, ""))


@pytest.fixture
def talk() -> Talk:
    """What the jobs of the type ``talk`` do."""
    return Talk()


@pytest.fixture
def service(talk: Talk) -> Iterator[Service]:
    """A service with two seats for requests that wait."""
    with running(HandlerSpec(type="talk", function=talk, decode=msgspec.json.decode)) as service:
        yield service
        for _ in range(4):  # whatever still runs
            talk.end()


def follow(service: Service, job_id: str, query: str = "", accept: str = "*/*") -> Follower:
    return Follower(service, job_id, query, accept)


def nobody_follows(service: Service) -> bool:
    return not service.engine._parts.finals._waiting


def assert_that_two_may_follow(service: Service, talk: Talk) -> None:
    """Assert that each seat is free."""
    job_id = service.submit("talk", queue="slow")
    with follow(service, job_id) as one, follow(service, job_id) as other:
        eventually(lambda: len(service.engine._parts.finals._waiting.get(job_id, ())) == 2)
        talk.end()
        assert one.rest() == other.rest() == []


def test_lines_come_as_text_while_the_job_runs_and_the_stream_ends_with_it(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    talk.say("one", "two")
    with follow(service, job_id) as follower:
        assert follower.response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert follower.response.headers["X-Content-Type-Options"] == "nosniff"
        assert follower.response.headers["Content-Length"] is None
        assert [follower.line(), follower.line()] == ["info  one\n", "info  two\n"]
        talk.say("three")
        assert follower.line() == "info  three\n"
        talk.say("the end")
        talk.end()
        assert follower.rest() == ["info  the end\n"]
    assert service.finished(job_id)["status"] == "completed"


def test_lines_come_as_ndjson_for_those_who_prefer_it(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    with follow(service, job_id, accept="application/x-ndjson") as follower:
        assert follower.response.headers["Content-Type"] == "application/x-ndjson"
        talk.say("one")
        assert json.loads(follower.line())["message"] == "one"
        talk.end()
        assert follower.rest() == []


def test_a_line_comes_soon(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    with follow(service, job_id) as follower:
        talk.say("warming up")
        follower.line()
        begun = time.monotonic()
        talk.say("now")
        assert follower.line() == "info  now\n"
        assert time.monotonic() - begun < 2
        talk.end()


def test_a_further_attempt_is_followed_and_marked(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    talk.say("first")
    talk.end(Retry(after=0))
    talk.say("second")
    talk.end()
    with follow(service, job_id) as follower:
        assert follower.rest() == ["info  first\n", "— attempt 2 —\n", "info  second\n"]


def test_a_part_can_be_asked_for_and_is_followed_on(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    talk.say("1", "2", "3")
    eventually(lambda: len(service.get(f"/jobs/{job_id}/logs").json["lines"]) == 3)
    with follow(service, job_id, "&tail=1") as tail, follow(service, job_id, "&after=1") as after:
        assert tail.line() == "info  3\n"
        assert [after.line(), after.line()] == ["info  2\n", "info  3\n"]
        talk.say("4")
        talk.end()
        assert tail.rest() == ["info  4\n"]
        assert after.rest() == ["info  4\n"]


def test_a_job_that_has_ended_has_a_stream_that_ends(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    talk.say("one")
    talk.end()
    service.finished(job_id)
    with follow(service, job_id) as follower:
        assert follower.rest() == ["info  one\n"]


def test_without_a_free_seat_there_is_what_there_is_and_a_remark(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    talk.say("one", "two")
    eventually(lambda: len(service.get(f"/jobs/{job_id}/logs").json["lines"]) == 2)
    with follow(service, job_id) as one, follow(service, job_id) as other:
        assert [one.line(), other.line()] == ["info  one\n"] * 2
        remark = "not following: too many requests wait; ask again with ?follow=1&after=2"
        with follow(service, job_id) as third:
            assert third.rest() == ["info  one\n", "info  two\n", f"— {remark} —\n"]
        with follow(service, job_id, "&after=1", "application/x-ndjson") as fourth:
            line, end = map(json.loads, fourth.rest())
            assert (line["message"], end) == ("two", {"remark": remark})
        talk.end()
        one.rest()


def test_without_a_free_seat_a_job_that_has_ended_is_complete(service: Service, talk: Talk) -> None:
    ended = service.submit("echo")
    service.finished(ended)
    running_on = service.submit("talk")
    talk.say("one")
    with follow(service, running_on) as one, follow(service, running_on) as other:
        assert [one.line(), other.line()] == ["info  one\n"] * 2
        with follow(service, ended) as third:
            assert third.rest() == []


def test_a_follower_that_hangs_up_leaves_its_seat(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    talk.say("one")
    for _ in range(2):
        with follow(service, job_id) as one, follow(service, job_id) as other:
            assert [one.line(), other.line()] == ["info  one\n"] * 2
        eventually(lambda: nobody_follows(service))
    talk.end()
    service.finished(job_id)
    assert_that_two_may_follow(service, talk)


def test_so_does_one_that_had_pipelined_another_request(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
            paths = (f"/jobs/{job_id}/logs?follow=1", "/health")
            client.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths))
            eventually(lambda: not nobody_follows(service))
    eventually(lambda: nobody_follows(service))
    talk.end()
    service.finished(job_id)
    assert_that_two_may_follow(service, talk)


def test_one_that_closes_its_side_only_is_told_that_there_may_be_more(service: Service, talk: Talk) -> None:
    """As ``nc -N`` does it: no one can tell that from a client that hung up."""
    job_id = service.submit("talk")
    talk.say("one")
    eventually(lambda: service.get(f"/jobs/{job_id}/logs").json["lines"])
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
        client.sendall(f"GET /jobs/{job_id}/logs?follow=1 HTTP/1.0\r\n\r\n".encode())
        client.shutdown(socket.SHUT_WR)
        with client.makefile(encoding="utf-8") as stream:
            *_, line, remark = stream
    assert line.endswith("info  one\n")
    reason = "the client closed its side of the connection"
    assert remark == f"— not following: {reason}; ask again with ?follow=1&after=1 —\n"
    talk.end()


def test_a_job_that_is_waited_for_and_followed_takes_two_seats(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    talk.say("one")
    with follow(service, job_id) as one, follow(service, job_id) as other:
        assert [one.line(), other.line()] == ["info  one\n"] * 2
        assert service.get(f"/jobs/{job_id}?wait=60").json["status"] == "processing"


def test_the_stop_of_the_service_ends_the_stream_with_a_remark(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    talk.say("one")
    with follow(service, job_id) as follower:
        assert follower.line() == "info  one\n"
        service.engine.begin_stop()
        assert follower.rest() == ["— the service is shutting down; ask again with ?follow=1&after=1 —\n"]


def test_a_head_takes_no_seat_and_has_no_body(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
        client.sendall(f"HEAD /jobs/{job_id}/logs?follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received = b""
        while data := client.recv(65_536):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"Content-Type: text/plain; charset=utf-8" in head
    assert body == b""


def test_a_client_of_http_1_0_can_follow(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    talk.say("one")
    talk.end()
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
        client.sendall(f"GET /jobs/{job_id}/logs?follow=1 HTTP/1.0\r\n\r\n".encode())
        received = b""
        while data := client.recv(65_536):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body.endswith(b"info  one\n")


def shout(ctx: JobContext) -> None:
    """Log more than any socket takes at once."""
    for _ in range(1000):
        ctx.log("x" * 8000)


def test_a_follower_that_does_not_read_loses_its_seat(
    service: Service, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "_STALL", 0.3)
    monkeypatch.setattr(channel, "_STALL_CHECK", 0.05)
    job_id = service.submit("talk")
    talk.then(shout)
    with follow(service, job_id), follow(service, job_id):
        eventually(lambda: service.engine._parts.finals._waiting)
        eventually(lambda: nobody_follows(service), 10)
        talk.end()
        service.finished(job_id)
        assert_that_two_may_follow(service, talk)


def test_one_without_a_seat_that_does_not_read_keeps_no_thread(service: Service, talk: Talk) -> None:
    ended = service.submit("talk")
    talk.then(shout)
    talk.end()
    service.finished(ended)
    running_on = service.submit("talk")
    talk.say("one")
    with follow(service, running_on) as one, follow(service, running_on) as other:
        assert [one.line(), other.line()] == ["info  one\n"] * 2
        with follow(service, ended):
            eventually(lambda: sum(bool(each.requests) for each in service.server.active_channels.values()) == 2)
        talk.end()
        assert one.rest() == other.rest() == []


def test_a_follower_that_reads_slowly_gets_everything_in_the_end(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    talk.then(shout)
    talk.end()
    service.finished(job_id)
    with follow(service, job_id) as follower:
        first = follower.line()
        held_back = [
            len(each.outbufs) for each in service.server.active_channels.values() if each.total_outbufs_len > 2**20
        ]
        assert first == "info  " + "x" * 8000 + "\n"
        assert held_back == []
        assert follower.rest() == [first] * 999


def test_a_follower_that_does_not_read_does_not_hold_up_the_stop(service: Service, talk: Talk) -> None:
    job_id = service.submit("talk")
    talk.then(shout)
    with follow(service, job_id):
        eventually(lambda: any(each.total_outbufs_len for each in service.server.active_channels.values()))
        begun = time.monotonic()
        service.engine.begin_stop()
        service.server.stop(5)
        assert time.monotonic() - begun < 4
