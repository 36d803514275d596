"""What a proxy says of a request is believed from those that are trusted, and from nobody else."""

import json
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from app.forwarded import is_among
from app.server import HttpServer, listen
from store.clock import SystemClock
from tests.app.conftest import running
from tests.app.conversation import Conversation, Reply
from tests.app.keyholder import KeyHolder, bearer
from tests.app.test_jobs import problem
from tests.fake_clock import FakeClock

LOOPBACK = [ip_network("127.0.0.0/8")]
ELSEWHERE = [ip_network("10.0.0.0/8")]
SHOWN = ["REMOTE_ADDR", "HTTP_HOST", "wsgi.url_scheme"]


def show(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """A WSGI application that tells what it was told."""
    told = {name: environ.get(name) for name in SHOWN}
    told["left"] = sorted(name for name in environ if "FORWARDED" in name)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


def serve(proxies: Any) -> HttpServer:
    server = HttpServer(
        show,
        listen("127.0.0.1", 0),
        SystemClock(),
        threads=1,
        max_body=100,
        trusted_proxies=proxies,
        on_death=lambda: pytest.fail("died"),
    )
    server.start()
    return server


@pytest.fixture(scope="module", params=[[], ELSEWHERE], ids=["no proxy", "another proxy"])
def untrusted(request: pytest.FixtureRequest) -> Iterator[int]:
    server = serve(request.param)
    yield int(server.effective_port)
    server.stop(5)


@pytest.fixture(scope="module")
def trusted() -> Iterator[int]:
    server = serve([*ELSEWHERE, *LOOPBACK])
    yield int(server.effective_port)
    server.stop(5)


def ask(port: int, *headers: str) -> Reply:
    with Conversation(port) as client:
        return client.ask("GET", "/", b"", *headers)


def told(address: str = "127.0.0.1", host: str = "localhost", scheme: str = "http") -> dict[str, object]:
    return {"REMOTE_ADDR": address, "HTTP_HOST": host, "wsgi.url_scheme": scheme, "left": []}


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 203.0.113.7",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 81",
        "X-Forwarded-By: x",
        "Forwarded: for=203.0.113.7;host=evil.example;proto=https",
        "X-Forwarded-Proto: nonsense",
    ],
)
def test_from_anybody_it_changes_nothing_and_is_taken_away(untrusted: int, header: str) -> None:
    assert ask(untrusted, header).json == told()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["X-Forwarded-For: 203.0.113.7"], told("203.0.113.7")),
        (["X-Forwarded-For: 6.6.6.6, 203.0.113.7"], told("203.0.113.7")),
        (["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 203.0.113.7"], told("203.0.113.7")),
        (["X-Forwarded-For: 2001:db8::7"], told("2001:db8::7")),
        (["X-Forwarded-For: [2001:db8::7]:99"], told("2001:db8::7")),
        (["X-Forwarded-For: 203.0.113.7:99"], told("203.0.113.7")),
        (["X-Forwarded-Host: jobs.example"], told(host="jobs.example")),
        (["X-Forwarded-Host: jobs.example:81"], told(host="jobs.example:81")),
        (["X-Forwarded-Proto: https", "X-Forwarded-Host: jobs.example"], told(host="jobs.example", scheme="https")),
        (["X-Forwarded-Proto: https"], told(scheme="https")),
        ([], told()),
        # One that it does not know, or does not name, is nobody in particular.
        (["X-Forwarded-For: unknown"], told()),
        (["X-Forwarded-For: 203.0.113.7, Unknown:80"], told()),
        (["X-Forwarded-For: _hidden"], told()),
        (["X-Forwarded-For: _gazonk.b-c:_port"], told()),
        (["X-Forwarded-For: "], told()),
    ],
)
def test_from_a_trusted_proxy_it_is_believed(trusted: int, headers: list[str], expected: dict[str, object]) -> None:
    """Of several entries the last, which the proxy itself has added; what stands before, its client may have sent."""
    assert ask(trusted, *headers).json == expected


@pytest.mark.parametrize("header", ["Forwarded: for=6.6.6.6;host=evil.example", "X-Forwarded-Port: 81"])
def test_what_a_proxy_may_have_passed_on_without_a_look_is_not_believed(trusted: int, header: str) -> None:
    assert ask(trusted, header).json == told()


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Proto: https, http",
        'X-Forwarded-For: "203.0.113.7',
        "X-Forwarded-For: :8.0",
        "X-Forwarded-For: client.example",
        "X-Forwarded-For: 203.0.113.7:1:2",
    ],
)
def test_what_makes_no_sense_is_refused(trusted: int, header: str) -> None:
    name = header.partition(":")[0]
    assert problem(ask(trusted, header), 400, "bad_header") == f"the proxy's {name} makes no sense"


@pytest.mark.parametrize(
    ("address", "is_in"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.0.0.1", False),
        ("::ffff:11.0.0.1", False),
        # Whoever has these addresses may be anywhere.
        ("64:ff9b::10.1.2.3", False),
        ("2002:a01:203::1", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_a_proxy_is_known_by_its_address_in_ipv6_clothes_too(address: str, is_in: bool) -> None:
    assert is_among(address, ELSEWHERE) is is_in


def test_a_page_of_help_shows_the_address_that_the_proxy_was_called_by(tmp_path: Path) -> None:
    holder = KeyHolder(tmp_path)
    key = holder.make("reader", "read")
    with running(gate=holder.gate(FakeClock()), trusted_proxies=LOOPBACK) as service:
        headers = (bearer(key), "X-Forwarded-Host: jobs.example", "X-Forwarded-Proto: https")
        page = service.get("/help", *headers).body.decode()

    assert "\n  G=https://jobs.example\n" in page


@pytest.mark.parametrize(("proxies", "status"), [(LOOPBACK, 401), ([], 429)])
def test_failed_attempts_count_for_the_client_and_not_for_its_proxy(tmp_path: Path, proxies: Any, status: int) -> None:
    """Who is no trusted proxy cannot make itself another client for each attempt."""
    holder = KeyHolder(tmp_path)
    holder.make("reader", "read")
    with running(gate=holder.gate(FakeClock()), trusted_proxies=proxies) as service:
        for i in range(12):
            reply = service.get("/stats", bearer("wrong"), f"X-Forwarded-For: 203.0.113.{i}")

    assert reply.status == status


def test_without_keys_what_comes_through_a_proxy_is_for_somebody_else() -> None:
    with running(trusted_proxies=LOOPBACK) as service:
        problem(service.get("/stats", "X-Forwarded-Host: jobs.example"), 421, "foreign_host")
