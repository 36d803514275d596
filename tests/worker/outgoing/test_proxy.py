"""Calls through a proxy that the operator has set."""

import os
import select
import socket
import ssl
import threading

import pytest

from tests.worker.outgoing.conftest import NewCaller, Serve
from tests.worker.outgoing.raw_server import RawServer, answer
from worker.errors import InvalidPayload, Retry
from worker.outgoing.connections import check_proxy


class Tunnel:
    """A proxy that takes one CONNECT and hands on bytes between its client and one server."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Tunnel":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            client.recv(65_536)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                ready, _, _ = select.select([client, server, self._listener], [], [])
                if self._listener in ready:
                    return
                for source, sink in ((client, server), (server, client)):
                    if source in ready:
                        sink.sendall(source.recv(65_536))


def proxy(serve: Serve) -> RawServer:
    return serve(lambda request: answer(b"by proxy"))


def test_a_call_goes_to_the_proxy_which_resolves_the_name(serve: Serve, new_caller: NewCaller) -> None:
    server = proxy(serve)
    caller = new_caller(allow=[], proxy=f"http://me:se%40cret@127.0.0.1:{server.port}")

    assert caller.call("http://some.example/a?b")["body"] == "by proxy"
    request = server.requests[0]
    assert request.target == "http://some.example/a?b"
    assert request.headers["host"] == "some.example"
    assert request.headers["proxy-authorization"] == "Basic bWU6c2VAY3JldA=="


def test_an_encrypted_call_goes_through_a_tunnel(serve: Serve, new_caller: NewCaller) -> None:
    server = serve(lambda request: [b"HTTP/1.1 403 No\r\n\r\n"])
    with pytest.raises(Retry, match="Tunnel connection failed: 403 No"):
        new_caller(allow=[], proxy=f"http://127.0.0.1:{server.port}").call("https://some.example/")
    assert (server.requests[0].method, server.requests[0].target) == ("CONNECT", "some.example:443")
    assert "gofer-job-id" not in server.requests[0].headers


def test_an_encrypted_call_is_encrypted_for_its_target(
    serve: Serve, new_caller: NewCaller, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server = serve(lambda request: answer(b"behind"), tls=server_tls)
    with Tunnel(server.port) as tunnel:
        caller = new_caller(proxy=f"http://127.0.0.1:{tunnel.port}", tls=client_tls)
        assert [caller.call("https://localhost/")["body"] for _ in range(2)] == ["behind"] * 2
    assert server.connections == 1


def test_a_literal_address_is_judged_all_the_same(serve: Serve, new_caller: NewCaller) -> None:
    server = proxy(serve)
    caller = new_caller(allow=[], proxy=f"http://127.0.0.1:{server.port}")
    for host in ("127.0.0.1", "127.1", "[::1]", "169.254.169.254", f"127.0.0.1:{server.port}"):
        with pytest.raises(InvalidPayload, match="not public"):
            caller.call(f"http://{host}/")
    assert server.requests == []


def test_no_proxy_is_taken_from_the_environment(
    serve: Serve, new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    bystander, server = proxy(serve), serve(lambda request: answer(b"direct"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, bystander.url)
    assert os.environ["http_proxy"]
    assert new_caller().call(server.url)["body"] == "direct"
    assert bystander.requests == []


@pytest.mark.parametrize(
    "text",
    [
        "proxy.example:3128",
        "https://proxy.example",
        "socks5://proxy.example",
        "http://",
        "http://a:0",
        "http://a/b",
        "http://a,b",
        "http://€:x@a",
    ],
)
def test_a_proxy_that_cannot_be_used(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be the URL of a proxy, such as http://proxy.example:3128"):
        check_proxy(text)


@pytest.mark.parametrize("text", ["http://proxy.example.", "http://me:x@10.0.0.1:3128/", "http://[::1]:3128"])
def test_a_proxy_that_can(text: str) -> None:
    check_proxy(text)
