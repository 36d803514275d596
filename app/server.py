"""Waitress, and its orderly stop."""

import logging
import os
import resource
import socket
import threading
from collections.abc import Callable
from typing import Any

from waitress import wasyncore  # type: ignore[import-untyped]
from waitress.adjustments import Adjustments  # type: ignore[import-untyped]
from waitress.server import TcpWSGIServer  # type: ignore[import-untyped]
from waitress.task import ThreadedTaskDispatcher  # type: ignore[import-untyped]

from app.channel import Channel
from store.clock import Clock
from store.errors import GoferError

_log = logging.getLogger(__name__)

#: Connections that wait to be accepted.
_BACKLOG = 1024
#: Open connections, if the process may open that many files at all.
_CONNECTIONS = 1000
#: Seconds after which a connection on which nothing happens is closed.
_IDLE = 120.0
#: Seconds that a request may take to arrive; a client that sends a byte now and then is not idle.
_ARRIVAL = 120.0
#: Seconds between two looks for such connections; also how long the loop sleeps at most.
_SWEEP = 5.0
#: Bytes of headers.
_HEADERS = 65_536
#: Bytes of an answer that are kept together, so that they leave with one call of the system, made by
#: the loop. With waitress's 1, the head and the body of each answer leave with a call each, and the
#: loop spins meanwhile: that took a third of all submissions.
_SEND_TOGETHER = 18_000
#: Bytes that a body may be larger than allowed and still reach the application, whose limit is
#: exact: chunks cost some bytes, and waitress counts those, too.
_SLACK = 65_536


class CannotListen(GoferError):
    """The address cannot be listened on."""

    code = "cannot_listen"


