"""A bound on failed attempts per client: some at once, then one now and then."""

import ipaddress
import threading
from collections import OrderedDict
from dataclasses import dataclass

from store.clock import Clock
from worker.outgoing.addresses import meanings

#: Attempts that may fail at once.
_BURST = 10
#: Seconds after which one more may fail.
_INTERVAL = 6.0
#: Clients that are remembered; of more, the one that failed longest ago is forgotten.
_MOST_CLIENTS = 10_000
#: IPv6: whoever has one address has a network of this size, at least (RFC 6177).
_PREFIX_LENGTH = 64
#: It only looks as if it stood for an IPv4 address, 0.0.0.1.
_LOOPBACK = ipaddress.IPv6Address("::1")


@dataclass(slots=True)
class _Client:
    #: On the monotonic clock: when it has its whole burst again.
    restored_at: float
    #: Whether it was refused since it last had it.
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """One attempt too many."""

    #: The client, as a person would name it.
    client: str
    #: Seconds after which the next attempt counts again.
    seconds: float
    #: The first since the client last had its whole burst.
    is_first: bool


class FailureLimit:
    """Counts the failures of each client. Safe to use from any thread.

    A token bucket per client, kept as the one number that it takes: the time at which it is full
    again. Each failure puts that off by the interval; one that would put it off too far is refused,
    and puts off nothing.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # guards: _clients and what is in it; who failed last stands last
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def count(self, address: str) -> Refusal | None:
        """Note a failure of the client at ``address``; None if it is allowed to have failed once more."""
        name = client_of(address)
        with self._lock:
            now = self._clock.monotonic()
            client = self._client_locked(name)
            if client.restored_at <= now:
                client.restored_at, client.refused = now, False
            wait = client.restored_at + _INTERVAL - (now + _BURST * _INTERVAL)
            if wait <= 0:
                client.restored_at += _INTERVAL
                return None
            is_first, client.refused = not client.refused, True
            return Refusal(name, wait, is_first)

    def _client_locked(self, name: str) -> _Client:
        client = self._clients.setdefault(name, _Client(0.0))
        self._clients.move_to_end(name)
        if len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
        return client


def client_of(address: str) -> str:
    """Who is at an address: an IPv4 address, also one that an IPv6 address stands for, or a network of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    meant = parsed if parsed == _LOOPBACK else next(meanings(parsed))
    if isinstance(meant, ipaddress.IPv4Address):
        return str(meant)
    network = int(meant) >> (128 - _PREFIX_LENGTH) << (128 - _PREFIX_LENGTH)
    return f"{ipaddress.IPv6Address(network)}/{_PREFIX_LENGTH}"
