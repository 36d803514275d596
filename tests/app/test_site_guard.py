"""Without keys: who may call is decided by the name that was called, and by whose page it comes from."""

from collections.abc import Iterator

import pytest

from tests.app.conftest import Service, running
from tests.app.conversation import Conversation, Reply
from tests.app.keyholder import KeyHolder, bearer
from tests.app.test_every_route import NOWHERE, PARTS, TABLE
from tests.app.test_jobs import problem
from tests.fake_clock import FakeClock

#: Every call that there is, and some that there are not.
CALLS = sorted({*TABLE, *NOWHERE})
each_call = pytest.mark.parametrize(("method", "rule"), CALLS, ids=" ".join)


def send(service: Service, method: str, path: str, *headers: str, host: str | None = "localhost") -> Reply:
    """Send a request without a body. ``host``: None leaves the header out, as only HTTP/1.0 may."""
    version, first = ("1.0", []) if host is None else ("1.1", [f"Host: {host}"])
    lines = [f"{method} {path} HTTP/{version}", *first, *headers]
    with Conversation(service.port) as client:
        client.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        return client.read(has_body=method != "HEAD")


def path_of(rule: str) -> str:
    """A path that the rule matches."""
    for name, text in PARTS.items():
        rule = rule.replace(f"<{name}>", text)
    return rule


@pytest.fixture(scope="module")
def open_service() -> Iterator[Service]:
    with running(any_host=True) as service:
        yield service


@pytest.fixture(scope="module")
def with_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    holder = KeyHolder(tmp_path_factory.mktemp("keys"))
    key = holder.make("all", "read", "submit", "manage")
    with running(gate=holder.gate(FakeClock())) as service:
        yield service, key


class TestNames:
    """The Host header, against pages whose own name was made to resolve to this machine (DNS rebinding)."""

    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:8080", "gofer.localhost", "127.0.0.1", "127.8.8.8:80", "[::1]", "[::1]:8080"]
    )
    def test_this_machines_own_are_served(self, shared: Service, host: str) -> None:
        assert send(shared, "GET", "/stats", host=host).status == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8080", "10.0.0.1", "127.0.0.1.nip.io", "0.0.0.0", "[::2]", "", "a, b"]
    )
    def test_others_are_refused_with_a_word_on_how_to_be_reached_by_them(self, shared: Service, host: str) -> None:
        assert "GOFER_API_KEY" in problem(send(shared, "GET", "/stats", host=host), 421, "foreign_host")

    @each_call
    def test_others_are_refused_for_every_call(self, shared: Service, method: str, rule: str) -> None:
        problem(send(shared, method, path_of(rule), host="evil.example"), 421, "foreign_host")

    def test_one_that_was_served_serves_no_other(self, shared: Service) -> None:
        for host, status in (("localhost", 200), ("evil.example", 421), ("evil.example", 421), ("localhost", 200)):
            assert send(shared, "GET", "/health", host=host).status == status

    def test_a_program_that_speaks_http_1_0_need_not_give_any(self, shared: Service) -> None:
        assert send(shared, "GET", "/stats", host=None).status == 200

    def test_all_are_served_where_anybody_may_come_in(self, open_service: Service) -> None:
        assert send(open_service, "GET", "/stats", host="jobs.example").status == 200

    def test_all_are_served_to_those_who_have_a_key(self, with_keys: tuple[Service, str]) -> None:
        service, key = with_keys
        assert send(service, "GET", "/stats", bearer(key), host="jobs.example").status == 200
        assert send(service, "GET", "/health", host="jobs.example").status == 200


