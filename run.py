"""The program: reads the settings, wires store, engine, application and server, and shuts them down in order."""

import os
import signal

# All that follows takes its time to load.
if os.getpid() == 1:
    # The kernel throws away what comes to process 1 before that has asked for it, but keeps what is blocked, until
    # main() takes it up.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Who interrupts it meanwhile is to see no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import faulthandler
import io
import logging
import random
import sys
import threading
from collections.abc import Sequence
from contextlib import closing

from app import command_line, config, create_app, health_check, logs, new_key
from app.auth import Gate
from app.config import Config, ConfigError
from app.copies import Copies
from app.key_ring import KeyRing
from app.server import HttpServer, listen
from app.signals import StopRequest
from app.version import VERSION
from store import open_store
from store.clock import Clock, SystemClock
from store.errors import GoferError, OutcomeUnknown
from store.protocol import JobStore
from worker import first_process
from worker.commands import declaration_reader
from worker.engine import Engine
from worker.handlers import command
from worker.handlers.http import HttpJobs
from worker.outgoing.addresses import AllowList
from worker.outgoing.connections import Connections
from worker.outgoing.egress import Egress
from worker.process_groups import ProcessGroups
from worker.registry import Registry

_log = logging.getLogger("gofer")

#: Exit codes beside 0. A container engine knows none but 1 for what is unhealthy.
UNHEALTHY, CANNOT_START, FAILED = 1, 2, 3
#: Seconds that requests in flight get to be answered, once the jobs have been seen to.
_HTTP_TIMEOUT = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    _fill_standard_streams()
    if os.getpid() == 1:
        first_process.step_aside()
    options = command_line.parser().parse_args(arguments)
    if options.command == "health":
        return _check_health()
    if options.command == "keys":
        return _make_key(options)
    return _start(check_only=options.check)


