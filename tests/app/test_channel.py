"""HTTP/1.1 on real sockets: what is ambiguous, broken or too large is refused, and said so."""

import re
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from waitress.adjustments import Adjustments  # type: ignore[import-untyped]
from waitress.buffers import BytesIOBasedBuffer as BytesBuffer  # type: ignore[import-untyped]

from app.channel import Parser
from app.chunks import Chunks
from app.server import CannotListen, HttpServer, listen
from store.clock import SystemClock
from tests.app.conversation import Conversation
from tests.fake_clock import FakeClock

LIMIT = 10_000


def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """A WSGI application that sends back what came."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))])
    return [body]


def serve(clock: Any) -> HttpServer:
    server = HttpServer(
        echo, listen("127.0.0.1", 0), clock, threads=2, max_body=LIMIT, on_death=lambda: pytest.fail("the loop died")
    )
    server.start()
    return server


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = serve(SystemClock())
    yield int(server.effective_port)
    server.stop(5)


@pytest.mark.parametrize(
    ("request_", "status", "detail"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "needs a Host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "only once"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: b\r\nauthorization: c\r\n\r\n", 400, "only once"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400, ""),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "exclude each other",
        ),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "HTTP/1.0"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "not supported"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, ""),
        (b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "Malformed"),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n", 400, "Bad URI"),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "method"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, ""),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "Content-Length"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, ""),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431, "headers are larger than 65536 bytes"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "header"),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400, "LF"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n Host: b\r\n\r\n", 400, "one line"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n", 400, "one line"),
        (b"POST / HTTP/1.1\r\nHost: a\r\n" + 2 * b"Transfer-Encoding: chunked\r\n" + b"\r\n0\r\n\r\n", 400, "once"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, "once"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\nContent-Length: 1\r\n\r\nx", 400, ""),
        # What waitress does not know for HTTP/1.1 it reads as HTTP/1.0, which has no chunks.
        (
            b"POST / HTTP/1.2\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "HTTP/1.1",
        ),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400, "HTTP/1.1"),
        (b"GET /\r\n\r\n", 400, "HTTP/1.1"),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "Host"),
        (b"GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "Host"),
        (b"GET http://a/ HTTP/1.0\r\n\r\n", 400, "Host"),
        (b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
        (b"GET \x01/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
        (b"GET //\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
    ],
)
def test_a_request_that_could_be_read_in_two_ways_is_refused(
    port: int, request_: bytes, status: int, detail: str
) -> None:
    with Conversation(port) as client:
        client.send(request_)
        reply = client.read()

        assert reply.status == reply.json["status"] == status
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert re.search(detail, reply.json["detail"])
        assert reply.headers["Connection"] == "close"
        assert client.is_over()


def test_what_stands_before_a_refused_request_is_answered_and_nothing_after_it(port: int) -> None:
    good, bad = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
    with Conversation(port) as client:
        client.send(good + bad + good)

        assert [client.read().status for _ in range(2)] == [200, 400]
        assert client.is_over()


def test_a_chunked_body_is_taken(port: int) -> None:
    with Conversation(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert client.read().body == b"abcde"


@pytest.mark.parametrize("target", [b"/", b"//a", b"/a?b=%20&c", b"http://A/", b"https://a/b?c", b"*"])
def test_whatever_else_names_what_is_asked_for_is_taken(port: int, target: bytes) -> None:
    with Conversation(port) as client:
        client.send(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read().status == 200


#: Heads on which waitress's patterns take from a second to minutes.
LABORIOUS = {
    "target in two": b"GET a://" + b"1" * 4000 + b" x HTTP/1.1\r\nHost: a\r\n\r\n",
    "target in two of a head that is too large": b"GET a://" + b"1" * 4000 + b" x HTTP/1.1\r\nX: " + b"x" * 70_000,
    "padding": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b" " * 30_000 + b"x\r\n\r\n",
    "padding of tabs": b"GET / HTTP/1.1\r\nHost: a\r\nX:" + b"\t" * 30_000 + b"\0\r\n\r\n",
    "padding on the next line": b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n" + b" " * 30_000 + b"x\r\n\r\n",
}


@pytest.mark.parametrize("way", LABORIOUS)
def test_no_head_takes_long_to_be_read(way: str) -> None:
    """Measured in this thread's time, which others do not lengthen: some 2 ms, or more than a second."""
    parser = Parser(Adjustments(max_request_header_size=65_536), 0.0, lambda _: False)
    before = time.thread_time()
    parser.received(LABORIOUS[way])

    assert parser.error.code in (400, 431)
    assert time.thread_time() - before < 0.5


@pytest.mark.parametrize("way", ["target in two", "padding"])
def test_and_it_is_refused_as_malformed(port: int, way: str) -> None:
    with Conversation(port) as client:
        client.send(LABORIOUS[way])
        assert client.read().status == 400
        assert client.is_over()