class TestPagesOfOtherSites:
    """What a browser says about where a request comes from."""

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "", "same-origin, cross-site", "new-kind-of-site"])
    def test_are_refused_by_what_the_browser_says_of_the_site(self, shared: Service, site: str) -> None:
        assert "Sec-Fetch-Site" in problem(send(shared, "GET", "/stats", f"Sec-Fetch-Site: {site}"), 403, "cross_site")

    @pytest.mark.parametrize(
        "origin",
        [
            *(
                "https://evil.example",
                "http://localhost:81",
                "http://localhost.evil.example:80",
                "null",
                "",
                "localhost",
            ),
            *("http://evil.example, http://localhost:80", "file://", "http://localhost:80/", "chrome-extension://abc"),
        ],
    )
    def test_are_refused_by_the_origin_of_the_page(self, shared: Service, origin: str) -> None:
        reply = send(shared, "POST", "/queues/default/pause", f"Origin: {origin}", host="localhost:80")

        assert "Origin" in problem(reply, 403, "cross_site")
        assert shared.get("/queues/default").json["paused"] is False

    @each_call
    def test_are_refused_for_every_call(self, shared: Service, method: str, rule: str) -> None:
        for header in ("Origin: https://evil.example", "Sec-Fetch-Site: cross-site"):
            problem(send(shared, method, path_of(rule), header), 403, "cross_site")

    def test_are_refused_where_anybody_may_come_in(self, open_service: Service) -> None:
        reply = send(open_service, "POST", "/queues/default/pause", "Origin: https://evil.example", host="jobs.example")

        problem(reply, 403, "cross_site")

    def test_are_not_told_that_they_may_ask(self, shared: Service) -> None:
        """A browser asks first before it sends JSON elsewhere; no answer gives it leave."""
        asks = ("Origin: https://evil.example", "Access-Control-Request-Method: POST")
        reply = send(shared, "OPTIONS", "/jobs", *asks)

        problem(reply, 403, "cross_site")
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]

    @pytest.mark.parametrize(
        "headers",
        [
            ("Sec-Fetch-Site: same-origin", "Origin: http://localhost:80"),
            ("Sec-Fetch-Site: none",),
            ("Origin: HTTP://LOCALHOST:80",),
            ("Origin: https://localhost:80",),
            (),
        ],
    )
    def test_the_services_own_pages_and_programs_are_let_in(self, shared: Service, headers: tuple[str, ...]) -> None:
        assert send(shared, "POST", "/queues/default/resume", *headers, host="localhost:80").status == 200

    def test_a_key_is_enough(self, with_keys: tuple[Service, str]) -> None:
        """No browser sends one by itself, as it does a cookie."""
        service, key = with_keys
        assert send(service, "GET", "/stats", bearer(key), "Origin: https://elsewhere.example").status == 200
        problem(send(service, "GET", "/stats", "Sec-Fetch-Site: none"), 401, "unauthorized")


#: What a page can send without asking first (Fetch, section 2.2.2), and nothing at all.
SIMPLE = ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", None]
CANCEL = f"/jobs/{PARTS['job_id']}/cancel"


class TestBodies:
    """A body is JSON, also where nobody looks at it."""

    @pytest.mark.parametrize("path", ["/jobs", "/jobs/batch", "/queues/default/pause", "/nowhere", CANCEL])
    @pytest.mark.parametrize("media_type", SIMPLE)
    def test_of_another_type_is_refused(self, shared: Service, path: str, media_type: str | None) -> None:
        headers = [f"Content-Type: {media_type}"] if media_type else []
        with Conversation(shared.port) as client:
            reply = client.ask("POST", path, b'{"type": "echo"}', *headers)

        problem(reply, 415, "unsupported_media_type")
        assert shared.get("/queues/default").json["paused"] is False

    def test_of_another_type_is_refused_when_it_comes_in_chunks(self, shared: Service) -> None:
        with Conversation(shared.port) as client:
            client.send(
                b"POST /queues/default/pause HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"1\r\nx\r\n0\r\n\r\n"
            )
            problem(client.read(), 415, "unsupported_media_type")

    def test_of_another_type_is_refused_with_a_key_too(self, with_keys: tuple[Service, str]) -> None:
        service, key = with_keys
        for given, status in ("", 401), (bearer(key), 415):
            with Conversation(service.port) as client:
                headers = (given,) if given else ()
                assert client.ask("POST", "/queues/default/resume", b"x=1", *headers).status == status

    def test_that_is_empty_has_no_type(self, shared: Service) -> None:
        """``curl -X POST``, and ``curl -d ''``, which says that it is a form."""
        for headers in ((), ("Content-Type: application/x-www-form-urlencoded",)):
            with Conversation(shared.port) as client:
                assert client.ask("POST", "/queues/default/resume", b"", *headers).status == 200


def test_a_service_without_keys_is_guarded_unless_it_is_told_otherwise() -> None:
    """What one gets who forgets to say."""
    with running() as service:
        assert send(service, "GET", "/health", host="evil.example").status == 421
