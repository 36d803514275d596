"""Following a job's log while the job runs."""

import threading
from collections.abc import Callable, Generator

from store.clock import Clock
from store.job import LogLine
from store.protocol import JobStore
from worker.errors import ShuttingDown
from worker.job_watch import JobWatch

#: Seconds between two looks at whether a waiting client is still there.
_CLIENT_CHECK_INTERVAL = 1.0
#: Seconds between two looks at a log of which nothing is heard: whatever is missed comes late, not never.
_LONGEST_SILENCE = 10.0


class Follower:
    """Hands out the lines of logs as they are stored. Safe to use from any thread."""

    def __init__(self, store: JobStore, clock: Clock, finals: JobWatch, logs: JobWatch) -> None:
        """``finals`` hears of jobs that became final, ``logs`` of those whose log has new lines."""
        self._store = store
        self._clock = clock
        self._finals = finals
        self._logs = logs

    def follow(self, job_id: str, after: int, gone: Callable[[], bool]) -> Generator[list[LogLine], None, None]:
        """See :meth:`worker.engine.Engine.follow`."""
        with self._finals.watch(job_id) as news, self._logs.watch(job_id, news):
            while True:
                news.clear()
                # The status first: whatever is logged is stored no later than the end is.
                is_final = self._store.get_job(job_id).status.is_final
                if lines := self._store.list_log(job_id, after=after):
                    after = lines[-1].number
                    yield lines
                if is_final:
                    return
                if self._finals.closed:
                    raise ShuttingDown("the service is shutting down")
                if not self._wait(news, gone):
                    return

    def _wait(self, news: threading.Event, gone: Callable[[], bool]) -> bool:
        """Wait until it is worth another look; False when nobody is interested any more."""
        give_up = self._clock.monotonic() + _LONGEST_SILENCE
        while not gone():
            if news.wait(_CLIENT_CHECK_INTERVAL) or self._clock.monotonic() >= give_up:
                return True
        return False
