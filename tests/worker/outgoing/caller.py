"""``http`` jobs without an engine: a payload in, a result or an exception out."""

import ssl
from collections.abc import Sequence
from typing import Any

import msgspec

from store.clock import Clock, SystemClock
from store.transitions import claimed, created
from tests.fake_clock import START
from tests.worker.harness import new_job
from worker.context import JobContext
from worker.handlers.http import HttpJobs
from worker.notes import Notes
from worker.outgoing.addresses import AllowList
from worker.outgoing.connections import Connections
from worker.outgoing.egress import Egress, Resolver, resolve

JOB_ID = "0192f0c1-0000-7000-8000-000000000001"


class Caller:
    """Makes the calls of one job."""

    def __init__(
        self,
        *,
        allow: Sequence[str] = ("127.0.0.1", "::1"),
        resolver: Resolver = resolve,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        max_body: int = 262_144,
        traceparent: str | None = None,
    ) -> None:
        clock = clock or SystemClock()
        egress = Egress(AllowList.of(allow), resolver)
        self.jobs = HttpJobs(
            Connections(egress, proxy=proxy, tls=tls), egress, clock, max_body=max_body, user_agent="gofer/test"
        )
        job = claimed(created(new_job("http", traceparent=traceparent), JOB_ID, START), START)
        self._notes = Notes(1)
        self.ctx = JobContext(job, self._notes, clock, lambda: None)

    def decode(self, **payload: Any) -> Any:
        """The checked payload. Raises InvalidPayload."""
        return self.jobs.spec.decode(msgspec.Raw(msgspec.json.encode(payload)))

    def call(self, url: str, **payload: Any) -> dict[str, Any]:
        """The result; raises what the handler raises."""
        result: Any = self.jobs.spec.function(self.ctx, self.decode(url=url, **payload))
        return dict(result)

    def log(self) -> list[str]:
        """What the calls have logged since the last look."""
        return [line.message for line in self._notes.take().lines]
