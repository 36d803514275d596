"""What an ``http`` job sends, and what it makes of the answer."""

import email.utils
import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from tests.fake_clock import START, FakeClock
from tests.worker.outgoing.caller import JOB_ID, Caller
from tests.worker.outgoing.conftest import NewCaller, Serve
from tests.worker.outgoing.raw_server import RawServer, Received, answer
from worker.errors import Fail, Retry
from worker.results import MAX_RESULT_BYTES, encode_result

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def bare(caller: Caller, result: object) -> str | bytes:
    shown = caller.jobs.spec.bare(msgspec.Raw(msgspec.json.encode(result)))
    return shown if isinstance(shown, str) else bytes(shown)


def test_the_result_tells_all_of_the_answer(serve: Serve, caller: Caller) -> None:
    server = serve(
        lambda request: answer(b'{"a": [1, 2.5, null]}', "Content-Type: application/json", "X-A: 1", "x-a: 2")
    )

    result = caller.call(server.url + "/path?token=secret")

    assert list(result) == ["status", "headers", "body", "truncated", "duration"]
    assert result["status"] == 200
    assert result["headers"] == {"content-length": "21", "content-type": "application/json", "x-a": "1, 2"}
    assert result["body"] == {"a": [1, 2.5, None]}
    assert result["truncated"] is False
    assert 0 < result["duration"] < 5
    assert server.requests[0].target == "/path?token=secret"


def test_it_says_who_calls_and_why(serve: Serve, new_caller: NewCaller) -> None:
    server = serve(lambda request: answer())
    new_caller(traceparent=TRACEPARENT).call(server.url)
    new_caller().call(server.url, headers={"idempotency-key": "mine", "User-Agent": "me", "Accept": "text/csv"})

    first, second = (request.headers for request in server.requests)
    assert first == {
        "host": f"127.0.0.1:{server.port}",
        "accept-encoding": "identity",
        "user-agent": "gofer/test",
        "idempotency-key": JOB_ID,
        "gofer-job-id": JOB_ID,
        "gofer-attempt": "1",
        "traceparent": TRACEPARENT,
    }
    assert (second["idempotency-key"], second["user-agent"], second["accept"]) == ("mine", "me", "text/csv")
    assert second["gofer-job-id"] == JOB_ID
    assert "traceparent" not in second


def test_a_body_goes_out_as_json_and_data_as_text(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: answer())
    caller.call(server.url, method="POST", body={"a": "ü"})
    caller.call(server.url, method="PUT", body=None)
    caller.call(server.url, method="PATCH", data="grüße")
    caller.call(server.url, method="POST", data="a=b", headers={"content-type": "application/x-www-form-urlencoded"})
    caller.call(server.url, method="POST")

    sent = [(each.method, each.body.decode(), each.headers.get("content-type")) for each in server.requests]
    assert sent == [
        ("POST", '{"a":"ü"}', "application/json"),
        ("PUT", "null", "application/json"),
        ("PATCH", "grüße", "text/plain; charset=utf-8"),
        ("POST", "a=b", "application/x-www-form-urlencoded"),
        ("POST", "", None),
    ]
    assert server.requests[-1].headers["content-length"] == "0"


