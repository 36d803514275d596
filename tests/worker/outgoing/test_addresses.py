"""Which addresses are public, and which ones an operator can allow."""

import ipaddress
from itertools import chain

import pytest

from worker.outgoing.addresses import AllowList, is_public, literal, named_network


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:168.63.129.16",
        "::ffff:0:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "100::1",
        "2001::1",
        "2001:0:808:808:0:0:f7f7:f7f7",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "4000::1",
    ],
)
def test_what_is_not_of_the_public_internet(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.216.34",
        "172.32.0.1",
        "192.167.255.255",
        "2606:2800:220:1:248:1893:25c8:1946",
        "2a00:1450:4001::200e",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_what_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


def test_no_way_to_wrap_an_address_makes_it_public() -> None:
    inner = [ipaddress.IPv4Address(text) for text in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0")]
    wrapped = chain.from_iterable(
        (
            ipaddress.IPv6Address(int(address)),
            ipaddress.IPv6Address(f"::ffff:{address}"),
            ipaddress.IPv6Address(f"::ffff:0:{address}"),
            ipaddress.IPv6Address(f"64:ff9b::{address}"),
            ipaddress.IPv6Address(0x2002 << 112 | int(address) << 80 | 1),
            ipaddress.IPv6Address(0x20010000 << 96 | 0x08080808 << 64 | int(address) ^ 0xFFFFFFFF),
        )
        for address in inner
    )

    assert [address for address in wrapped if is_public(address)] == []


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0x7F000001", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("[::ffff:7f00:1]", "::ffff:127.0.0.1"),
    ],
)
def test_an_address_is_one_in_every_spelling(host: str, address: str) -> None:
    assert literal(host) == ipaddress.ip_address(address)


@pytest.mark.parametrize("host", ["example.com", "localhost", "dead.beef", "256.256.256.256", "1.2.3.4.5", "face", "x"])
def test_a_name_is_no_address(host: str) -> None:
    assert literal(host) is None


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("64:ff9b::/96", "64:ff9b::/96"),
    ],
)
def test_a_network_of_ipv4_in_ipv6_clothes_is_the_one_in_them(text: str, network: str) -> None:
    assert named_network(text) == ipaddress.ip_network(network)


def permits(entries: str, host: str, address: str) -> bool:
    return AllowList.of(entries.split()).permits(host, ipaddress.ip_address(address))


def test_a_name_allows_whatever_it_resolves_to_and_no_other_name() -> None:
    assert permits("Intranet.Example", "intranet.example", "10.0.0.1")
    assert permits("intranet.example", "INTRANET.example.", "fd00::1")
    assert not permits("intranet.example", "www.intranet.example", "10.0.0.1")
    assert not permits("intranet.example", "intranet.example.org", "10.0.0.1")


def test_a_network_allows_its_addresses_whatever_the_name() -> None:
    assert permits("10.0.0.0/8", "anything", "10.255.0.1")
    assert permits("127.0.0.1", "localhost", "127.0.0.1")
    assert permits("10.0.0.0/8", "anything", "::ffff:10.0.0.1")
    assert permits("::ffff:10.0.0.0/104", "anything", "10.0.0.1")
    assert permits("fd00::/8", "anything", "fd12::1")
    assert not permits("10.0.0.0/8", "anything", "11.0.0.1")
    assert not permits("127.0.0.1", "localhost", "127.0.0.2")
    assert not permits("127.0.0.1", "localhost", "::1")


@pytest.mark.parametrize(
    "entry", ["10.0.0.1/8", "http://intranet", "*.example.com", "10.0.0.0/33", "a b", "host:80", "[::1]"]
)
def test_an_entry_that_means_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="must be names of hosts, IP addresses or networks"):
        AllowList.of([entry])
