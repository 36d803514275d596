"""What a proxy says about the request that it passes on: believed from those that the operator trusts, else not."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Any

from waitress.proxy_headers import MalformedProxyHeader, parse_proxy_headers  # type: ignore[import-untyped]

from app.errors import Problem, response_to
from app.request_headers import Environ
from worker.outgoing.addresses import Network

#: What is believed. All else, the header Forwarded among it, no proxy can be sure to overwrite unless it is set up to.
_BELIEVED = frozenset({"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"})
#: An address of IPv6 with a port, which waitress leaves as it is.
_WITH_PORT = re.compile(r"\[([^\[\]]*)\]:[0-9]*")


#: What a proxy says that does not know the client, or does not want to say who it is (RFC 7239, sections 6.2 and 6.3).
_NOBODY = re.compile(r"(?:unknown|_[A-Z0-9._-]+)(?::[A-Z0-9._-]+)?", re.IGNORECASE)


class ForwardedRequests:
    """A WSGI application before another one, which then sees the client in place of the proxy.

    Waitress has this, too, but knows one proxy by the text of its address, and so does not know
    ``::ffff:172.17.0.1`` for ``172.17.0.1``. Of each header it takes what the nearest proxy added.
    """

    def __init__(self, application: Any, proxies: Sequence[Network]) -> None:
        """``proxies``: the addresses that are trusted. ``application`` removes the headers, whoever sent them."""
        self._application = application
        self._proxies = proxies

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        if is_among(environ["REMOTE_ADDR"], self._proxies):
            try:
                _believe(environ)
            except Problem as problem:
                return response_to(problem)(environ, start_response)
        answer: Iterable[bytes] = self._application(environ, start_response)
        return answer


def is_among(text: str, networks: Iterable[Network]) -> bool:
    """Whether an address is in one of ``networks``; an IPv4 address in IPv6 clothes is the address in them."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    bare = getattr(address, "ipv4_mapped", None) or address
    return any(bare in network for network in networks)


def _believe(environ: Environ) -> None:
    """Put what the proxy says in the place of what the connection says. Raises Problem, ``bad_header``."""
    proxy = environ["REMOTE_ADDR"]
    try:
        parse_proxy_headers(environ, trusted_proxy_count=1, trusted_proxy_headers=_BELIEVED)
    except MalformedProxyHeader as error:
        raise _senseless(error.header) from None
    except IndexError:  # an address such as ":8.0", which it does not see coming
        raise _senseless("X-Forwarded-For") from None
    if match := _WITH_PORT.fullmatch(environ["REMOTE_ADDR"]):
        environ["REMOTE_ADDR"] = match[1]
    if _NOBODY.fullmatch(environ["REMOTE_ADDR"]):
        environ["REMOTE_ADDR"] = proxy
    try:
        ipaddress.ip_address(environ["REMOTE_ADDR"])
    except ValueError:
        # Taken as it is, it could make one client look like many.
        raise _senseless("X-Forwarded-For") from None


def _senseless(header: str) -> Problem:
    return Problem("bad_header", f"the proxy's {header} makes no sense")