@pytest.mark.parametrize(
    ("content_type", "sent", "body"),
    [
        ("application/json", b'"text"', "text"),
        ("application/problem+json; charset=utf-8", b"[1]", [1]),
        ("application/json", b"\xef\xbb\xbf{}", {}),
        ("application/json", b"{", "{"),
        ("application/json", b"NaN", "NaN"),
        ("application/json", b'"\xff"', '"\N{REPLACEMENT CHARACTER}"'),
        ("application/json", b"[" * 100_000, "[" * 100_000),
        ("application/json", b"[" * 65 + b"]" * 65, "[" * 65 + "]" * 65),
        ("text/html", b'{"a": 1}', '{"a": 1}'),
        ("text/html; charset=ISO-8859-1", b"gr\xfc\xdfe", "grüße"),
        ('text/html; charset="utf-16-le"', "grüße".encode("utf-16-le"), "grüße"),
        ('text/html; charset="utf-16"', "grüße".encode("utf-16"), "grüße"),
        ("text/html; charset=utf-16", b"abc", "abc"),
        ("text/html; charset=utf-32", b"abcd", "abcd"),
        ("text/html; charset=nonsense", "grüße".encode(), "grüße"),
        ("text/html; charset=rot13", b"abc", "abc"),
        ("text/html; charset=zlib", b"abc", "abc"),
        ("text/html; charset=punycode", b"abc-", "abc-"),
        ("text/html", b"gr\xfc\xdfe", "gr\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}e"),
        ("image/png", b"\x89PNG\0", "\N{REPLACEMENT CHARACTER}PNG\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_body_is_json_if_it_is_called_so_and_is_and_text_else(
    serve: Serve, caller: Caller, content_type: str, sent: bytes, body: object
) -> None:
    server = serve(lambda request: answer(sent, f"Content-Type: {content_type}"))
    result = caller.call(server.url)
    assert result["body"] == body
    encode_result(result, MAX_RESULT_BYTES)


def test_no_body_is_null(serve: Serve, caller: Caller) -> None:
    server = serve(
        lambda request: answer(b"", "Content-Type: application/json", length=5 if request.method == "HEAD" else 0)
    )

    assert caller.call(server.url)["body"] is None
    head = caller.call(server.url, method="HEAD")
    assert (head["body"], head["headers"]["content-length"]) == (None, "5")
    assert server.connections == 1


def test_the_bare_result_is_the_body(serve: Serve, caller: Caller) -> None:
    said = iter(
        [(b"a\n", "text/plain"), (b'{"a":1}', "application/json"), (b'"a"', "application/json"), (b"", "text/plain")]
    )

    def script(request: object) -> bytes:
        body, content_type = next(said)
        return answer(body, f"Content-Type: {content_type}")

    server = serve(script)
    assert [bare(caller, caller.call(server.url)) for _ in range(4)] == ["a\n", b'{"a":1}', "a", ""]


def test_a_long_body_is_cut_and_marked(serve: Serve, new_caller: NewCaller) -> None:
    server = serve(lambda request: answer(request.target[1:].encode()))
    caller = new_caller(max_body=4)

    whole, cut = caller.call(server.url + "/1234"), caller.call(server.url + "/12345")
    assert (whole["body"], whole["truncated"]) == ("1234", False)
    assert (cut["body"], cut["truncated"]) == ("1234", True)


def test_a_cut_in_the_middle_of_a_character_leaves_no_half_of_it(serve: Serve, new_caller: NewCaller) -> None:
    server = serve(lambda request: answer("abü".encode() + b"c"))
    assert new_caller(max_body=3).call(server.url)["body"] == "ab"


def test_cut_json_is_text(serve: Serve, new_caller: NewCaller) -> None:
    server = serve(lambda request: answer(b"12345", "Content-Type: application/json"))
    assert new_caller(max_body=4).call(server.url)["body"] == "1234"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\x01" * 400_000, "text/plain"),
        ("\N{SMILING FACE WITH OPEN MOUTH}".encode() * 250_000 + b"\x01" * 40_000, "text/plain"),
        (b"[" + b"1e15," * 100_000 + b"1]", "application/json"),
    ],
)
def test_a_body_that_grows_as_json_is_cut_to_what_a_result_may_be(
    serve: Serve, new_caller: NewCaller, body: bytes, content_type: str
) -> None:
    server = serve(lambda request: answer(body, f"Content-Type: {content_type}"))

    result = new_caller(max_body=1_048_576).call(server.url)

    encoded = encode_result(result, MAX_RESULT_BYTES)
    assert result["truncated"] is (len(result["body"]) < len(body.decode()))
    assert len(bytes(encoded)) > 500_000


def test_a_call_is_in_the_log_without_its_query(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: answer())
    caller.call(server.url + "/a?secret#b")

    [line] = caller.log()
    assert re.fullmatch(rf"GET {server.url}/a: 200 in [0-9]+\.[0-9]{{3}} s", line)


def failing(serve: Serve, status: str, *headers: str, body: bytes = b"what is wrong") -> RawServer:
    return serve(lambda request: answer(body, *headers, status=status))


