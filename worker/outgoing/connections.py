"""The connections of all outgoing calls: opened through the guard, kept for the next call."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import unquote

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager, make_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProtocolError
from urllib3.util import parse_url

from worker.outgoing.addresses import AllowList
from worker.outgoing.egress import Egress
from worker.outgoing.leash import Leash
from worker.outgoing.request import Request
from worker.outgoing.response import WireResponse
from worker.outgoing.sockets import LeashedSocket, LeashedTLSSocket

#: How many origins keep connections, and how many each: 256 descriptors at most that wait for use.
_MAX_ORIGINS, _MAX_IDLE = 32, 8
#: Methods that mean the same when they are sent twice.
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})


class Connections:
    """Sends requests over pooled connections. Safe to use from any thread.

    Never retries and never follows a redirect: each is a request of its own, with the guard in its way.
    """

    def __init__(self, egress: Egress, *, proxy: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        """``proxy``: an ``http://`` URL, checked by ``check_proxy``; all calls go through it.

        ``tls`` None means to trust whom the machine trusts.
        """
        self._egress = egress
        self._guard = _Guard(egress if proxy is None else _egress_to(proxy))
        context = tls or ssl.create_default_context()
        context.sslsocket_class = LeashedTLSSocket
        self._manager = _manager(proxy, context)
        self._manager.pool_classes_by_scheme = {
            "http": partial(_PlainPool, guard=self._guard),  # type: ignore[dict-item]
            "https": partial(_TLSPool, guard=self._guard),  # type: ignore[dict-item]
        }

    def send(self, request: Request, leash: Leash) -> BaseHTTPResponse:
        """Send a request and return its answer, whose body is still to be read, and which is to be closed.

        Raises BlockedAddress, CannotConnect, what urllib3 raises, or like ``Leash.check``.
        """
        # A proxy resolves names itself, and must itself refuse what it is not to reach.
        self._egress.check_host(str(parse_url(request.url).host))
        with self._guard.for_call(leash):
            while True:
                try:
                    return self._urlopen(request)
                except ProtocolError as error:
                    if self._guard.has_opened or not _may_be_stale(request, error):
                        raise

    def _urlopen(self, request: Request) -> BaseHTTPResponse:
        return self._manager.urlopen(
            request.method,
            request.url,
            headers=dict(request.headers),
            body=request.body,
            redirect=False,
            retries=False,
            preload_content=False,
        )

    def close(self) -> None:
        """Close the connections that wait for use; the others when their calls are done."""
        pools = [self._manager.pools.get(key) for key in self._manager.pools.keys()]  # noqa: SIM118  # no mapping
        self._manager.clear()
        for pool in pools:
            # A pool may outlive its manager, in the traceback of a call that failed.
            if pool is not None:
                pool.close()


def _may_be_stale(request: Request, error: ProtocolError) -> bool:
    """Whether a server may just have closed a connection that had waited too long for its next request.

    That says nothing of the server's health, and to ask again costs no attempt. But it may also have
    ended in the middle of its work, so only what may be asked twice is (RFC 9110 section 9.2.2).
    """
    cause = error.args[1] if len(error.args) > 1 else None
    return request.method in _IDEMPOTENT and isinstance(cause, ConnectionError)


def check_proxy(text: str) -> None:
    """Raise ValueError, with what is wrong, for the URL of a proxy that cannot be used."""
    try:
        url = parse_url(text)
        is_one = url.scheme == "http" and url.port != 0 and (url.path or "/") == "/" and not url.query
        if is_one:
            _egress_to(text)
            _proxy_headers(text)
    except ValueError:
        is_one = False
    if not is_one:
        # Not shown: it may hold a password.
        raise ValueError("must be the URL of a proxy, such as http://proxy.example:3128")


def _egress_to(proxy: str) -> Egress:
    """The operator chose the proxy, so it may be anywhere; nothing else is connected to."""
    return Egress(AllowList.of([(parse_url(proxy).host or "").strip("[]")]))


def _proxy_headers(proxy: str) -> dict[str, str]:
    auth = parse_url(proxy).auth
    return dict(make_headers(proxy_basic_auth=unquote(auth))) if auth else {}


def _manager(proxy: str | None, tls: ssl.SSLContext) -> PoolManager:
    # No timeout: the leash bounds each wait.
    options: dict[str, Any] = {"maxsize": _MAX_IDLE, "ssl_context": tls, "timeout": None}
    if proxy is None:
        return PoolManager(_MAX_ORIGINS, **options)
    return ProxyManager(proxy, _MAX_ORIGINS, proxy_headers=_proxy_headers(proxy), **options)


class _Guard:
    """Puts the connections of a thread on the leash of the call that the thread makes.

    urllib3 hands nothing of ours down to its connections, so the leash stands beside it, per thread.
    """

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._thread = threading.local()

    @contextmanager
    def for_call(self, leash: Leash) -> Iterator[None]:
        """Within the block, this thread's connections belong to this call."""
        self._thread.leash, self._thread.has_opened = leash, False
        try:
            yield
        finally:
            del self._thread.leash

    @property
    def has_opened(self) -> bool:
        """Whether the thread's call needed a new connection."""
        return bool(self._thread.has_opened)

    def connect(self, host: str, port: int) -> LeashedSocket:
        """Open a connection for the thread's call. Raises like ``Egress.connect``."""
        self._thread.has_opened = True
        return self._egress.connect(host, port, self._thread.leash)

    def take(self, sock: LeashedSocket) -> None:
        """Use an open connection for the thread's call. Raises like ``Leash.check``."""
        sock.leash = self._thread.leash
        sock.leash.hold(sock)


class _PlainConnection(HTTPConnection):
    """A connection that is opened through the guard."""

    response_class = WireResponse
    sock: LeashedSocket | None

    def __init__(self, *args: Any, guard: _Guard, **options: Any) -> None:
        super().__init__(*args, **options)
        self._guard = guard

    def _new_conn(self) -> LeashedSocket:
        return self._guard.connect(self._dns_host, self.port)

    def request(self, *args: Any, **options: Any) -> None:
        # One from the pool, or one that just became another by its TLS handshake.
        if self.sock is not None:
            self._guard.take(self.sock)
        super().request(*args, **options)


class _TLSConnection(_PlainConnection, HTTPSConnection):
    """The same, encrypted; names the host to the server and checks its certificate."""


class _PlainPool(HTTPConnectionPool):
    """The connections of one origin."""

    ConnectionCls = _PlainConnection

    def __init__(self, *args: Any, guard: _Guard, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn_kw["guard"] = guard

    def _put_conn(self, conn: Any) -> None:
        # Another call may take it the moment that it is back, and must not be ended in this one's stead.
        if conn is not None and conn.sock is not None:
            conn.sock.leash.let_go()
        super()._put_conn(conn)


class _TLSPool(_PlainPool, HTTPSConnectionPool):
    """The same, encrypted."""

    ConnectionCls = _TLSConnection