def _fill_standard_streams() -> None:
    """Put something in the place of those that whoever started us has closed.

    Else the next file would take it, the port, the lock or the database itself, and be written to by whatever
    writes to standard error.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stderr is None:  # Or what is for it would be printed to standard output, a new key's label before the key.
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115  # a descriptor, for the whole process


def _start(*, check_only: bool) -> int:
    """Serve until told to stop; return the exit code."""
    try:
        settings = config.load(os.environ)
        # Handlers, and what they start, have no business with them; the URL of a proxy may hold a password.
        for name in ("GOFER_API_KEY", "GOFER_HTTP_PROXY"):
            os.environ.pop(name, None)
        # Closed last: until the very end it minds what handlers have started.
        with closing(ProcessGroups()) as groups, closing(_http_jobs(settings)) as http_jobs:
            registry = _load_handlers(settings, groups, http_jobs)
            gate = _gate(settings)
            if check_only:
                print("ok", flush=True)
                code = 0
            else:
                code = _serve(settings, registry, gate)
    except GoferError as error:
        _complain(error)
        code = FAILED if isinstance(error, OutcomeUnknown) else CANNOT_START
    except Exception:  # noqa: BLE001 - the top of the main thread, whose end others must not hold up
        _log.critical("ended by an unexpected error", exc_info=True)
        code = FAILED
    logging.shutdown()
    if threading.active_count() > 1:
        os._exit(code)  # a handler that never returns must not keep the process
    return code


def _make_key(options: argparse.Namespace) -> int:
    try:
        lines = new_key.issue(options, SystemClock())
    except GoferError as error:
        _complain(error)
        return CANNOT_START
    print(new_key.LABEL, file=sys.stderr)
    # In one piece: who takes the first line alone does not wait for the second.
    sys.stdout.write(lines + "\n")
    return 0


def _check_health() -> int:
    try:
        health_check.check(*config.address(os.environ))
    except GoferError as error:
        _complain(error)
        return UNHEALTHY
    return 0


def _complain(error: GoferError) -> None:
    for line in str(error).splitlines():
        print(f"gofer: {line}", file=sys.stderr)


def _gate(settings: Config) -> Gate | None:
    """What stands before every call once there are keys."""
    if not settings.has_keys:
        return None
    clock = SystemClock()
    return Gate(KeyRing(clock, settings.api_key, settings.keys_file), clock)


def _serve(settings: Config, registry: Registry, gate: Gate | None) -> int:
    logs.configure(settings.log_level, settings.log_format)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What handlers print is not to be lost with a process that ends at once.
        sys.stdout.reconfigure(line_buffering=True)
    # A handler that crashes the interpreter is found in the log by its lines.
    faulthandler.enable(all_threads=False)
    clock, rng = SystemClock(), random.Random()
    # The port first: a second start by mistake ends here, before it has touched the store.
    with (
        closing(listen(settings.host, settings.port)) as listener,
        closing(open_store(settings.store, clock, rng, log_lines=settings.log_lines)) as store,
    ):
        stop = StopRequest(clock)
        engine = _engine(settings, store, registry, clock, rng, stop=stop)
        app = create_app(
            engine,
            gate=gate,
            any_host=settings.allow_anonymous,
            on_fatal=stop.fail,
            max_body=settings.max_body,
            max_waiting=settings.threads // 2,
        )
        server = HttpServer(
            app,
            listener,
            clock,
            threads=settings.threads,
            max_body=settings.max_body,
            trusted_proxies=settings.trusted_proxy,
            is_stranger=gate.is_stranger if gate else lambda _: False,
            on_death=lambda: stop.fail("the HTTP server ended by itself"),
        )
        stop.install()
        Copies(listener).watch()
        _begin(engine, server)
        queues = ", ".join(f"{name}={workers}" for name, workers in settings.all_queues.items())
        _log.info("serving on %s (store %s, queues %s)", server.url, settings.store, queues)
        if settings.allow_anonymous:
            _log.warning("GOFER_ALLOW_ANONYMOUS: whoever reaches %s may submit, read and manage jobs", server.url)
        _log.info("stopping: %s", stop.wait())
        _shut_down(stop, engine, server)
    _log.info("store closed")
    return 0


def _begin(engine: Engine, server: HttpServer) -> None:
    engine.start()
    try:
        server.start()
    except BaseException:
        engine.stop()  # Or jobs that run would be held against it by the next start.
        raise


def _engine(
    settings: Config, store: JobStore, registry: Registry, clock: Clock, rng: random.Random, *, stop: StopRequest
) -> Engine:
    return Engine(
        store,
        registry,
        clock,
        rng,
        settings.all_queues,
        shutdown_timeout=settings.shutdown_timeout,
        max_backlog=settings.max_backlog,
        retention=settings.retention,
        log_lines=settings.log_lines,
        on_fatal=stop.fail,
    )


def _shut_down(stop: StopRequest, engine: Engine, server: HttpServer) -> None:
    """Everything but the store, which is closed last because all the others use it."""
    # First, so that no new work comes in, and nobody who waits for a job holds up what follows.
    engine.begin_stop()
    if stop.fatal is None:
        engine.stop()
    # After the engine, so that until here everybody can read how the jobs ended.
    server.stop(_HTTP_TIMEOUT)
    _log.info("http server stopped")
    if stop.fatal is not None:
        # The store is not touched again, not even to close it: only a new start can tell what it holds.
        _log.critical("ended: %s", stop.fatal)
        logging.shutdown()
        os._exit(FAILED)


def _http_jobs(settings: Config) -> HttpJobs:
    egress = Egress(AllowList.of(settings.http_allow))
    return HttpJobs(
        Connections(egress, proxy=settings.http_proxy),
        egress,
        SystemClock(),
        max_body=settings.http_max_body,
        user_agent=f"gofer/{VERSION}",
    )


def _load_handlers(settings: Config, groups: ProcessGroups, http_jobs: HttpJobs) -> Registry:
    registry = Registry()
    registry.register(http_jobs.spec)
    registry.load(settings.handlers)
    errors = _add_commands(registry, settings, groups)
    queues = settings.all_queues
    unserved = [spec for spec in registry.specs() if spec.queue and spec.queue not in queues]
    errors += [f"GOFER_QUEUES: lacks {spec.queue}, the queue of the type {spec.type}" for spec in unserved]
    if errors:
        raise ConfigError(errors)
    return registry


def _add_commands(registry: Registry, settings: Config, groups: ProcessGroups) -> list[str]:
    """Register the declared commands; what is wrong with them."""
    commands, errors = declaration_reader.read(settings.commands, os.environ)
    taken = set(registry.types())
    errors += [
        f"commands.{declared.name}: there is another handler for this type"
        for declared in commands
        if declared.name in taken
    ]
    if not errors:
        for spec in command.specs(commands, groups, SystemClock()):
            registry.register(spec)
    return errors


if __name__ == "__main__":
    sys.exit(main())
