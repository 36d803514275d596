"""Where a redirect leads, and what it takes along."""

import pytest

from tests.worker.outgoing.caller import Caller
from tests.worker.outgoing.conftest import NewCaller, Serve
from tests.worker.outgoing.raw_server import RawServer, answer
from worker.errors import Fail
from worker.outgoing.request import Request, redirected

SECRETS = {"Authorization": "x", "Cookie": "x", "X-Api-Key": "x", "Private-Token": "x"}
HARMLESS = {"Accept": "x", "Accept-Language": "x", "Idempotency-Key": "x", "Gofer-Job-Id": "x", "traceparent": "x"}


def redirect(location: str, status: int = 302) -> bytes:
    return answer(b"elsewhere", f"Location: {location}", status=f"{status} Elsewhere")


def target(location: str, url: str = "https://a.example/b/c?d") -> str:
    request = redirected(Request("GET", url, {}), 302, location)
    assert request
    return request.url


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://b.example/x", "https://b.example/x"),
        ("//b.example/x", "https://b.example/x"),
        ("/x?y", "https://a.example/x?y"),
        ("x", "https://a.example/b/x"),
        ("?x", "https://a.example/b/c?x"),
        ("http://a.example/", "http://a.example/"),
    ],
)
def test_a_location_is_relative_to_the_url(location: str, url: str) -> None:
    assert target(location) == url


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://b.example/",
        "gopher://b.example/",
        "javascript:alert(1)",
        "http://user:secret@b.example/",
        "http://b.example:0/",
        "http:///x",
        "http://[::1",
        "/a b",
        "/a\\b",
    ],
)
def test_a_location_that_may_not_be_called(location: str) -> None:
    with pytest.raises(ValueError, match=r"redirected to .*, but a URL must"):
        target(location)


@pytest.mark.parametrize("status", [200, 201, 300, 304, 305, 404])
def test_only_some_statuses_are_redirects(status: int) -> None:
    assert redirected(Request("GET", "http://a.example/", {}), status, "/x") is None


@pytest.mark.parametrize("location", [None, ""])
def test_a_redirect_without_a_location_is_none(location: str | None) -> None:
    assert redirected(Request("GET", "http://a.example/", {}), 302, location) is None


@pytest.mark.parametrize(
    ("status", "method", "becomes"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (301, "PUT", "PUT"),
        (302, "DELETE", "DELETE"),
        (307, "POST", "POST"),
        (308, "PATCH", "PATCH"),
    ],
)
def test_a_method_that_becomes_get_loses_its_body(status: int, method: str, becomes: str) -> None:
    request = Request(method, "http://a.example/", {"Content-Type": "text/plain", "X-A": "1"}, b"body")
    further = redirected(request, status, "/x")

    assert further
    assert further.method == becomes
    if becomes == "GET" and method != "GET":
        assert (further.body, further.headers) == (None, {"X-A": "1"})
    else:
        assert (further.body, further.headers) == (b"body", request.headers)


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://a.example/", "https://b.example/"),
        ("https://a.example/", "https://a.example.evil/"),
        ("https://a.example/", "https://a.example:444/"),
        ("https://a.example/", "http://a.example/"),
        ("http://a.example:8080/", "https://a.example/"),
        ("http://a.example/", "https://a.example:8443/"),
    ],
)
def test_another_origin_gets_no_secrets(url: str, location: str) -> None:
    further = redirected(Request("GET", url, SECRETS | HARMLESS), 307, location)
    assert further
    assert further.headers == HARMLESS


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://a.example/", "/x"),
        ("https://a.example/", "https://A.EXAMPLE:443/x"),
        ("http://a.example/", "https://a.example/"),
    ],
)
def test_the_same_origin_and_its_encrypted_twin_do(url: str, location: str) -> None:
    further = redirected(Request("GET", url, SECRETS), 307, location)
    assert further
    assert further.headers == SECRETS


def test_a_call_goes_where_it_is_led(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: redirect("/b", 303) if request.target == "/a" else answer(b"here"))

    assert caller.call(server.url + "/a", method="POST", body=1)["body"] == "here"
    assert [(each.method, each.target, each.body) for each in server.requests] == [
        ("POST", "/a", b"1"),
        ("GET", "/b", b""),
    ]
    assert [line.partition(" in ")[0] for line in caller.log()] == [
        f"POST {server.url}/a: 303",
        f"GET {server.url}/b: 200",
    ]
    assert server.connections == 1


def test_the_white_space_around_a_location_is_not_part_of_it(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: redirect(" \t/b \t ") if request.target == "/a" else answer(b"here"))
    assert caller.call(server.url + "/a")["body"] == "here"


@pytest.mark.parametrize(("location", "path"), [("/stra\xc3\x9fe", "/stra%C3%9Fe"), ("/stra\xdfe", "/stra%C3%9Fe")])
def test_a_location_in_utf_8_or_latin_1_is_followed(serve: Serve, caller: Caller, location: str, path: str) -> None:
    server = serve(lambda request: redirect(location) if request.target == "/" else answer(request.target.encode()))
    assert caller.call(server.url)["body"] == path


def test_secrets_stay_at_home(serve: Serve, new_caller: NewCaller) -> None:
    other = serve(lambda request: answer(), host="127.0.0.2")
    server = serve(lambda request: redirect(f"{other.url}/x", 307))
    new_caller(allow=["127.0.0.0/8"]).call(server.url, method="POST", data="x", headers=SECRETS)

    assert server.requests[0].headers["authorization"] == "x"
    assert other.requests[0].body == b"x"
    assert other.requests[0].headers["host"] == f"127.0.0.2:{other.port}"
    assert not {name.lower() for name in SECRETS} & other.requests[0].headers.keys()


def loop(serve: Serve, steps: int) -> RawServer:
    """Leads on that many times."""
    return serve(
        lambda request: (
            redirect(f"/{int(request.target[1:] or 0) + 1}") if int(request.target[1:] or 0) < steps else answer()
        )
    )


def test_five_redirects_are_followed(serve: Serve, caller: Caller) -> None:
    assert caller.call(loop(serve, 5).url)["status"] == 200


def test_six_are_too_many(serve: Serve, caller: Caller) -> None:
    server = loop(serve, 6)
    with pytest.raises(Fail, match="too many redirects"):
        caller.call(server.url)
    assert len(server.requests) == 6


def test_a_call_may_stay_where_it_is(serve: Serve, caller: Caller) -> None:
    server = loop(serve, 1)
    with pytest.raises(Fail, match="the answer was 302 Elsewhere: elsewhere"):
        caller.call(server.url, follow_redirects=False)
    assert caller.call(server.url, follow_redirects=False, expect=[302])["headers"]["location"] == "/1"
    # One that is expected leads nowhere.
    assert caller.call(server.url, expect=[302])["status"] == 302
    assert caller.call(server.url, expect=[200])["status"] == 200


def test_a_redirect_to_no_url_fails_for_good(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: redirect("file:///etc/passwd?x"))
    with pytest.raises(Fail, match="redirected to file:///etc/passwd, but a URL must begin with http"):
        caller.call(server.url)
