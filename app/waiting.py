"""Requests that wait for a job: bounded, so that server threads are left for all others."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.request_headers import Environ
from store.job import Job
from worker.engine import Engine

#: Seconds: no request waits longer for the end of a job. Following its log has no such limit.
MAX_WAIT = 60


class WaitingRoom:
    """Bounds how many server threads wait at the same time. Safe to use from any thread."""

    def __init__(self, engine: Engine, seats: int) -> None:
        self._engine = engine
        self._seats = threading.BoundedSemaphore(seats)

    @contextmanager
    def seat(self) -> Iterator[bool]:
        """Whether there was a free seat; it is taken until the end of the block."""
        seated = self._seats.acquire(blocking=False)
        try:
            yield seated
        finally:
            if seated:
                self._seats.release()

    def wait(self, job_id: str, seconds: float, environ: Environ) -> Job:
        """The job once it is final, or as it is when the time is up or the client has gone away.

        It is the job as it is now when every seat is taken. Raises JobNotFound.
        """
        if seconds > 0:
            with self.seat() as seated:
                if seated:
                    return self._engine.wait_final(job_id, seconds, gone(environ))
        return self._engine.store.get_job(job_id)


def gone(environ: Environ) -> Callable[[], bool]:
    """Tells whether the client has hung up; waitress knows, other servers may not."""
    tell: Callable[[], bool] = environ.get("waitress.client_disconnected", _stays)
    return tell


def _stays() -> bool:
    return False
