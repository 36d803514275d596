"""Which IP addresses are public, and which others the operator allows."""

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: What an IPv4 address looks like to a socket that speaks both (RFC 4291).
_MAPPED = IPv6Network("::ffff:0:0/96")
#: IPv6 networks whose addresses stand for an IPv4 address, and how many bits follow that in them.
_WRAPPERS: tuple[tuple[IPv6Network, int], ...] = (
    (_MAPPED, 0),
    (IPv6Network("::/96"), 0),  # compatible (RFC 4291), long out of use but routed by tunnels
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated (RFC 2765)
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64 (RFC 6052)
    (IPv6Network("2002::/16"), 80),  # 6to4 (RFC 3056)
)

#: What ``is_global`` takes for public in some version of Python, or what is public in name only.
_NOT_PUBLIC: tuple[Network, ...] = (
    IPv4Network("168.63.129.16/32"),  # the services of a machine's host at Azure, from inside a public range
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv6Network("64:ff9b:1::/48"),  # NAT64 of a site: where in it the IPv4 address stands is the site's own affair
    IPv6Network("2001::/23"),  # protocol assignments; Teredo, which wraps the IPv4 address of a client, among them
    IPv6Network("3fff::/20"),  # documentation
    IPv6Network("5f00::/16"),  # segment routing
    IPv6Network("fec0::/10"),  # site-local
)

#: A host's name as a client may write it, a dot at its end included.
HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")
#: What ``inet_aton`` could read: parts of digits, some of them in base 8 or 16.
_NUMBERS = re.compile(r"[0-9A-Fa-fxX]+(?:\.[0-9A-Fa-fxX]+){0,3}")


def is_public(address: Address) -> bool:
    """Whether an address, and each one that it stands for, is one of the public internet.

    Not public are also multicast, reserved and unspecified addresses, and the address at which
    Azure serves secrets to its machines.
    """
    return all(_is_public(meant) for meant in meanings(address))


def _is_public(address: Address) -> bool:
    if any(address in network for network in _NOT_PUBLIC):
        return False
    if address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback:
        return False
    return address.is_global and not address.is_private and not address.is_link_local


def meanings(address: Address) -> Iterator[Address]:
    """The address itself, unless it only stands for an IPv4 address: then that one."""
    for network, following in _WRAPPERS:
        if address in network:
            yield IPv4Address(int(address) >> following & 0xFFFF_FFFF)
            return
    yield address


def named_network(text: str) -> Network:
    """The network, or the one address, that ``text`` names; the IPv4 network in IPv6 clothes is the one in them.

    Raises ValueError.
    """
    named = ipaddress.ip_network(text)
    if isinstance(named, IPv6Network) and named.subnet_of(_MAPPED):
        return IPv4Network((int(named.network_address) & 0xFFFF_FFFF, named.prefixlen - _MAPPED.prefixlen))
    return named


def literal(host: str) -> Address | None:
    """The address that a host is written as; None for a name.

    Also in the old ways, such as ``127.1``, ``0x7f000001`` and ``2130706433``, which resolvers understand.
    """
    bare = host.removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(bare)) if _NUMBERS.fullmatch(bare) else None
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class AllowList:
    """Hosts and networks that calls may go to though they are not public."""

    #: Names, in lower case and without a dot at the end.
    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[str]) -> "AllowList":
        """From names of hosts, IP addresses and networks (CIDR). Raises ValueError for anything else."""
        hosts: set[str] = set()
        networks: list[Network] = []
        for entry in entries:
            try:
                networks.append(named_network(entry))
            except ValueError:
                if "/" in entry or not HOST_NAME.fullmatch(entry):
                    raise ValueError(
                        f"must be names of hosts, IP addresses or networks such as 10.0.0.0/8, not {entry!r}"
                    ) from None
                hosts.add(_canonical(entry))
        return cls(frozenset(hosts), tuple(networks))

    def permits(self, host: str, address: Address) -> bool:
        """Whether a call to ``host`` may go to ``address``: a name allows whatever it resolves to."""
        if _canonical(host) in self.hosts:
            return True
        return any(either in network for network in self.networks for either in (address, *meanings(address)))


def _canonical(host: str) -> str:
    return host.lower().removesuffix(".")
