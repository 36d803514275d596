"""The gate: how a key is given, what is said of one that will not do, and who fails too often."""

import base64
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from app import keys
from tests.app.conftest import Service, running
from tests.app.keyholder import KeyHolder, bearer
from tests.app.test_jobs import problem
from tests.fake_clock import FakeClock

OWN = "the-operator/made=this+up"
WRONG = "gofer_VWrHmDn7FyDBIaa7Ly3zIvhducc7qQN1aLqJDTdWA0i1o0xwP"


@dataclass
class Guarded:
    """A service with keys."""

    service: Service
    holder: KeyHolder
    clock: FakeClock
    #: One that may read.
    key: str


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    clock, holder = FakeClock(), KeyHolder(tmp_path)
    key = holder.make("reader", "read")
    with running(gate=holder.gate(clock, keys.chosen(OWN))) as service:
        yield Guarded(service, holder, clock, key)


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer   {}", "Bearer {}  "])
def test_the_key_comes_as_a_bearer_token(guarded: Guarded, form: str) -> None:
    assert guarded.service.get("/stats", f"Authorization: {form.format(guarded.key)}").status == 200


@pytest.mark.parametrize("form", ["{}", "Bearer", "Bearer{}", "Token {}", "Key {}", ""])
def test_in_another_form_it_is_as_if_there_was_none(guarded: Guarded, form: str) -> None:
    reply = guarded.service.get("/stats", f"Authorization: {form.format(guarded.key)}")

    assert "Authorization: Bearer KEY" in problem(reply, 401, "unauthorized")
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="gofer"'


def test_a_user_and_a_password_are_no_key(guarded: Guarded) -> None:
    basic = base64.b64encode(f"reader:{guarded.key}".encode()).decode()

    problem(guarded.service.get("/stats", f"Authorization: Basic {basic}"), 401, "unauthorized")


def test_a_key_in_the_address_is_not_looked_at(guarded: Guarded) -> None:
    problem(guarded.service.get(f"/stats?access_token={guarded.key}"), 401, "unauthorized")


def test_two_keys_are_refused_before_either_is_looked_at(guarded: Guarded) -> None:
    reply = guarded.service.get("/stats", bearer(guarded.key), bearer(guarded.key))

    problem(reply, 400, "bad_request")


def test_the_operators_own_key_may_do_everything(guarded: Guarded) -> None:
    assert guarded.service.get("/stats", bearer(OWN)).status == 200
    assert guarded.service.post("/queues/default/pause", None, bearer(OWN)).status == 200
    assert guarded.service.post("/jobs", {"type": "echo"}, bearer(OWN)).json["submitted_by"] == "default"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (WRONG, "the key is not known here"),
        (WRONG[:-1], "the key was mistyped or cut off: its checksum is wrong"),
        (OWN[:-1], "the key is not known here"),
        ("\xff\xfe", "the key is not known here"),
        ("a, b", "the key is not known here"),
        ("x" * 60_000, "the key is not known here"),
    ],
)
def test_a_key_that_will_not_do_is_told_why_and_not_repeated(guarded: Guarded, key: str, said: str) -> None:
    reply = guarded.service.get("/stats", bearer(key))

    assert problem(reply, 401, "unauthorized") == said
    assert reply.headers["WWW-Authenticate"] == (
        f'Bearer realm="gofer", error="invalid_token", error_description="{said}"'
    )
    assert key not in reply.body.decode()


def test_a_key_expires_at_its_instant(guarded: Guarded) -> None:
    key = guarded.holder.make("short", "read", expires_at=guarded.clock.now() + timedelta(hours=1))
    guarded.clock.advance(3599)
    assert guarded.service.get("/stats", bearer(key)).status == 200
    guarded.clock.advance(1)
    assert problem(guarded.service.get("/stats", bearer(key)), 401, "unauthorized") == "the key has expired"


def test_a_key_that_was_revoked_is_refused_while_the_service_runs(guarded: Guarded) -> None:
    assert guarded.service.get("/stats", bearer(guarded.key)).status == 200
    guarded.holder.revoke("reader")
    guarded.clock.advance(1)
    problem(guarded.service.get("/stats", bearer(guarded.key)), 401, "unauthorized")


def test_no_key_and_nothing_of_it_is_ever_logged(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for _ in range(12):
            guarded.service.get("/stats", bearer(WRONG))
        guarded.service.get("/nowhere", bearer(guarded.key))
        guarded.service.post("/jobs", {"type": "echo"}, bearer(guarded.key))

    logged = caplog.text + "".join(repr(vars(record)) for record in caplog.records)
    assert not any(text in logged for text in (WRONG, guarded.key, WRONG[6:20], guarded.key[6:20]))


class TestTooManyAttempts:
    """Failed attempts per address."""

    def test_the_eleventh_wrong_key_is_told_to_wait(self, guarded: Guarded) -> None:
        for _ in range(10):
            problem(guarded.service.get("/stats", bearer(WRONG)), 401, "unauthorized")
        reply = guarded.service.get("/stats", bearer(WRONG))

        assert "try again in 6 s" in problem(reply, 429, "too_many_attempts")
        assert reply.headers["Retry-After"] == "6"
        guarded.clock.advance(6)
        problem(guarded.service.get("/stats", bearer(WRONG)), 401, "unauthorized")
        problem(guarded.service.get("/stats", bearer(WRONG)), 429, "too_many_attempts")

    def test_a_right_key_passes_all_the_same(self, guarded: Guarded) -> None:
        for _ in range(20):
            guarded.service.get("/stats", bearer(WRONG))

        assert guarded.service.get("/stats", bearer(guarded.key)).status == 200
        assert guarded.service.get("/health").status == 200

    def test_who_gives_no_key_tries_none(self, guarded: Guarded) -> None:
        for _ in range(20):
            problem(guarded.service.get("/stats"), 401, "unauthorized")

    def test_a_missing_scope_is_no_failed_attempt(self, guarded: Guarded) -> None:
        for _ in range(20):
            problem(guarded.service.post("/queues/default/pause", None, bearer(guarded.key)), 403, "forbidden")

    def test_it_is_logged_once_with_the_address(self, guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(20):
            guarded.service.get("/stats", bearer(WRONG))

        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert warnings == ["too many wrong keys from 127.0.0.1"]
