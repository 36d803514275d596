"""One instance of the service: started, crashed, frozen and started again."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from store.errors import OutcomeUnknown
from store.memory import MemoryStore
from tests.simulation.ledger import Ledger
from tests.simulation.lookout import Lookout
from tests.simulation.scheduler import Scheduler
from tests.simulation.shared_store import Faults, InstanceStore
from tests.simulation.sim_clock import SimClock
from tests.simulation.task import Process, Task
from tests.simulation.witness import Witness
from worker.engine import Engine
from worker.registry import Registry

#: Seconds that running jobs have in a shutdown.
SHUTDOWN_TIMEOUT = 5.0
#: Seconds that a shutdown may take beyond that: handlers that are told, hung ones, and loops that end.
_SHUTDOWN_REST = 4.0
#: Seconds that requests have to be answered after that.
_HTTP_TIMEOUT = 5.0


@dataclass
class World:
    """What all instances share."""

    scheduler: Scheduler
    clock: SimClock
    store: MemoryStore
    ledger: Ledger
    lookout: Lookout
    witness: Witness
    faults: Faults
    rng: random.Random
    registry: Registry
    #: The number of workers of each queue.
    queues: dict[str, int]
    #: Seconds that a suspect may run alone.
    patience: float
    #: What the clients of an instance do, one after the other.
    clients: list[Callable[["Instance"], None]] = field(default_factory=list)
    #: Says what happens, for whoever looks at a replay.
    say: Callable[[str], None] = print


class Instance:
    """Starts one process after the other. Spoken to by the operator, and by the clients in it."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self._starts = 0
        #: Those of the last start.
        self.process = Process(name)
        self.process.dead = True
        self.engine: Engine
        self._main: Task
        self._stop_requested = False
        self._has_started = False
        self._clients: list[Task] = []
        #: Requests go on being made.
        self.has_clients = True
        self._begin_requests()

    def _begin_requests(self) -> None:
        #: The HTTP server takes requests.
        self.listens = True
        self._requests = 0
        # Their threads get no turn until all else has stopped.
        self._interrupted: list[Task] = []

    @property
    def is_up(self) -> bool:
        """Whether its process lives."""
        return not self.process.dead and not self._main.ended

    @property
    def is_open(self) -> bool:
        """Whether it has started and takes submissions."""
        return self._has_started and self.is_up and not self._stop_requested

    @property
    def is_asked(self) -> bool:
        """Whether a client is still at it."""
        return self.is_up and any(client.is_alive() for client in self._clients)

    def start(self) -> None:
        """Start a process, in place of the one before."""
        self._starts += 1
        self._has_started = False
        self._clients = []
        self._stop_requested = False
        self._begin_requests()
        self.process = Process(f"{self.name}.{self._starts}")
        self._main = self.world.scheduler.spawn("main", self.process, self._live)

    @contextmanager
    def request(self) -> Iterator[None]:
        """While a request is being answered; the process does not end in between, unless it takes too long."""
        self._requests += 1
        yield
        self._requests -= 1
        if not self._requests and not self.listens:
            self.world.scheduler.wake(self._main)

    def crash(self) -> None:
        """As SIGKILL."""
        self.world.scheduler.kill(self.process)

    def request_stop(self) -> None:
        """As SIGTERM."""
        if self._has_started and not self._stop_requested:
            self.world.scheduler.wake(self._main)  # It waits for this, and for nothing else.
        self._stop_requested = True

    def _live(self) -> None:
        """The main thread of a process."""
        world = self.world
        store = InstanceStore(
            world.store,
            world.scheduler,
            self.process,
            world.witness,
            world.faults,
            on_trouble=world.ledger.note_trouble,
            on_failure=world.ledger.note_failure,
            on_interruption=self._interrupt,
        )
        self.engine = Engine(
            store,
            world.registry,
            world.clock,
            random.Random(world.rng.getrandbits(32)),
            world.queues,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
            quarantine_limit=world.patience,
            quarantine_total=3 * world.patience,
            on_fatal=self._on_fatal,
        )
        self.engine.start()
        world.ledger.life(self.process).engine = self.engine
        self._has_started = True
        if self.has_clients:
            self._clients = [
                world.scheduler.spawn(f"client-{number}", self.process, partial(client, self))
                for number, client in enumerate(world.clients, 1)
            ]
        while not self._stop_requested:
            world.scheduler.wait(self, None)
        self._stop(store)

    def _stop(self, store: InstanceStore) -> None:
        world = self.world
        world.ledger.life(self.process).is_stopping = True
        begun = world.scheduler.now
        self.engine.stop()
        took = world.scheduler.now - begun
        if took > SHUTDOWN_TIMEOUT + _SHUTDOWN_REST and not world.ledger.was_frozen_since(self.process, begun):
            world.scheduler.fail(f"{self.name} took {took:g} s to stop")
        self.listens = False
        for task in self._interrupted:
            world.scheduler.wake(task)
        if self._requests:
            world.scheduler.wait(self, world.scheduler.now + _HTTP_TIMEOUT)
        store.close()
        world.lookout.check_stopped(self.process, begun)
        # The process ends, whatever threads are left.
        world.scheduler.kill(self.process)

    def _interrupt(self) -> None:
        """As SIGTERM, in the middle of the request that the calling thread answers."""
        scheduler = self.world.scheduler
        self._interrupted.append(scheduler.current)
        self.request_stop()
        scheduler.wait(self, scheduler.now + SHUTDOWN_TIMEOUT + _SHUTDOWN_REST)

    def _on_fatal(self, _: OutcomeUnknown) -> None:
        """As the exit code 3."""
        self.crash()
