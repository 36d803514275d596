"""Servers that misbehave: whatever they do, the attempt ends in time and says why."""

import gzip
import socket
import ssl
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat

import pytest

from tests.worker.outgoing.caller import Caller
from tests.worker.outgoing.conftest import NewCaller, Serve
from tests.worker.outgoing.raw_server import Received, answer
from worker.errors import Retry

HEAD = b"HTTP/1.1 200 OK\r\n"
#: Seconds that a call may take, and in which it must have ended.
TIMEOUT, SOON = 0.3, 5.0


def times_out(caller: Caller, url: str) -> None:
    with pytest.raises(Retry, match=r"there was no complete answer within 0\.3 s"):
        caller.call(url, timeout=TIMEOUT)


def breaks(caller: Caller, url: str, why: str) -> None:
    with pytest.raises(Retry, match=why):
        caller.call(url, timeout=SOON)


@contextmanager
def plain_server(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server for one connection that need not speak HTTP; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_headers_that_do_not_come(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: server.hang())
    times_out(caller, server.url)
    assert ": no answer in " in caller.log()[0]


def test_headers_that_drip(serve: Serve, caller: Caller) -> None:
    def script(request: Received) -> Iterable[bytes]:
        yield HEAD
        yield from server.drip(b"X")

    server = serve(script)
    times_out(caller, server.url)


def test_interim_answers_without_an_end(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: server.drip(b"HTTP/1.1 100 Continue\r\n\r\n"))
    times_out(caller, server.url)


def test_a_body_that_drips(serve: Serve, caller: Caller) -> None:
    def script(request: Received) -> Iterable[bytes]:
        yield HEAD + b"\r\n"
        yield from server.drip(b"x")

    server = serve(script)
    times_out(caller, server.url)


def test_chunks_that_drip(serve: Serve, caller: Caller) -> None:
    def script(request: Received) -> Iterable[bytes]:
        yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        yield from server.drip(b"1\r\nx\r\n")

    server = serve(script)
    times_out(caller, server.url)


def test_a_connection_that_nobody_takes(caller: Caller) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.socket() as waiting:
        waiting.connect(listener.getsockname())  # The only place in its line.
        times_out(caller, f"http://127.0.0.1:{listener.getsockname()[1]}/")


def test_a_request_that_nobody_reads(caller: Caller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises(Retry, match="no complete answer within"):
            caller.call(
                f"http://127.0.0.1:{listener.getsockname()[1]}/", method="POST", data="x" * 20_000_000, timeout=TIMEOUT
            )


def test_a_body_without_an_end_is_cut(serve: Serve, new_caller: NewCaller) -> None:
    def script(request: Received) -> Iterable[bytes]:
        yield HEAD + b"\r\n"
        while True:
            yield b"x" * 65_536

    server = serve(script)
    caller = new_caller(max_body=100_000)
    for _ in range(2):
        result = caller.call(server.url)
        assert (result["body"], result["truncated"]) == ("x" * 100_000, True)
    # What is left of it is in no later answer.
    assert server.connections == 2


def test_a_bomb_is_cut_before_it_is_unpacked(serve: Serve, new_caller: NewCaller) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b"\0" * 1_048_576) for _ in range(200)) + packer.flush()
    server = serve(lambda request: [answer(bomb, "Content-Encoding: gzip")])
    caller = new_caller(max_body=100_000)
    tracemalloc.start()
    try:
        result = caller.call(server.url)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(result["body"]), result["truncated"]) == (100_000, True)
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(b"whole", mtime=0)),
        ("X-GZIP", gzip.compress(b"who", mtime=0) + gzip.compress(b"le", mtime=0)),
        ("gzip", gzip.compress(b"whole", mtime=0) + b"what some servers leave behind it"),
        ("deflate", zlib.compress(b"whole")),
        ("deflate", zlib.compress(b"whole", wbits=-15)),
        ("identity", b"whole"),
        ("br", b"whole"),
        ("gzip, gzip", b"whole"),
    ],
)
def test_a_coded_body_is_decoded_if_the_coding_is_known(serve: Serve, caller: Caller, coding: str, body: bytes) -> None:
    server = serve(lambda request: answer(body, f"Content-Encoding: {coding}"))
    assert caller.call(server.url)["body"] == "whole"


