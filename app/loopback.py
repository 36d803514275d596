"""Which hosts are this machine itself, and cannot be reached from any other."""

import re

from worker.outgoing.addresses import literal

#: RFC 9110, section 7.2: a host, and perhaps a port.
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")


def is_loopback(host: str) -> bool:
    """Whether a host, written as a name or as an address, is this machine itself.

    An IPv4 address in IPv6 clothes (``::ffff:127.0.0.1``) is the address in them. Those of NAT64 and
    6to4 lead through a gateway first: they are unwrapped where something is forbidden, not here,
    where it is allowed. Of names only ``localhost`` and those below it count, which nobody's DNS
    may decide about (RFC 6761, section 6.3).
    """
    address = literal(host)
    if address is None:
        name = host.lower().removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_loopback_authority(text: str) -> bool:
    """Whether a host with its port, if there is one, as in a Host header, is this machine itself."""
    match = _HOST_AND_PORT.fullmatch(text)
    return match is not None and is_loopback(match[1])
