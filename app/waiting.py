"""Requests that wait for a job to end: bounded, so that server threads are left for all others."""

import threading
from collections.abc import Callable

from app.request_headers import Environ
from store.job import Job
from worker.engine import Engine

#: Seconds: no request waits longer.
MAX_WAIT = 60


class WaitingRoom:
    """Bounds how many server threads wait at the same time. Safe to use from any thread."""

    def __init__(self, engine: Engine, seats: int) -> None:
        self._engine = engine
        self._seats = threading.BoundedSemaphore(seats)

    def wait(self, job_id: str, seconds: float, environ: Environ) -> Job:
        """The job once it is final, or as it is when the time is up or the client has gone away.

        It is the job as it is now when every seat is taken. Raises JobNotFound.
        """
        if seconds <= 0 or not self._seats.acquire(blocking=False):
            return self._engine.store.get_job(job_id)
        try:
            return self._engine.wait_final(job_id, seconds, _gone(environ))
        finally:
            self._seats.release()


def _gone(environ: Environ) -> Callable[[], bool]:
    """Tells whether the client has hung up; waitress knows, other servers may not."""
    gone: Callable[[], bool] = environ.get("waitress.client_disconnected", _stays)
    return gone


def _stays() -> bool:
    return False