def test_no_body_is_in_any_coding(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: answer(b"", "Content-Encoding: gzip"))
    assert caller.call(server.url)["body"] is None


def test_a_body_of_nothing_but_members_ends_soon(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: answer(gzip.compress(b"", mtime=0) * 10_000, "Content-Encoding: gzip"))
    breaks(caller, server.url, "the body has more than 1000 members")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_that_is_not_in_the_coding_it_names(serve: Serve, caller: Caller, coding: str) -> None:
    server = serve(lambda request: answer(b"this is none", f"Content-Encoding: {coding}"))
    breaks(caller, server.url, f"the body is not in the content coding {coding}")


@pytest.mark.parametrize(
    "body",
    [gzip.compress(b"whole" * 100, mtime=0)[:-9], gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0)[:12]],
)
def test_a_coded_body_that_breaks_off(serve: Serve, caller: Caller, body: bytes) -> None:
    """Only its coding tells that something is missing."""
    server = serve(lambda request: [HEAD + b"Content-Encoding: gzip\r\n\r\n" + body])
    breaks(caller, server.url, "the body breaks off in the middle of its content coding gzip")


def test_a_coded_body_that_comes_to_nothing_is_cut(serve: Serve, new_caller: NewCaller) -> None:
    """Empty blocks without an end: nothing ever comes out, and what comes in must not add up."""

    def script(request: Received) -> Iterable[bytes]:
        yield HEAD + b"Content-Encoding: deflate\r\n\r\n" + b"\x78\x9c"
        while True:
            yield b"\0\0\0\xff\xff" * 10_000

    result = new_caller(max_body=100_000).call(serve(script).url)
    assert (result["body"], result["truncated"]) == (None, True)


def test_a_body_that_breaks_off(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: [answer(b"half", length=8)])
    breaks(caller, server.url, r"the connection broke: IncompleteRead\(4 bytes read, 4 more expected\)")


def test_a_body_that_is_reset(serve: Serve, caller: Caller) -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answer(b"half", length=8))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with plain_server(reset) as port:
        breaks(caller, f"http://127.0.0.1:{port}/", "the connection broke: .*(reset|Incomplete)")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "Remote end closed connection without response"),
        (b"nonsense\r\n\r\n", "nonsense"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0"),
        (b"\x00\x01\x02", "the connection broke"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "abc"),
        (b"HTTP/1.1 200 " + b"x" * 70_000, "more than 65536 bytes"),
        (HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n", "more than 65536 bytes"),
        (HEAD + b"X: y\r\n" * 200 + b"\r\n", "more than 100 headers"),
        (HEAD + (b"X: " + b"x" * 60_000 + b"\r\n") * 2 + b"\r\n", "more than 65536 characters of headers"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "multiple unmatching values"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", "the connection broke"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nwhole", "the connection broke"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 70_000, "the connection broke"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx", "the connection broke"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-2\r\nwhole\r\n0\r\n\r\n", "the connection broke"),
        (HEAD + b"Content-Encoding: gzip, gzip, gzip, gzip, gzip, gzip\r\n\r\nx", "Too many content encodings"),
    ],
)
def test_an_answer_that_is_none(serve: Serve, caller: Caller, said: bytes, why: str) -> None:
    breaks(caller, serve(lambda request: [said]).url, why)


