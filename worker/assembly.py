"""How the parts of an engine are put together. Nothing is started here."""

import random
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from store.clock import Clock
from store.errors import OutcomeUnknown
from store.job import JobStatus
from store.leases import Lease
from store.protocol import JobStore
from worker.abandoned import AbandonedThreads
from worker.backlog import Backlog
from worker.dispatcher import Dispatcher
from worker.executor import Executor
from worker.finisher import Finisher
from worker.follower import Follower
from worker.intake import Intake
from worker.isolation.children import Children
from worker.job_queue import JobQueue
from worker.job_watch import JobWatch
from worker.loop import Loop
from worker.maintainer import Maintainer
from worker.owed_outcomes import OwedOutcomes
from worker.quarantine import Quarantine
from worker.reaper import Reaper
from worker.recorder import Recorder
from worker.registry import Registry
from worker.retention import Retention
from worker.running import RunningJobs
from worker.self_check import SelfCheck
from worker.store_health import StoreHealth
from worker.syncer import Syncer
from worker.watchdog import Watchdog
from worker.worker_pool import WorkerPool

#: Seconds that a lease lasts; the reaper renews it several times in that time.
_LEASE = 30.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What the engine and its lifecycle speak to; the other parts are known to these alone."""

    store: JobStore
    clock: Clock
    #: The right of this start of the engine to jobs.
    lease: Lease
    #: Begin nothing new.
    stop: threading.Event
    #: Do not even wait any longer for the store.
    give_up: threading.Event
    store_health: StoreHealth
    finals: JobWatch
    follower: Follower
    running: RunningJobs
    abandoned: AbandonedThreads
    #: The buffers, by the queue's name.
    queues: Mapping[str, JobQueue]
    dispatcher: Dispatcher
    intake: Intake
    owed: OwedOutcomes
    watchdog: Watchdog
    #: The processes of isolated handlers.
    children: Children
    #: The workers, by the queue's name.
    pools: Mapping[str, WorkerPool]
    self_check: SelfCheck
    quarantine: Quarantine
    #: What serves the workers, and so outlives them.
    services: tuple[Loop, ...]

    @property
    def loops(self) -> tuple[Loop, ...]:
        """Every loop."""
        return (self.quarantine.loop, self.children.loop, *self.services)


def assemble(
    store: JobStore,
    registry: Registry,
    clock: Clock,
    rng: random.Random,
    sizes: Mapping[str, int],
    *,
    grace: float,
    max_backlog: int,
    retention: Mapping[JobStatus, float],
    max_result_bytes: int,
    log_lines: int,
    max_abandoned: int,
    quarantine_limit: float,
    quarantine_total: float,
    on_fatal: Callable[[OutcomeUnknown], None],
) -> Parts:
    """Make the parts, each after those that it needs. The settings are those of ``Engine``.

    ``sizes``: the number of workers of each queue, by its name.
    """
    lease = Lease(secrets.token_hex(8), _LEASE)
    stop, give_up = threading.Event(), threading.Event()
    store_health = StoreHealth(on_fatal)
    finals, logs = JobWatch(), JobWatch()
    running = RunningJobs()
    abandoned = AbandonedThreads(max_abandoned)
    queues = {name: JobQueue(name, stop, clock.monotonic) for name in sizes}
    dispatcher = Dispatcher(store, clock, queues, running, lease)
    intake = Intake(
        store=store,
        lease=lease,
        queues=queues,
        dispatcher=dispatcher,
        backlog=Backlog(store, max_backlog),
    )
    recorder = Recorder(store, running, logs)
    syncer = Syncer(store)
    reaper = Reaper(store=store, lease=lease, queues=queues, running=running, dispatcher=dispatcher, finals=finals)
    finisher = Finisher(
        store=store,
        lease=lease,
        running=running,
        recorder=recorder,
        dispatcher=dispatcher,
        finals=finals,
        logs=logs,
        syncer=syncer,
    )
    owed = OwedOutcomes(finisher)
    watchdog = Watchdog(running, owed, abandoned, clock, rng, grace=grace)
    children = Children(registry, clock, workers=sum(sizes.values()), max_result_bytes=max_result_bytes)
    executor = Executor(
        store=store,
        lease=lease,
        registry=registry,
        clock=clock,
        rng=rng,
        running=running,
        recorder=recorder,
        dispatcher=dispatcher,
        finisher=finisher,
        owed=owed,
        watchdog=watchdog,
        children=children,
        store_health=store_health,
        stop=stop,
        give_up=give_up,
        max_result_bytes=max_result_bytes,
        log_lines=log_lines,
    )
    pools = {
        name: WorkerPool(queues[name], size, executor=executor, running=running, abandoned=abandoned, stop=stop)
        for name, size in sizes.items()
    }
    self_check = SelfCheck(store, clock, pools, dispatcher, abandoned)
    quarantine = Quarantine(
        store=store,
        clock=clock,
        running=running,
        executor=executor,
        dispatcher=dispatcher,
        queues=queues,
        stop=stop,
        limit=quarantine_limit,
        total=quarantine_total,
    )
    parts = Parts(
        store=store,
        clock=clock,
        lease=lease,
        stop=stop,
        give_up=give_up,
        store_health=store_health,
        finals=finals,
        follower=Follower(store, clock, finals, logs),
        running=running,
        abandoned=abandoned,
        queues=queues,
        dispatcher=dispatcher,
        intake=intake,
        owed=owed,
        watchdog=watchdog,
        children=children,
        pools=pools,
        self_check=self_check,
        quarantine=quarantine,
        services=(
            self_check.loop,
            Retention(store, clock, retention).loop,
            dispatcher.loop,
            reaper.loop,
            watchdog.loop,
            recorder.loop,
            syncer.loop,
            Maintainer(store, clock, dispatcher, queues).loop,
        ),
    )
    for loop in parts.loops:
        # Whichever loop learns that the process must end, it is heard.
        loop.on_failure = store_health.note_failure
    return parts
