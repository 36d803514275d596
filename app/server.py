"""Waitress, and its orderly stop."""

import errno
import logging
import os
import resource
import socket
import threading
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from waitress import wasyncore  # type: ignore[import-untyped]
from waitress.adjustments import Adjustments  # type: ignore[import-untyped]
from waitress.server import TcpWSGIServer  # type: ignore[import-untyped]
from waitress.task import ThreadedTaskDispatcher  # type: ignore[import-untyped]

from app.channel import Channel
from app.forwarded import ForwardedRequests
from app.request_id import RequestIds
from app.spare_files import SpareFiles
from store.clock import Clock
from store.errors import GoferError
from worker.outgoing.addresses import Network

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
#: Seconds until the next look when there is no room for a connection.
_REST = 0.05
#: Seconds that a client has to ask, to go on, or to read, before its connection may make room for another's.
_TIME_TO_ASK = 0.1
#: Seconds between two warnings that there are too many connections.
_WARN_EVERY = 60.0
#: What accept() fails with, again and again, when the process or the machine has no more to give.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
#: What it fails with when the socket was closed, and its number may be another file's.
_NOT_OURS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})
#: Bytes of headers.
_HEADERS = 65_536
#: Bytes of an answer that are kept together, so that they leave with one call of the system, made by
#: the loop. With waitress's 1, the head and the body of each answer leave with a call each, and the
#: loop spins meanwhile: that took a third of all submissions.
_SEND_TOGETHER = 18_000
#: Bytes that a body may be larger than allowed and still reach the application, whose limit is
#: exact: chunks cost some bytes, and waitress counts those, too.
_SLACK = 65_536
#: Bytes of a body, or of an answer, past which waitress takes a temporary file: no body and no answer is as large. A
#: disk may be full, descriptors run out, and the loop would wait for the disk. Whatever waitress had before the file
#: could not be written, it loses: the head of an answer, and the client takes somebody's payload for one.
_NEVER = 2**63 - 1
#: Bytes of the answers to pipelined requests that may wait for their client to read them, before the next is made.
_UNREAD = 65_536


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
    #: What answers the requests (PEP 3333).
    application: Any

    def __init__(
        self,
        application: Any,
        listener: socket.socket,
        clock: Clock,
        *,
        threads: int,
        max_body: int,
        trusted_proxies: Sequence[Network] = (),
        is_stranger: Callable[[str], bool] = lambda _: False,
        on_death: Callable[[], None],
    ) -> None:
        """``threads`` answer requests with bodies of up to ``max_body`` bytes.

        What ``trusted_proxies`` say of the requests that they pass on is believed. ``is_stranger``
        tells, in the loop, by a header ``Authorization`` whether a request's body is not worth being
        kept. ``on_death`` is called when the server ended although nobody stopped it.
        """
        self.clock = clock
        self.is_stranger = is_stranger
        self.max_body = max_body
        #: Names each request.
        self.request_ids = RequestIds()
        #: Nothing new is begun.
        self.stopping = False
        #: Until when connections are too dear to be kept.
        self._crowded_until = clock.monotonic()
        self._on_death = on_death
        self._next_sweep = clock.monotonic() + _SWEEP
        self._next_warning = clock.monotonic()
        #: Until when no connection is accepted.
        self._rests_until = clock.monotonic()
        #: Seconds that the loop sleeps at most.
        self._nap = _SWEEP
        #: accept() found no descriptor.
        self._is_exhausted = False
        self._spare_files = SpareFiles()
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
        if trusted_proxies:
            # Around what removes the headers.
            self.application = ForwardedRequests(self.application, trusted_proxies)

    @property
    def url(self) -> str:
        """Where the service is found."""
        host = f"[{self.effective_host}]" if ":" in self.effective_host else self.effective_host
        return f"http://{host}:{self.effective_port}"

    @property
    def keeps_connections(self) -> bool:
        """Whether a connection stays open after its answer."""
        return not self.stopping and self.clock.monotonic() >= self._crowded_until

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
                wasyncore.poll2(self._nap, self._map)
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
        if self.accepting:
            self._see_to_room(now)
        if self.stopping and not self.accepting and not self._is_busy():
            # What has already arrived counts as asked, too; one more look at the sockets.
            wasyncore.poll2(0.0, self._map)
            if not self._is_busy():
                self._close_channels()
                self._drained.set()

    def _sweep(self, now: float) -> None:
        for channel in self.active_channels.values():
            if channel.is_stale(now - _IDLE, now - _ARRIVAL):
                channel.hang_up()
        if not self.stopping:  # else what _close_everything released would be taken again
            self._spare_files.refill()

    def readable(self) -> bool:
        """Whether the loop is to accept connections.

        waitress warns each time the limit is reached, thousands of times if somebody wants that, and looks for
        idle connections by the wall clock, which :meth:`_sweep` does by the monotonic one.
        """
        has_room = len(self._map) < self.adj.connection_limit
        return bool(self.accepting) and has_room and self.clock.monotonic() >= self._rests_until

    def accept(self) -> Any:
        """A connection and where it comes from; None if there is none. Raises OSError."""
        try:
            return super().accept()
        except OSError as error:
            self._is_exhausted = error.errno in _EXHAUSTED
            if error.errno in _NOT_OURS and not self.stopping:
                self.handle_close()
            raise

    def handle_close(self) -> None:
        """End the loop: the listening socket is none any more.

        waitress would go on for those who are connected, without its trigger, and nobody else could come in.
        """
        self.accepting = False
        raise wasyncore.ExitNow("the listening socket was closed by somebody else, such as a handler")

    def _see_to_room(self, now: float) -> None:
        """Have room for the next connection, so that nobody keeps others out by holding many."""
        self._nap = _REST if now < self._rests_until else _SWEEP
        if self._is_exhausted:
            self._is_exhausted = False
            self._note_crowd(now, "no file descriptor is left for a connection")
            if not self._close_longest_idle(now) and not self._spare_files.release():
                # Else the loop would spin: the connection that cannot be accepted stays there.
                self._rests_until = now + _REST
                self._nap = _REST
        elif len(self._map) >= self.adj.connection_limit:
            self._note_crowd(now, "there are too many connections")
            if not self._close_longest_idle(now):
                self._nap = _REST

    def _note_crowd(self, now: float, what: str) -> None:
        self._crowded_until = now + _SWEEP
        if now >= self._next_warning:
            self._next_warning = now + _WARN_EVERY
            _log.warning("%s; those that wait for their clients are closed", what)

    def _close_longest_idle(self, now: float) -> bool:
        """Close the connection that has waited longest for its client, if any did for a while; whether one did."""
        channels = self.active_channels.values()
        idle = [(since, channel) for channel in channels if (since := channel.owes_since()) is not None]
        since, longest = min(idle, key=itemgetter(0), default=(now, None))
        if longest is None or now - since < _TIME_TO_ASK:
            return False
        longest.handle_close()
        return True

    def _is_busy(self) -> bool:
        return any(channel.is_busy() for channel in self.active_channels.values())

    def _stop_accepting(self) -> None:
        # Those who have connected already may have asked already, too; closing the socket would reset them.
        while self.accepting and self._accept_one():
            pass
        wasyncore.dispatcher.close(self)

    def _accept_one(self) -> bool:
        before = len(self.active_channels)
        self.handle_accept()
        return len(self.active_channels) > before

    def _close_channels(self) -> None:
        for channel in list(self.active_channels.values()):
            channel.handle_close()

    def _close_everything(self) -> None:
        self._stop_accepting()
        self._close_channels()
        with self._trigger_lock:
            self._trigger_closed = True
            self.trigger.close()
        self._spare_files.close()
        self._drained.set()
        if not self._started:
            self._ended.set()


def _adjustments(listener: socket.socket, threads: int, max_body: int) -> Adjustments:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    adjustments = Adjustments(
        sockets=[listener],
        server_name=listener.getsockname()[0],
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
        inbuf_overflow=_NEVER,
        outbuf_overflow=_NEVER,
        outbuf_high_watermark=_UNREAD,
        # Connections that clients reset are no errors of ours.
        log_socket_errors=False,
        expose_tracebacks=False,
        # ForwardedRequests has taken from them what it believes.
        clear_untrusted_proxy_headers=True,
    )
    adjustments.send_bytes = _SEND_TOGETHER  # as an argument it is deprecated, but nothing takes its place
    return adjustments