def listen(host: str, port: int) -> socket.socket:
    """A socket on which connections come in. Raises CannotListen."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=host == "::")
    except (OSError, UnicodeError) as error:
        raise CannotListen(f"cannot listen on {host} port {port}: {_reason(error)}") from error


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)  # the error's own text repeats the address
    return getattr(error, "strerror", None) or str(error)


class HttpServer(TcpWSGIServer):  # type: ignore[misc]
    """Serves a WSGI application on a listening socket.

    ``start`` and ``stop`` may be called from any thread; ``stop`` twice, and before ``start``.
    """

    channel_class = Channel

    def __init__(
        self,
        application: Any,
        listener: socket.socket,
        clock: Clock,
        *,
        threads: int,
        max_body: int,
        on_death: Callable[[], None],
    ) -> None:
        """``threads`` answer requests with bodies of up to ``max_body`` bytes.

        ``on_death`` is called when the server ended although nobody stopped it.
        """
        self.clock = clock
        self.max_body = max_body
        #: Answers close their connections from now on.
        self.stopping = False
        self._on_death = on_death
        self._next_sweep = clock.monotonic() + _SWEEP
        self._started = False
        self._drained = threading.Event()
        self._ended = threading.Event()
        self._trigger_lock = threading.Lock()
        # guards: _trigger_closed
        self._trigger_closed = False
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(threads)
        super().__init__(
            application,
            {},
            _sock=listener,
            dispatcher=dispatcher,
            adj=_adjustments(listener, threads, max_body),
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )

    @property
    def url(self) -> str:
        """Where the service is found."""
        host = f"[{self.effective_host}]" if ":" in self.effective_host else self.effective_host
        return f"http://{host}:{self.effective_port}"

    def start(self) -> None:
        """Begin to serve, in a thread of waitress's."""
        if not self.stopping:
            self._started = True
            self.task_dispatcher.start_new_thread(self._serve, "loop")

    def stop(self, timeout: float) -> None:
        """Take no more connections, answer what is being asked, and close everything.

        After ``timeout`` seconds what is still unanswered stays so.
        """
        if self.stopping:
            return
        deadline = self.clock.monotonic() + timeout
        self.stopping = True
        if not self._started or self._ended.is_set():
            self._close_everything()
        # The loop's data belong to its thread, so whatever closes something runs there.
        self._call_in_loop(self._stop_accepting)
        if not self._drained.wait(max(0.0, deadline - self.clock.monotonic())):
            _log.warning("the HTTP server stops although requests are unanswered after %g s", timeout)
        # Only now: the threads end without a look at what is still in line.
        self.task_dispatcher.shutdown(cancel_pending=True, timeout=max(0.1, deadline - self.clock.monotonic()))
        self._call_in_loop(self._close_everything)
        self._ended.wait(1)

    def pull_trigger(self) -> None:
        """Wake the loop.

        Not once it has ended: the descriptor's number may then belong to the database, and a late
        thread would write into that. While nobody stops the server, no lock is worth its while:
        every thread would wait for the one that holds it during its call of the system.
        """
        if not self.stopping:
            super().pull_trigger()
            return
        with self._trigger_lock:
            if not self._trigger_closed:
                super().pull_trigger()

    def _call_in_loop(self, action: Callable[[], None]) -> None:
        # Takes the trigger's own lock inside of ours; the loop takes them the other way round when
        # it closes everything, which is the last thing that is ever asked of it.
        with self._trigger_lock:
            if not self._trigger_closed:
                self.trigger.pull_trigger(action)

    def _serve(self, _thread_no: object) -> None:
        try:
            while self._map:
                wasyncore.poll2(_SWEEP, self._map)
                self._after_turn()
        except Exception:  # noqa: BLE001 - the top of a thread
            _log.exception("the HTTP server's loop failed")
        finally:
            self._ended.set()
            self._drained.set()
            if not self.stopping:
                self._on_death()

    def _after_turn(self) -> None:
        now = self.clock.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP
            self._sweep(now)
        if self.stopping and not self.accepting and not self._is_busy():
            # What has already arrived counts as asked, too; one more look at the sockets.
            wasyncore.poll2(0.0, self._map)
            if not self._is_busy():
                self._close_channels()
                self._drained.set()

    def _sweep(self, now: float) -> None:
        for channel in self.active_channels.values():
            if channel.is_stale(now - _IDLE, now - _ARRIVAL):
                channel.will_close = True

    def maintenance(self, now: float) -> None:
        """Nothing: waitress would measure by the wall clock what :meth:`_sweep` does by the monotonic one."""

    def _is_busy(self) -> bool:
        return any(channel.is_busy() for channel in self.active_channels.values())

    def _stop_accepting(self) -> None:
        wasyncore.dispatcher.close(self)

    def _close_channels(self) -> None:
        for channel in list(self.active_channels.values()):
            channel.handle_close()

    def _close_everything(self) -> None:
        self._stop_accepting()
        self._close_channels()
        with self._trigger_lock:
            self._trigger_closed = True
            self.trigger.close()
        self._drained.set()
        if not self._started:
            self._ended.set()


def _adjustments(listener: socket.socket, threads: int, max_body: int) -> Adjustments:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    adjustments = Adjustments(
        sockets=[listener],
        threads=threads,
        backlog=_BACKLOG,
        ident=None,
        # select() raises at the first descriptor over 1023, and that ends the loop.
        asyncore_use_poll=True,
        # Without it a client that hangs up while it waits is not noticed.
        channel_request_lookahead=1,
        # Far below the limit of open files: accept() without a free descriptor fails in a busy loop.
        connection_limit=min(_CONNECTIONS, max(16, files // 2)),
        max_request_header_size=_HEADERS,
        max_request_body_size=max_body + _SLACK,
        # Connections that clients reset are no errors of ours.
        log_socket_errors=False,
        expose_tracebacks=False,
        # Nothing here looks at what proxies say, so nothing need be cleared either.
        clear_untrusted_proxy_headers=False,
    )
    adjustments.send_bytes = _SEND_TOGETHER  # as an argument it is deprecated, but nothing takes its place
    return adjustments