@pytest.mark.parametrize(
    "status",
    ["408 Request Timeout", "425 Too Early", "429 Too Many Requests", "500 Oops", "503 Service Unavailable", "599 X"],
)
def test_what_may_pass_is_tried_again(serve: Serve, caller: Caller, status: str) -> None:
    with pytest.raises(Retry) as caught:
        caller.call(failing(serve, status).url)
    assert str(caught.value) == f"the answer was {status}: what is wrong"
    assert caught.value.after is None


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "410 Gone", "304 Not Modified", "999 ", "600 "])
def test_any_other_status_fails_for_good(serve: Serve, caller: Caller, status: str) -> None:
    with pytest.raises(Fail, match=f"the answer was {status.strip()}"):
        caller.call(failing(serve, status, body=b"").url)


def test_a_message_shows_the_beginning_of_the_body(serve: Serve, caller: Caller) -> None:
    with pytest.raises(Fail) as caught:
        caller.call(failing(serve, "400 Bad", body=b"x" * 501).url)
    assert str(caught.value) == "the answer was 400 Bad: " + "x" * 500


def test_what_is_expected_is_a_success_and_nothing_else(serve: Serve, caller: Caller) -> None:
    assert caller.call(failing(serve, "503 Busy").url, expect=[404, 503])["status"] == 503
    with pytest.raises(Fail, match="the answer was 200 OK"):
        caller.call(serve(lambda request: answer()).url, expect=[404, 503])


@pytest.mark.parametrize(
    ("header", "after"),
    [
        ("120", 120.0),
        ("99999999", 7 * 86_400.0),
        ("9" * 5000, None),
        ("0", None),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        (email.utils.format_datetime(START + timedelta(seconds=90), usegmt=True), 90.0),
        ((START + timedelta(seconds=90)).strftime("%A, %d-%b-%y %H:%M:%S GMT"), 90.0),
        ((START + timedelta(seconds=90)).ctime(), 90.0),
        (email.utils.format_datetime(START - timedelta(seconds=90), usegmt=True), None),
        (email.utils.format_datetime(datetime(9000, 1, 1, tzinfo=UTC), usegmt=True), 7 * 86_400.0),
    ],
)
def test_a_server_may_say_when_to_come_back(
    serve: Serve, new_caller: NewCaller, header: str, after: float | None
) -> None:
    with pytest.raises(Retry) as caught:
        new_caller(clock=FakeClock()).call(failing(serve, "429 Slow Down", f"Retry-After: {header}").url)
    assert caught.value.after == after


def test_connections_are_used_again(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: answer(b"x" * 100_000, status="404 No" if request.target == "/no" else "200 OK"))
    for _ in range(3):
        caller.call(server.url)
    with pytest.raises(Fail):
        caller.call(server.url + "/no")
    caller.call(server.url, method="POST", body=1)

    assert server.connections == 1


def test_a_connection_that_the_server_has_closed_is_not_used_again(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: [answer(b"whole")])
    for _ in range(3):
        assert caller.call(server.url, method="POST")["body"] == "whole"
        server.settle()
    assert server.connections == 3


def closing_at_the_second(serve: Serve) -> RawServer:
    """A server that closes a connection just when its second request comes."""
    answered: set[int] = set()

    def script(request: Received) -> bytes | list[bytes]:
        if request.connection in answered:
            return []
        answered.add(request.connection)
        return answer(b"whole")

    return serve(script)


def test_a_kept_connection_that_is_closed_just_then_costs_no_attempt(serve: Serve, caller: Caller) -> None:
    server = closing_at_the_second(serve)
    assert [caller.call(server.url)["body"] for _ in range(2)] == ["whole"] * 2
    assert (len(server.requests), server.connections) == (3, 2)


def test_what_may_not_be_asked_twice_is_not(serve: Serve, caller: Caller) -> None:
    server = closing_at_the_second(serve)
    caller.call(server.url, method="POST")
    with pytest.raises(Retry, match="the connection broke: Remote end closed connection without response"):
        caller.call(server.url, method="POST")
    assert len(server.requests) == 2


def test_a_new_connection_that_is_closed_is_not_tried_again(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: [])
    with pytest.raises(Retry, match="the connection broke"):
        caller.call(server.url)
    assert len(server.requests) == 1


def test_an_answer_that_nobody_asked_for_answers_no_later_request(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: answer(b"mine") + answer(b"forged"))
    assert [caller.call(server.url)["body"] for _ in range(2)] == ["mine", "mine"]