def test_a_chunk_of_less_than_nothing_is_not_read_without_an_end(serve: Serve, caller: Caller) -> None:
    """Python's own reading takes -1 bytes for all that ever come."""

    def script(request: Received) -> Iterable[bytes]:
        yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"
        for _ in range(256):
            yield b"x" * 65_536

    server = serve(script)
    tracemalloc.start()
    try:
        breaks(caller, server.url, "the connection broke")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_that_has_no_body_whatever_its_headers_say(serve: Serve, caller: Caller, status: str) -> None:
    said = f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    server = serve(lambda request: said)
    for _ in range(2):
        result = caller.call(server.url, expect=[int(status[:3])], timeout=SOON)
        assert (result["body"], result["truncated"]) == (None, False)
    assert server.connections == 1


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints"])
def test_an_interim_answer_is_not_the_answer(serve: Serve, caller: Caller, status: str) -> None:
    interim = f"HTTP/1.1 {status}\r\nLink: </style.css>; rel=preload\r\n\r\n".encode()
    server = serve(lambda request: interim + interim + answer(b"whole"))
    for _ in range(2):
        result = caller.call(server.url)
        assert (result["status"], result["body"]) == (200, "whole")
        assert "link" not in result["headers"]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("begun", "goes_on"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 60_000 + b"\r\n\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 60_000 + b"\r\nx\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: " + b"x" * 60_000 + b"\r\n"),
    ],
    ids=["interim answers", "chunk extensions", "trailers"],
)
def test_what_surrounds_a_body_does_not_go_on_without_an_end(
    serve: Serve, caller: Caller, begun: bytes, goes_on: bytes
) -> None:
    server = serve(lambda request: chain([begun], repeat(goes_on)))
    with pytest.raises(Retry, match="the answer is no answer after 67108864 bytes"):
        caller.call(server.url)


def test_headers_that_are_odd_do_no_harm(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: [HEAD + b"A: \xff\x00\x1b[31m\r\nno header at all\r\nB: 1\r\n\r\nbody"])
    assert caller.call(server.url)["status"] == 200


def test_a_failed_connection_is_not_used_again(serve: Serve, caller: Caller) -> None:
    server = serve(lambda request: [answer(b"x", length=2)] if request.connection == 1 else answer(b"whole"))
    breaks(caller, server.url, "the connection broke")
    assert caller.call(server.url)["body"] == "whole"


def test_a_certificate_that_is_not_trusted(serve: Serve, caller: Caller, server_tls: ssl.SSLContext) -> None:
    server = serve(lambda request: answer(), tls=server_tls)
    breaks(caller, server.url, r"certificate verify failed: self.signed certificate")
    assert server.requests == []


def test_a_certificate_for_another_name(
    serve: Serve, new_caller: NewCaller, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server = serve(lambda request: answer(), tls=server_tls)
    caller = new_caller(tls=client_tls, allow=["other.example"], resolver=lambda host, port: ["127.0.0.1"])
    breaks(caller, f"https://other.example:{server.port}/", "certificate verify failed: Hostname mismatch")


def test_an_encrypted_call(
    serve: Serve, new_caller: NewCaller, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server = serve(lambda request: answer(b"x" * 100_000), tls=server_tls)
    caller = new_caller(tls=client_tls)
    for _ in range(2):
        assert caller.call(f"https://localhost:{server.port}/", method="POST", data="y" * 100_000)["status"] == 200
    assert server.connections == 1


def test_an_encrypted_body_that_drips(
    serve: Serve, new_caller: NewCaller, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    def script(request: Received) -> Iterable[bytes]:
        yield HEAD + b"\r\n"
        yield from server.drip(b"x")

    server = serve(script, tls=server_tls)
    times_out(new_caller(tls=client_tls), server.url)


def test_a_handshake_that_drips(serve: Serve, caller: Caller) -> None:
    """The first record of a handshake, byte by byte: each resets a time limit that is one."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        for byte in b"\x16\x03\x03\x40\x00" + b"\x02" * 0x4000:
            if over.wait(0.02):
                return
            connection.send(bytes([byte]))

    with plain_server(drip) as port:
        times_out(caller, f"https://127.0.0.1:{port}/")
        over.set()


def test_plain_text_where_tls_is_due(caller: Caller) -> None:
    with plain_server(lambda connection: connection.sendall(answer(status="400 Bad"))) as port:
        breaks(caller, f"https://127.0.0.1:{port}/", "SSL")
