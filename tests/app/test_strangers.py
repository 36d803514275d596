"""What a stranger sends is not kept: a body is thrown away as it comes, and the answer is what it would be anyway."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app import keys
from tests.app.conftest import MAX_BODY, Service, running
from tests.app.conversation import Conversation, Reply
from tests.app.keyholder import KeyHolder, bearer
from tests.app.test_jobs import problem
from tests.eventually import eventually
from tests.fake_clock import FakeClock

BODY = json.dumps({"type": "echo", "payload": "x" * 50_000}).encode()
UNKNOWN = bearer(keys.new_key())


@dataclass
class Guarded:
    """A service with keys."""

    service: Service
    holder: KeyHolder
    clock: FakeClock
    #: The header with a key that may do everything.
    known: str

    def kept(self) -> int:
        """Bytes of the body that is on its way, once all that was sent of it has been read: all but its last byte."""
        return len(eventually(self._coming).body_rcv)

    def _coming(self) -> Any:
        channels = self.service.server.active_channels.copy().values()
        begun = [channel.request for channel in channels if channel.request]
        return next((request for request in begun if request.body_bytes_received == len(BODY) - 1), None)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    clock, holder = FakeClock(), KeyHolder(tmp_path)
    known = bearer(holder.make("all", "read", "submit", "manage"))
    with running(gate=holder.gate(clock)) as service:
        yield Guarded(service, holder, clock, known)


def head(*headers: str, length: str = f"Content-Length: {len(BODY)}") -> bytes:
    lines = ["POST /jobs HTTP/1.1", "Host: localhost", "Content-Type: application/json", length, *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def send_slowly(guarded: Guarded, *headers: str) -> tuple[int, Reply]:
    """How much of a body was kept before its last byte came, and the answer after it."""
    with Conversation(guarded.service.port) as client:
        client.send(head(*headers) + BODY[:-1])
        kept = guarded.kept()
        client.send(BODY[-1:])
        return kept, client.read()


@pytest.mark.parametrize("headers", [[], [UNKNOWN], ["Authorization: Basic eDp5"], [bearer("gofer_cut")]])
def test_nothing_of_their_body_is_kept(guarded: Guarded, headers: list[str]) -> None:
    kept, reply = send_slowly(guarded, *headers)

    assert kept == 0
    problem(reply, 401, "unauthorized")


def test_what_somebody_sends_who_has_a_key_is_kept(guarded: Guarded) -> None:
    kept, reply = send_slowly(guarded, guarded.known)

    assert kept == len(BODY) - 1
    assert reply.status == 201


def test_without_keys_there_are_no_strangers(service: Service) -> None:
    with Conversation(service.port) as client:
        client.send(head() + BODY)
        assert client.read().status == 201


def test_the_connection_goes_on_with_what_follows_the_body(guarded: Guarded) -> None:
    with Conversation(guarded.service.port) as client:
        client.send(head() + BODY + head(guarded.known) + BODY + head(UNKNOWN) + BODY)

        assert [client.read().status for _ in range(3)] == [401, 201, 401]


def test_nor_are_their_chunks(guarded: Guarded) -> None:
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    with Conversation(guarded.service.port) as client:
        for headers in ([], [guarded.known]):
            client.send(head(*headers, length="Transfer-Encoding: chunked") + chunks)

        assert [client.read().status for _ in range(2)] == [401, 201]


def test_a_body_that_is_too_large_is_so_for_them_as_well(guarded: Guarded) -> None:
    with Conversation(guarded.service.port) as client:
        assert client.ask("POST", "/jobs", b"x" * (MAX_BODY + 100_000), UNKNOWN).status == 413


def test_who_asks_first_is_refused_before_the_body_is_sent(guarded: Guarded) -> None:
    with Conversation(guarded.service.port) as client:
        client.send(head("Expect: 100-continue", UNKNOWN))
        reply = client.read()

        problem(reply, 401, "unauthorized")
        assert reply.headers["Connection"] == "close"
        assert client.is_over()


def test_a_wrong_key_counts_once_and_then_has_to_wait(guarded: Guarded) -> None:
    statuses = [guarded.service.call("POST", "/jobs", BODY, UNKNOWN).status for _ in range(12)]

    assert statuses == [401] * 10 + [429] * 2


def test_a_key_that_expires_while_the_body_comes_is_refused_as_expired(guarded: Guarded) -> None:
    key = bearer(guarded.holder.make("short", "submit", expires_at=guarded.clock.now() + timedelta(seconds=9)))
    guarded.clock.advance(1)
    with Conversation(guarded.service.port) as client:
        client.send(head(key) + BODY[:-1])
        assert guarded.kept() > 0
        guarded.clock.advance(9)
        client.send(BODY[-1:])

        assert problem(client.read(), 401, "unauthorized") == "the key has expired"


def test_a_key_that_comes_into_force_while_the_body_comes_is_told_to_try_again(guarded: Guarded) -> None:
    """Its body is lost; to take the rest for a broken submission would blame the client."""
    key = keys.new_key()
    with Conversation(guarded.service.port) as client:
        client.send(head(bearer(key)) + BODY[:-1])
        assert guarded.kept() == 0
        guarded.holder.make("late", "submit", text=key)
        guarded.clock.advance(1)
        client.send(BODY[-1:])

        assert "send it again" in problem(client.read(), 401, "unauthorized")
    assert guarded.service.call("POST", "/jobs", BODY, bearer(key)).status == 201


def test_what_is_open_to_all_is_so_with_a_body_too(guarded: Guarded) -> None:
    assert guarded.service.call("GET", "/health", BODY).status == 200
