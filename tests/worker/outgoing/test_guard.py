"""The guard: nothing but what is public or allowed is connected to, whatever the way there."""

import ipaddress
import socket

import pytest

from store.clock import SystemClock
from tests.worker.outgoing.conftest import NewCaller, Serve
from tests.worker.outgoing.raw_server import RawServer, answer
from worker.errors import Fail, Retry
from worker.outgoing.addresses import AllowList
from worker.outgoing.egress import Egress, resolve
from worker.outgoing.errors import BlockedAddress, CannotConnect
from worker.outgoing.leash import Leash


class Names:
    """A resolver that answers each look-up with the next answer, and counts them."""

    def __init__(self, *answers: list[str]) -> None:
        self.asked = 0
        self._answers = answers

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self._answers[min(self.asked, len(self._answers)) - 1]


def local(serve: Serve, host: str = "127.0.0.1") -> RawServer:
    return serve(lambda request: answer(b"here"), host=host)


def at(name: str, server: RawServer) -> str:
    return f"http://{name}:{server.port}/"


def test_loopback_is_refused_unless_it_is_allowed(serve: Serve, new_caller: NewCaller) -> None:
    server = local(serve)
    with pytest.raises(Fail) as caught:
        new_caller(allow=[], resolver=Names(["127.0.0.1"])).call(at("rebound.example", server))

    assert str(caught.value) == (
        "the host rebound.example has the address 127.0.0.1, which is not public, and GOFER_HTTP_ALLOW does not list it"
    )
    assert server.connections == 0


@pytest.mark.parametrize("allow", ["intern.example", "127.0.0.1", "127.0.0.0/8", "::ffff:127.0.0.0/104"])
def test_what_is_allowed_by_name_or_network_is_called(serve: Serve, new_caller: NewCaller, allow: str) -> None:
    server = local(serve)
    name = "::ffff:127.0.0.1" if ":" in allow else "127.0.0.1"
    caller = new_caller(allow=[allow], resolver=Names([name]))

    assert caller.call(at("intern.example", server))["body"] == "here"
    assert server.requests[0].headers["host"] == f"intern.example:{server.port}"


