"""Which hosts are this machine itself."""

import pytest

from app.loopback import is_loopback, is_loopback_authority


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.255.255.254", "127.1", "0x7f.1", "2130706433", "::1", "[::1]", "0:0:0:0:0:0:0:1"),
        *("::ffff:127.0.0.1", "::ffff:7f00:1", "localhost", "LOCALHOST", "localhost.", "a.b.localhost"),
    ],
)
def test_a_host_that_is_this_machine_itself(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", ".", "0.0.0.0", "128.0.0.1", "::", "::ffff:10.0.0.1", "::2", "fe80::1", "gofer", "localhost.example"),
        *("notlocalhost", "localhost..", "127.0.0.1.example", "127.0.0.1.nip.io", "::ffff:0:7f00:1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1"),
    ],
)
def test_a_host_that_is_or_could_be_another_one(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("text", ["localhost", "localhost:8080", "localhost:", "127.0.0.1:1", "[::1]", "[::1]:8080"])
def test_a_port_makes_no_difference(text: str) -> None:
    assert is_loopback_authority(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":8080", "evil.example", "evil.example:8080", "localhost@evil.example", "evil.example:80@localhost"),
        *("localhost:80:80", "localhost:x", "localhost:80/", "localhost evil.example", "localhost, evil.example"),
        *("[evil.example]", "[::1", "::1]:80", "[[::1]]", "\xa0localhost", "localhost\x00", "\x00.localhost:80a"),
    ],
)
def test_nothing_else_is_taken_for_it(text: str) -> None:
    assert not is_loopback_authority(text)
