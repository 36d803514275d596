"""One simulation, all of which follows from its seed."""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from store.errors import StoreUnavailable
from store.memory import MemoryStore
from tests.simulation.carriers import Carriers
from tests.simulation.chaos import Chaos
from tests.simulation.client import Client
from tests.simulation.executions import Executions
from tests.simulation.handlers import Handlers
from tests.simulation.instance import Instance, World
from tests.simulation.ledger import Ledger
from tests.simulation.lookout import Lookout
from tests.simulation.scheduler import Killed, Scheduler
from tests.simulation.seams import simulated
from tests.simulation.shared_store import Faults, SharedStore
from tests.simulation.sim_clock import SimClock
from tests.simulation.task import Process
from tests.simulation.theme import THEMES, Theme
from tests.simulation.witness import Witness

#: Seconds after which every job is final once nothing goes wrong any more.
_TIME_TO_FINISH = 1500.0
#: Seconds between two looks at that.
_LOOK = 20.0


@dataclass(frozen=True)
class Figures:
    """What a simulation came to."""

    steps: int
    #: Simulated seconds.
    seconds: float
    jobs: int
    attempts: int


class Scenario:
    """Draws from its seed what there is, who does what, and what goes wrong; then lets it happen.

    Each run has some kinds of trouble and not others: what hides one fault is often another one.
    """

    def __init__(self, seed: int, carriers: Carriers, say: Callable[[str], None] | None = None) -> None:
        """``say`` is told what happens, each with the simulated time and the number of the step."""
        self._rng = random.Random(f"scenario {seed}")
        self._scheduler = Scheduler(random.Random(f"schedule {seed}"), carriers)
        self._say_to = say
        theme = self._rng.choice(THEMES)
        count = self._rng.choice(theme.instances)
        self._capacity = self._rng.choice((1, 2, 4, 100))
        self._world = self._new_world(is_shared=count > 1, interruption=theme.interruption)
        self._add_clients(theme)
        self._instances = [Instance(f"instance-{number}", self._world) for number in range(1, count + 1)]
        self._chaos = Chaos(
            self._new_rng(),
            self._world,
            self._instances,
            seconds=self._rng.choice(theme.seconds),
            kinds=[kind for kind, probability in theme.harm.items() if self._rng.random() < probability],
        )

    def _new_rng(self) -> random.Random:
        """A source of its own for each part, so that what one draws changes nothing for the others."""
        return random.Random(self._rng.getrandbits(32))

    def _new_world(self, *, is_shared: bool, interruption: float) -> World:
        clock = SimClock(self._scheduler)
        store = SharedStore(clock, self._new_rng()) if is_shared else MemoryStore(clock, self._new_rng())
        ledger = Ledger(self._scheduler, clock, store, self._say)
        faults = Faults(
            self._new_rng(),
            crash=self._rng.choice((0.0, 0.0, 0.002, 0.01)),
            outage=self._rng.choice((0.0, 0.0, 0.01, 0.1)),
            unknown=self._rng.choice((0.0, 0.0, 0.002)),
            interruption=interruption,
        )
        return World(
            scheduler=self._scheduler,
            clock=clock,
            store=store,
            ledger=ledger,
            lookout=Lookout(ledger),
            witness=Witness(ledger),
            faults=faults,
            rng=self._new_rng(),
            registry=Handlers(self._scheduler, Executions(ledger)).registry(),
            queues=self._rng.choice(({"default": 1}, {"default": 2}, {"default": 1, "mail": 1})),
            patience=self._rng.choice((2.0, 10.0)),
            say=self._say,
        )

    def _add_clients(self, theme: Theme) -> None:
        kills, steers = self._rng.random() < 0.3, self._rng.random() < 0.7
        for _ in range(self._rng.choice(theme.clients)):
            client = Client(
                self._new_rng(),
                self._rng.randint(*theme.requests),
                pauses=theme.pauses,
                durations=theme.durations,
                kills=kills,
                steers=steers,
            )
            self._world.clients.append(client.main)

    def run(self) -> Figures:
        """Raises Broken, with what is wrong."""
        with simulated(self._scheduler, capacity=self._capacity), self._unexpected_errors_heard():
            self._scheduler.run(Process("world"), self._happen)
        records = self._world.store._records.values()
        return Figures(
            self._scheduler.steps, self._scheduler.now, len(records), sum(record.job.attempt for record in records)
        )

    def _happen(self) -> None:
        """What the first thread does."""
        for instance in self._instances:
            instance.start()
        self._chaos.run()
        self._say("nothing goes wrong from now on")
        self._chaos.heal()
        self._finish()
        self._stop()

    def _finish(self) -> None:
        """Every job ends as long as some instance runs."""
        deadline = self._scheduler.now + _TIME_TO_FINISH
        while not self._is_finished():
            if self._scheduler.now > deadline:
                self._scheduler.fail(f"not final within {_TIME_TO_FINISH:g} s: {self._unfinished()}")
            self._scheduler.sleep(_LOOK)
            self._keep_going()
        while any(instance.process.frozen for instance in self._instances):
            self._scheduler.sleep(_LOOK)
        self._scheduler.sleep(_LOOK)  # Whoever waits to try the store again has tried it by then.
        for instance in self._instances:
            # One that found out late, since it stood still, that it must end is gone.
            if instance.is_up and (reason := instance.engine.not_ready_reason()):
                self._scheduler.fail(f"{instance.name} is not ready: {reason}")

    def _keep_going(self) -> None:
        """Start what a job took with it, and end every pause."""
        for instance in self._instances:
            if not instance.is_up:
                instance.start()
            elif instance.is_open:
                for queue in self._world.store._paused:
                    self._scheduler.spawn("resume", instance.process, partial(instance.engine.resume, queue))

    def _is_finished(self) -> bool:
        is_quiet = all(instance.is_open and not instance.is_asked for instance in self._instances)
        return is_quiet and not self._unfinished()

    def _unfinished(self) -> list[str]:
        jobs = [record.job for record in self._world.store._records.values()]
        return [f"{job.id} ({job.status}, attempt {job.attempt})" for job in jobs if not job.status.is_final]

    def _stop(self) -> None:
        for instance in self._instances:
            instance.request_stop()
        while any(instance.is_up and not instance.process.frozen for instance in self._instances):
            self._scheduler.sleep(1.0)
        if held := self._world.store._leases._held:
            self._scheduler.fail(f"leases are left when all is over: {held}")

    def _say(self, what: str) -> None:
        if self._say_to:
            self._say_to(f"{self._scheduler.now:9.3f} {self._scheduler.steps:6} {what}")

    @contextmanager
    def _unexpected_errors_heard(self) -> Iterator[None]:
        """The engine logs what it did not expect and goes on; here it is the end."""
        ear = _Ear(self._scheduler)
        logger = logging.getLogger("worker")
        level, propagate = logger.level, logger.propagate
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        logger.addHandler(ear)
        try:
            yield
        finally:
            logger.removeHandler(ear)
            logger.setLevel(level)
            logger.propagate = propagate


class _Ear(logging.Handler):
    """Fails the simulation when an error is logged that nothing here has caused."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or isinstance(error, StoreUnavailable | Killed) or self._scheduler.is_ending:
            return
        self._scheduler.fail(f"{record.getMessage()}: {type(error).__name__}: {error}")
