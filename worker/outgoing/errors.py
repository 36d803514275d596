"""What can keep an outgoing call from its answer, beside what urllib3 raises."""

from collections.abc import Sequence

from worker.outgoing.addresses import Address


class BlockedAddress(Exception):
    """The call would go to an address that is neither public nor allowed."""

    def __init__(self, host: str, addresses: Sequence[Address]) -> None:
        """``addresses``: those that the host has."""
        named = ", ".join(str(address) for address in addresses)
        has = "" if named == host.strip("[]") else f" has the address {named}, which"
        super().__init__(f"the host {host}{has} is not public, and GOFER_HTTP_ALLOW does not list it")


class CannotConnect(Exception):
    """The host cannot be found, or does not take the connection."""


class BrokenAnswer(Exception):
    """What came back is no answer that can be kept."""
