"""The program: reads the settings, wires store, engine, application and server, and shuts them down in order."""

import argparse
import logging
import os
import random
import sys
import threading
from collections.abc import Sequence
from contextlib import closing

from app import config, create_app, logs
from app.config import Config, ConfigError
from app.server import HttpServer, listen
from app.signals import StopRequest
from app.version import VERSION
from store import open_store
from store.clock import Clock, SystemClock
from store.errors import GoferError, OutcomeUnknown
from store.protocol import JobStore
from worker.engine import Engine
from worker.registry import Registry

_log = logging.getLogger("gofer")

#: Exit codes beside 0.
CANNOT_START, FAILED = 2, 3
#: Seconds that requests in flight get to be answered, once the jobs have been seen to.
_HTTP_TIMEOUT = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = config.load(os.environ)
        registry = _load_handlers(settings)
        if options.check:
            print("ok")
            return 0
        code = _serve(settings, registry)
    except GoferError as error:
        for line in str(error).splitlines():
            print(f"gofer: {line}", file=sys.stderr)
        code = FAILED if isinstance(error, OutcomeUnknown) else CANNOT_START
    logging.shutdown()
    if threading.active_count() > 1:
        os._exit(code)  # a handler that never returns must not keep the process
    return code


def _serve(settings: Config, registry: Registry) -> int:
    logs.configure(settings.log_level, settings.log_format)
    clock, rng = SystemClock(), random.Random()
    # The port first: a second start by mistake ends here, before it has touched the store.
    with (
        closing(listen(settings.host, settings.port)) as listener,
        closing(open_store(settings.store, clock, rng)) as store,
    ):
        stop = StopRequest(clock)
        engine = _engine(settings, store, registry, clock, rng, stop=stop)
        app = create_app(engine, on_fatal=stop.fail, max_body=settings.max_body, max_waiting=settings.threads // 2)
        server = HttpServer(
            app,
            listener,
            clock,
            threads=settings.threads,
            max_body=settings.max_body,
            on_death=lambda: stop.fail("the HTTP server ended by itself"),
        )
        stop.install()
        engine.start()
        server.start()
        queues = ", ".join(f"{name}={workers}" for name, workers in settings.all_queues.items())
        _log.info("serving on %s (store %s, queues %s)", server.url, settings.store, queues)
        _log.info("stopping: %s", stop.wait())
        _shut_down(stop, engine, server)
    _log.info("store closed")
    return 0


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


def _load_handlers(settings: Config) -> Registry:
    registry = Registry()
    registry.load(settings.handlers)
    queues = settings.all_queues
    unserved = [spec for spec in registry.specs() if spec.queue and spec.queue not in queues]
    if unserved:
        raise ConfigError([f"GOFER_QUEUES: lacks {spec.queue}, the queue of the type {spec.type}" for spec in unserved])
    return registry


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gofer",
        description="Gofer runs background jobs that come in over HTTP.",
        epilog="settings, from the environment or the same names in the TOML file that GOFER_CONFIG names"
        " (the environment wins):\n" + config.table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="check the settings and the handlers, and exit")
    parser.add_argument("--version", action="version", version=f"gofer {VERSION}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