def test_an_address_of_ipv6_is_called(serve: Serve, new_caller: NewCaller) -> None:
    try:
        server = local(serve, "::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert new_caller(allow=["::1"]).call(server.url)["body"] == "here"
    assert server.requests[0].headers["host"] == f"[::1]:{server.port}"


def test_the_machines_own_names_are_looked_up(serve: Serve, new_caller: NewCaller) -> None:
    server = local(serve)
    assert new_caller(allow=["localhost"]).call(at("localhost", server))["body"] == "here"
    with pytest.raises(Fail, match="not public"):
        new_caller(allow=[]).call(at("localhost", server))


def test_a_name_that_changes_its_mind_is_judged_by_the_address_that_is_connected_to(
    serve: Serve, new_caller: NewCaller
) -> None:
    """DNS rebinding: public for the judge, private for the connection."""
    server = local(serve)
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    caller = new_caller(allow=["127.0.0.1"], resolver=names)
    url = at("rebound.example", server)

    # The second look-up would be refused: there is none while one connection serves.
    assert [caller.call(url)["body"], caller.call(url)["body"]] == ["here", "here"]
    assert (names.asked, server.connections) == (1, 1)
    caller.jobs.close()
    with pytest.raises(Fail, match=r"has the address 127\.0\.0\.2"):
        caller.call(url)
    assert names.asked == 2


def test_one_connection_takes_one_look_up(serve: Serve, new_caller: NewCaller) -> None:
    server = serve(lambda request: [answer(b"here")])
    names = Names(["127.0.0.1"])
    caller = new_caller(resolver=names)
    for _ in range(3):
        caller.call(at("some.example", server))
        server.settle()
    assert (names.asked, server.connections) == (3, 3)


def test_addresses_that_are_not_public_are_passed_over(serve: Serve, new_caller: NewCaller) -> None:
    server, other = local(serve), local(serve, "127.0.0.2")
    names = Names(["127.0.0.2", "::1", "10.0.0.1", "127.0.0.1"])

    assert new_caller(allow=["127.0.0.1"], resolver=names).call(at("some.example", server))["body"] == "here"
    assert other.connections == 0


def test_every_address_is_named_when_none_is_left(new_caller: NewCaller) -> None:
    with pytest.raises(Fail, match=r"has the address 127\.0\.0\.1, ::1, which is not public"):
        new_caller(allow=[], resolver=Names(["127.0.0.1", "::1"])).call("http://some.example/")


@pytest.mark.parametrize(
    "address",
    ["::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "0.0.0.0", "::", "169.254.169.254"],
)
def test_no_spelling_of_an_address_gets_past(new_caller: NewCaller, address: str) -> None:
    with pytest.raises(Fail, match="not public"):
        new_caller(allow=[], resolver=Names([address])).call("http://some.example/")


def test_a_redirect_is_guarded_like_the_first_request(serve: Serve, new_caller: NewCaller) -> None:
    other = local(serve, "127.0.0.2")
    server = serve(lambda request: answer(b"", f"Location: {request.headers['x-to']}", status="302 Found"))
    caller = new_caller(allow=["127.0.0.1"], resolver=lambda host, port: ["127.0.0.2"])
    numeric = int(ipaddress.IPv4Address("127.0.0.2"))
    for host in ("127.0.0.2", "some.example", str(numeric), hex(numeric), "[::ffff:127.0.0.2]"):
        with pytest.raises(Fail, match="is not public"):
            caller.call(server.url, headers={"X-To": at(host, other)})
    assert other.connections == 0


def test_the_next_address_is_tried_when_one_does_not_answer(serve: Serve, new_caller: NewCaller) -> None:
    server = local(serve)
    names = Names(["127.0.0.3", "127.0.0.1"])  # Nobody listens at the first.
    assert new_caller(allow=["127.0.0.0/8"], resolver=names).call(at("some.example", server))["body"] == "here"


def test_why_no_address_took_the_connection(new_caller: NewCaller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    caller = new_caller(allow=["127.0.0.0/8"], resolver=Names(["127.0.0.1", "127.0.0.3"]))
    with pytest.raises(Retry) as caught:
        caller.call(f"http://some.example:{port}/")
    assert str(caught.value) == (
        f"cannot connect to some.example port {port} (127.0.0.1: Connection refused; 127.0.0.3: Connection refused)"
    )


def test_a_name_that_is_not_found_is_tried_again(new_caller: NewCaller) -> None:
    def fail(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(Retry, match=r"cannot find the host no\.example: Name or service not known"):
        new_caller(resolver=fail).call("http://no.example/")
    with pytest.raises(Retry, match=r"cannot find the host no\.example: it has no address"):
        new_caller(resolver=Names([])).call("http://no.example/")


def test_the_machines_resolver_gives_addresses() -> None:
    assert "127.0.0.1" in resolve("localhost", 80)
    assert resolve("127.1", 80) == ["127.0.0.1"]


def test_a_connection_counts_only_if_it_reached_the_address_that_was_judged(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = local(serve)
    monkeypatch.setattr("worker.outgoing.sockets.LeashedSocket.getpeername", lambda self: ("10.0.0.1", 80))
    leash = Leash(SystemClock(), 5)
    with pytest.raises(CannotConnect, match=r"127.0.0.1: reached 10.0.0.1 instead"):
        Egress(AllowList.of(["127.0.0.1"])).connect("127.0.0.1", server.port, leash)
    leash.let_go()


def test_the_guard_alone_refuses_a_literal() -> None:
    with pytest.raises(BlockedAddress):
        Egress(AllowList()).connect("127.0.0.1", 80, Leash(SystemClock(), 5))