def test_a_header_may_be_padded_a_little(port: int) -> None:
    with Conversation(port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost:" + b" " * 99 + b"a" + b" " * 1000 + b"\r\n\r\n")
        assert client.read().status == 200


#: Bodies that could end elsewhere for another reader.
AMBIGUOUS_CHUNKS = [
    b"3\n\r\nabc\r\n0\r\n\r\n",
    b"3\nabc\r\n0\r\n\r\n",
    b"3;a\n\r\nabc\r\n0\r\n\r\n",
    b"3\r\r\nabc\r\n0\r\n\r\n",
    b"\r\n3\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabc\n0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"3\r\nabc\r\n\r\n0\r\n\r\n",
    b"3\r\nabc\r\n0\n\r\n\r\n",
    b"3\r\nabc\r\n0\r\n\n",
    b"3\r\nabc\r\n0\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"3 \r\nabc\r\n0\r\n\r\n",
    b"-3\r\nabc\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("piece", [1, 1000], ids=["byte by byte", "at once"])
@pytest.mark.parametrize("chunks", AMBIGUOUS_CHUNKS)
def test_chunks_that_could_be_read_in_two_ways_are_refused(chunks: bytes, piece: int) -> None:
    body = Chunks(BytesBuffer())
    for begin in range(0, len(chunks), piece):
        body.received(chunks[begin : begin + piece])

    assert body.error.code == 400


@pytest.mark.parametrize("chunks", AMBIGUOUS_CHUNKS)
def test_and_nothing_after_them_is_answered(port: int, chunks: bytes) -> None:
    with Conversation(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        reply = client.read()

        assert (reply.status, reply.headers["Connection"]) == (400, "close")
        assert client.is_over()


@pytest.mark.parametrize("piece", [1, 2, 3, 1000])
def test_chunks_are_put_together_however_they_come(piece: int) -> None:
    buffer = BytesBuffer()
    body = Chunks(buffer)
    sent = b"3;name=value\r\na\nb\r\n00C\r\n\r\n0\r\n\r\nabcde\r\n000\r\n\r\n"
    taken = sum(body.received(sent[begin : begin + piece]) for begin in range(0, len(sent), piece))

    assert (body.completed, body.error) == (True, None)
    assert buffer.get() == b"a\nb\r\n0\r\n\r\nabcde"
    assert taken == len(sent)
    assert body.received(b"GET") == 0


@pytest.mark.parametrize("before", [b"", b"3;name=", b"3\r\nabc\r\n", b"0\r\n", b"0\r\nName: "])
def test_a_line_of_chunks_that_does_not_end_is_refused_and_not_kept(before: bytes) -> None:
    body = Chunks(BytesBuffer())
    body.received(before)
    for _ in range(100):
        body.received(b"1" * 1000)

    assert body.error.body == "A line of a chunked body is too long"
    assert len(body.control_line + body.trailer) < 2000


def test_who_sends_one_all_the_same_gets_that_answer(port: int) -> None:
    with Conversation(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;")
        client.send(b"x" * 15_000_000)

        assert client.read().status == 400


def test_many_chunks_with_extensions_are_taken() -> None:
    body = Chunks(BytesBuffer())
    body.received(b"1;name=value\r\nx\r\n" * 1000 + b"0\r\n\r\n")

    assert (body.completed, len(body)) == (True, 1000)


def test_what_follows_the_last_chunk_is_the_next_request() -> None:
    assert Chunks(BytesBuffer()).received(b"0\r\n\r\nGET /") == 5


def test_an_answer_to_head_has_no_body_when_it_is_a_refusal(port: int) -> None:
    with Conversation(port) as client:
        client.send(b"HEAD / HTTP/1.1\r\n\r\n")
        reply = client.read(has_body=False)

        assert reply.status == 400
        assert client.is_over()


def test_a_client_that_sends_too_much_without_a_look_at_the_answer_still_gets_it(port: int) -> None:
    body = b"x" * 5_000_000
    with Conversation(port) as client:
        reply = client.ask("POST", "/", body)

        assert reply.status == reply.json["status"] == 413
        assert reply.json["detail"] == "the body is larger than 10000 bytes"


def test_too_many_chunks_are_refused_at_their_end(port: int) -> None:
    with Conversation(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):
            client.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        client.send(b"0\r\n\r\n")

        assert client.read().status == 413


def test_a_client_that_asks_first_is_refused_before_it_sends_the_body(port: int) -> None:
    with Conversation(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\nExpect: 100-continue\r\n\r\n")
        assert client.read().status == 413


def test_a_client_that_asks_first_gets_leave(port: int) -> None:
    with Conversation(port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ok")
        assert client.read().body == b"ok"


def test_requests_on_one_connection_are_answered_in_order(port: int) -> None:
    with Conversation(port) as client:
        client.send(b"".join(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n%d" % n for n in range(5)))
        assert [client.read().body for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_no_server_header_tells_what_runs_here(port: int) -> None:
    with Conversation(port) as client:
        assert "Server" not in client.ask("GET", "/").headers


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab"])
def test_a_connection_on_which_nothing_happens_is_closed(start: bytes) -> None:
    clock = FakeClock()
    server = serve(clock)
    with Conversation(int(server.effective_port)) as client, Conversation(int(server.effective_port)) as other:
        client.send(start)
        other.ask("GET", "/")  # the loop has read what came before
        clock.jump(-7200)
        clock.advance(130)
        server.pull_trigger()

        assert client.is_over()
    server.stop(5)


def test_a_request_that_dribbles_in_is_cut_off_although_it_is_never_idle() -> None:
    clock = FakeClock()
    server = serve(clock)
    with Conversation(int(server.effective_port)) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        with Conversation(int(server.effective_port)) as other:
            for _ in range(3):
                other.ask("GET", "/")
                clock.advance(50)
                client.send(b"x")

        assert client.is_over()
    server.stop(5)


def test_a_jump_of_the_wall_clock_closes_nothing() -> None:
    clock = FakeClock()
    server = serve(clock)
    with Conversation(int(server.effective_port)) as client:
        client.ask("GET", "/")
        clock.jump(7200)
        clock.advance(6)
        server.pull_trigger()

        assert client.ask("GET", "/").status == 200
    server.stop(5)


def test_a_busy_port_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CannotListen, match="Address already in use"):
        listen("127.0.0.1", taken.getsockname()[1])
