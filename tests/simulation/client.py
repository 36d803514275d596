"""A client: submits jobs and steers them, and takes note of every answer."""

import math
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import msgspec

from store.errors import GoferError, OutcomeUnknown
from store.job import Backoff, NewJob
from tests.simulation.instance import Instance

#: What jobs do, as in ``Handlers``; what stands here more often is done more often.
_DEEDS = ("pass", "pass", "pass", "talk", "ignore", "later", "never")
#: Seconds that two numbers may differ by that mean the same instant.
_ROUNDING = 0.001
#: Short, so that an end comes soon.
_BACKOFF = Backoff(base=0.5, factor=2.0, cap=4.0)


class Client:
    """Makes requests to one instance until they are all made. Dies with the instance, as its requests do."""

    def __init__(
        self,
        rng: random.Random,
        requests: int,
        *,
        pauses: Sequence[float],
        durations: Sequence[float],
        kills: bool,
        steers: bool,
    ) -> None:
        """``pauses``: seconds between two requests. ``durations``: seconds that a job may take.

        ``kills``: some jobs take the process with them. ``steers``: queues are paused, jobs cancelled.
        """
        self._rng = rng
        self._requests = requests
        self._pauses = pauses
        self._durations = durations
        self._deeds = (*_DEEDS, "kill") if kills else _DEEDS
        self._steers = steers

    def main(self, instance: Instance) -> None:
        """What its thread does."""
        while self._requests > 0 and instance.has_clients:
            self._requests -= 1
            instance.world.scheduler.sleep(self._rng.choice(self._pauses))
            if not instance.listens:
                break
            with instance.request():
                self._make(self._choose(), instance)

    def _make(self, request: Callable[[Instance], None], instance: Instance) -> None:
        try:
            request(instance)
        except OutcomeUnknown:
            instance.crash()  # As the app does.
        except GoferError:
            pass  # Refused, with a reason.

    def _choose(self) -> Callable[[Instance], None]:
        if not self._steers or self._rng.random() < 0.5:
            return self._rng.choice((self._submit, self._submit, self._submit_many))
        return self._rng.choice(
            (self._cancel, self._cancel, self._retry, self._delete, self._pause, self._resume, self._wait)
        )

    def _submit(self, instance: Instance) -> None:
        key = self._rng.choice((None, None, "a", "b"))
        created = instance.engine.submit(self._new_job(instance, key))
        instance.world.ledger.acknowledge(created.job, key)

    def _submit_many(self, instance: Instance) -> None:
        new_jobs = [self._new_job(instance, None) for _ in range(self._rng.randint(2, 4))]
        for created in instance.engine.submit_many(new_jobs):
            instance.world.ledger.acknowledge(created.job, None)

    def _new_job(self, instance: Instance, key: str | None) -> NewJob:
        rng, clock = self._rng, instance.world.clock
        later = rng.random() < 0.2
        what = rng.choice(self._deeds)
        payload = {
            "what": what,
            "seconds": min(rng.choice(self._durations), 12.0 if what == "ignore" else math.inf),
            "failures": rng.choice((0, 0, 1, 2)),
        }
        return NewJob(
            type="act",
            payload=msgspec.Raw(msgspec.json.encode(payload)),
            queue=rng.choice(list(instance.world.queues)),
            priority=rng.choice((0, 0, 5)),
            max_attempts=rng.randint(1, 4),
            timeout=rng.choice((3.0, 60.0, 60.0)),
            run_at=clock.now() + timedelta(seconds=rng.uniform(0.0, 20.0)) if later else None,
            backoff=_BACKOFF,
            idempotency_key=key,
            fingerprint=b"" if key else None,
        )

    def _some_job(self, instance: Instance) -> str:
        known = list(instance.world.ledger.acknowledged) or ["none"]
        return known[-1] if self._rng.random() < 0.3 else self._rng.choice(known)

    def _cancel(self, instance: Instance) -> None:
        instance.engine.cancel(self._some_job(instance))

    def _retry(self, instance: Instance) -> None:
        instance.engine.retry(self._some_job(instance))

    def _delete(self, instance: Instance) -> None:
        instance.engine.delete(self._some_job(instance))

    def _pause(self, instance: Instance) -> None:
        instance.engine.pause(self._rng.choice(list(instance.world.queues)))

    def _resume(self, instance: Instance) -> None:
        instance.engine.resume(self._rng.choice(list(instance.world.queues)))

    def _wait(self, instance: Instance) -> None:
        scheduler = instance.world.scheduler
        begun, seconds = scheduler.now, self._rng.choice((0.5, 5.0))
        job = instance.engine.wait_final(self._some_job(instance), seconds, partial(bool, False))
        if job.status.is_final:
            instance.world.lookout.check_wait(instance.process, job.id, begun)
        elif instance.is_open and scheduler.now < begun + seconds - _ROUNDING:
            scheduler.fail(f"a wait of {seconds:g} s for job {job.id} ended after {scheduler.now - begun:g} s")
