"""The guard: every connection goes to an address that was judged, and to no other."""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence

from worker.outgoing.addresses import Address, AllowList, is_public, literal
from worker.outgoing.errors import BlockedAddress, CannotConnect
from worker.outgoing.leash import Leash
from worker.outgoing.sockets import LeashedSocket

#: From a host and a port to IP addresses as text; raises OSError.
Resolver = Callable[[str, int], Iterable[str]]


def resolve(host: str, port: int) -> list[str]:
    """Ask the machine's resolver."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Egress:
    """Opens connections to what is public or allowed. Safe to use from any thread."""

    def __init__(self, allowed: AllowList, resolver: Resolver = resolve) -> None:
        self._allowed = allowed
        self._resolver = resolver

    def check_host(self, host: str) -> None:
        """Raise BlockedAddress for a host that is written as an address that no call may go to."""
        address = literal(host)
        if address is not None and not self._permits(host, address):
            raise BlockedAddress(host, [address])

    def connect(self, host: str, port: int, leash: Leash) -> LeashedSocket:
        """Connect to the first address of the host that may be connected to, and answers.

        The name is looked up once, and the addresses that were judged are those that are connected to:
        a name server that answers otherwise the next time (DNS rebinding) gains nothing.

        Raises BlockedAddress, CannotConnect, or like ``Leash.check``.
        """
        leash.check()  # A look-up takes the time that it takes, and cannot be ended.
        addresses = self._look_up(host, port)
        leash.check()
        permitted = [address for address in addresses if self._permits(host, address)]
        if not permitted:
            raise BlockedAddress(host, addresses)
        failures = []
        for number, address in enumerate(permitted):
            # A share each, so that one that never answers does not use up the time of the others.
            patience = leash.remaining() / (len(permitted) - number)
            try:
                return _connected(address, port, patience, leash)
            except OSError as error:
                failures.append(f"{address}: {error.strerror or error}")
        leash.check()
        raise CannotConnect(f"cannot connect to {host} port {port} ({'; '.join(failures)})")

    def _permits(self, host: str, address: Address) -> bool:
        return is_public(address) or self._allowed.permits(host, address)

    def _look_up(self, host: str, port: int) -> Sequence[Address]:
        try:
            found = dict.fromkeys(ipaddress.ip_address(text) for text in self._resolver(host, port))
        except (OSError, ValueError) as error:  # ValueError: not even the form of a name
            why = error.strerror if isinstance(error, OSError) else None
            raise CannotConnect(f"cannot find the host {host}: {why or error}") from error
        if not found:
            raise CannotConnect(f"cannot find the host {host}: it has no address")
        return list(found)


def _connected(address: Address, port: int, patience: float, leash: Leash) -> LeashedSocket:
    sock = LeashedSocket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.leash = leash
        leash.hold(sock)
        sock.settimeout(patience)
        sock.connect((str(address), port))
        # Whatever stands between us and the network, this is the one that was judged.
        reached = sock.getpeername()[0]
        if ipaddress.ip_address(reached) != address:
            raise OSError(f"reached {reached} instead")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(leash.remaining())
    except BaseException:
        sock.close()
        raise
    return sock
