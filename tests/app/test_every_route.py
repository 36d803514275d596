"""Every route of the service, with no key, with wrong ones, and with each scope.

The table below says who may make each call. A route that is not in it fails the first test, so a
new one cannot be forgotten.
"""

from collections.abc import Iterator
from datetime import timedelta
from types import MappingProxyType

import pytest
from flask import Flask

from app import errors, keys
from app.auth import Gate
from app.key_ring import KeyRing
from app.policy import Policy, needs, policy_of
from tests.app.conftest import Service, running
from tests.app.conversation import Reply
from tests.app.keyholder import KeyHolder, bearer
from tests.fake_clock import FakeClock

#: Who may make each call: "open", "any" (key), or the scopes of which one is needed.
TABLE = {
    ("GET", "/"): "any",
    ("GET", "/help"): "any",
    ("GET", "/health"): "open",
    ("GET", "/ready"): "open",
    ("GET", "/problems"): "any",
    ("GET", "/problems/<code>"): "any",
    ("GET", "/stats"): "read",
    ("GET", "/jobs"): "read",
    ("GET", "/jobs/<job_id>"): "read",
    ("GET", "/jobs/<job_id>/result"): "read",
    ("GET", "/jobs/<job_id>/logs"): "read",
    ("GET", "/jobs/<job_id>/attempts"): "read",
    ("GET", "/queues"): "read",
    ("GET", "/queues/<name>"): "read",
    ("POST", "/jobs"): "submit",
    ("POST", "/jobs/batch"): "submit",
    ("POST", "/jobs/<job_id>/cancel"): "manage",
    ("POST", "/jobs/<job_id>/retry"): "manage",
    ("DELETE", "/jobs/<job_id>"): "manage",
    ("POST", "/queues/<name>/pause"): "manage",
    ("POST", "/queues/<name>/resume"): "manage",
}
#: The scopes of the keys that the tests hold, and which calls each allows.
ALLOWED = MappingProxyType(
    {
        "read": {"read"},
        "submit": {"submit"},
        "submit:echo": {"submit"},
        "manage": {"manage"},
    }
)
#: What stands for the variable parts of a path.
PARTS = MappingProxyType({"job_id": "0192f0c1-0000-7000-8000-000000000000", "name": "default", "code": "not_found"})

CALLS = sorted(TABLE)
#: A call of each kind that there is not.
NOWHERE = [("GET", "/nowhere"), ("POST", "/jobs/x/y/z"), ("PUT", "/jobs"), ("BREW", "/queues"), ("GET", "/jobs//")]


class Walker:
    """A service with keys, and ways to make each call."""

    def __init__(self, service: Service, holder: KeyHolder, clock: FakeClock) -> None:
        self._service = service
        self._clock = clock
        #: A key for each scope, and others.
        self.held = {scope: holder.make(scope.replace(":", "-"), scope) for scope in ALLOWED}
        self.expired = holder.make("expired", "read", "submit", "manage", expires_at=clock.now() + timedelta(days=1))
        clock.advance(86_400)

    @property
    def app(self) -> Flask:
        """The application that is served."""
        return self._service.app

    def routes(self) -> set[tuple[str, str]]:
        """Every method and path that there is; what Flask adds by itself is left out."""
        return {
            (method, rule.rule)
            for rule in self.app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }

    def call(self, method: str, rule: str, *headers: str) -> Reply:
        """Make a call that is right in every other way; enough time has passed for it to fail."""
        self._clock.advance(6)
        path = rule
        for name, text in PARTS.items():
            path = path.replace(f"<{name}>", text)
        body: object = None
        if (method, rule) in (("POST", "/jobs"), ("POST", "/jobs/batch")):
            job = {"type": "echo"}
            body = {"jobs": [job]} if rule.endswith("batch") else job
        return self._service.call(method, path, body, *headers)


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walker]:
    clock = FakeClock()
    holder = KeyHolder(tmp_path_factory.mktemp("keys"))
    holder.make("first", "read")
    with running(gate=holder.gate(clock)) as service:
        yield Walker(service, holder, clock)


def methods_of(method: str) -> list[str]:
    """The methods that are answered by the call of this one."""
    return ["GET", "HEAD"] if method == "GET" else [method]


