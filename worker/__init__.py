"""Running jobs. What the author of a handler needs is exported here."""

from store.job import Backoff
from worker.context import JobContext
from worker.errors import Cancelled, Fail, Retry
from worker.registry import handler

__all__ = ["Backoff", "Cancelled", "Fail", "JobContext", "Retry", "handler"]