def is_problem(reply: Reply, code: str) -> bool:
    """Whether a reply is this problem; one to HEAD shows it by its status alone."""
    return not reply.body or reply.json["type"] == f"/problems/{code}"


def test_the_table_has_every_route_there_is(walker: Walker) -> None:
    assert walker.routes() == TABLE.keys()


def test_every_route_says_who_may_call_it(walker: Walker) -> None:
    rules = list(walker.app.url_map.iter_rules())

    assert [rule for rule in rules if policy_of(walker.app.view_functions[rule.endpoint]) is None] == []
    assert {rule.rule for rule in rules if policy_of(walker.app.view_functions[rule.endpoint]) is Policy.OPEN} == {
        "/health",
        "/ready",
    }


@pytest.mark.parametrize(("method", "rule"), CALLS)
def test_without_a_key_nothing_but_what_is_open(walker: Walker, method: str, rule: str) -> None:
    for one in methods_of(method):
        reply = walker.call(one, rule)
        if TABLE[method, rule] == "open":
            assert reply.status in (200, 503)
        else:
            assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, 'Bearer realm="gofer"')
            assert is_problem(reply, "unauthorized")


@pytest.mark.parametrize(("method", "rule"), CALLS)
def test_with_a_wrong_key_nothing_but_what_is_open(walker: Walker, method: str, rule: str) -> None:
    damaged = walker.held["read"][:-1]
    for key in (keys.new_key(), damaged, walker.expired, "letmein"):
        for one in methods_of(method):
            reply = walker.call(one, rule, bearer(key))
            if TABLE[method, rule] == "open":
                assert reply.status in (200, 503)
            else:
                assert reply.status == 401
                assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]
                assert is_problem(reply, "unauthorized")
                assert key not in reply.body.decode() + str(reply.headers)


@pytest.mark.parametrize("scope", ALLOWED)
@pytest.mark.parametrize(("method", "rule"), CALLS)
def test_a_scope_allows_what_it_says_and_no_more(walker: Walker, method: str, rule: str, scope: str) -> None:
    needed = TABLE[method, rule]
    for one in methods_of(method):
        reply = walker.call(one, rule, bearer(walker.held[scope]))
        if needed in ("open", "any") or needed in ALLOWED[scope]:
            assert reply.status in (200, 201, 204, 404, 503), reply.body
        else:
            assert reply.status == 403, reply.body
            assert reply.headers["WWW-Authenticate"] == (
                f'Bearer realm="gofer", error="insufficient_scope", scope="{needed}"'
            )
            assert is_problem(reply, "forbidden")
            assert not reply.body or f"lacks the scope {needed}" in reply.json["detail"]


@pytest.mark.parametrize(("method", "path"), NOWHERE)
def test_strangers_are_not_told_what_there_is_not(walker: Walker, method: str, path: str) -> None:
    assert walker.call(method, path).status == 401
    assert walker.call(method, path, bearer(keys.new_key())).status == 401
    assert walker.call(method, path, bearer(walker.held["submit:echo"])).status in (404, 405)


@pytest.mark.parametrize("rule", sorted({rule for _, rule in TABLE}))
def test_the_methods_of_a_call_are_told_to_those_who_have_any_key(walker: Walker, rule: str) -> None:
    is_open = TABLE.get(("GET", rule)) == "open"

    assert walker.call("OPTIONS", rule).status == (200 if is_open else 401)
    reply = walker.call("OPTIONS", rule, bearer(walker.held["submit:echo"]))
    assert reply.status == 200
    assert "OPTIONS" in reply.headers["Allow"]


def test_a_route_that_says_nothing_is_denied_to_all(caplog: pytest.LogCaptureFixture) -> None:
    key = "the-key-of-the-operator"
    clock = FakeClock()
    app = Flask("forgetful")
    errors.register(app, pytest.fail)
    Gate(KeyRing(clock, keys.chosen(key)), clock).guard(app)
    app.get("/forgotten", endpoint="forgotten")(lambda: "secret")
    app.get("/minded", endpoint="minded")(needs(Policy.ANY_KEY)(lambda: "hello"))
    client = app.test_client()
    headers = {"Authorization": f"Bearer {key}"}

    assert client.get("/minded", headers=headers).text == "hello"
    assert client.get("/forgotten").status_code == 401
    answer = client.get("/forgotten", headers=headers)
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert "does not say who may call it" in caplog.text
