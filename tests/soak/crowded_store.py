"""A store with very many jobs, made faster than by submitting them."""

import random
from collections.abc import Iterator
from pathlib import Path

import apsw

from store.clock import SystemClock
from store.ids import IdSource
from store.sqlite import SqliteStore
from store.sqlite.rows import from_micros, to_micros

#: Microseconds between two jobs.
SPACING = 10_000
#: What the next hundred jobs are, over and over: status, type, queue, tag. Each filter that matches most of the jobs
#: has one beside it that matches many others, but none of the same.
_MIXED = (
    *[("completed", "echo", "default", "many")] * 70,
    ("failed", "echo", "default", "many"),
    ("cancelled", "echo", "default", "many"),
    *[("pending", "sleep", "reports", "others")] * 28,
)
_PENDING = (("pending", "echo", "default", "many"),)

_INSERT = """
INSERT INTO jobs (
    id, type, queue, status, priority, payload, result, max_attempts, timeout, tags, created_at, run_at, attempt,
    started_at, finished_at
) VALUES (?, ?, ?, ?, 0, ?, ?, 5, 60, ?, ?, ?, ?, ?, ?)
"""
_TAG = "INSERT INTO job_tags (tag, job) SELECT json_extract(tags, '$[0]'), number FROM jobs ORDER BY 1, 2"


class CrowdedStore:
    """The database ``path``, new, with so many jobs; the last was created just now, the others before it."""

    def __init__(self, path: Path, jobs: int, *, mixed: bool = False) -> None:
        """``mixed``: most are final, and most of the others are of another type, queue and tag. Else all are pending.

        The queues are paused, so that nothing is run yet.
        """
        self.jobs = jobs
        self._kinds = _MIXED if mixed else _PENDING
        self._begin = to_micros(SystemClock().now()) - jobs * SPACING
        SqliteStore(path, SystemClock(), random.Random(1)).close()
        connection = apsw.Connection(str(path))
        connection.pragma("synchronous", "off")
        with connection:
            connection.executemany(_INSERT, self._rows())
            connection.execute(_TAG)
            connection.execute("INSERT INTO paused_queues VALUES ('default'), ('reports')")
        connection.close()

    def created_at(self, part: float) -> str:
        """When the job at this part of all was created, as the API has it: 0 the first, 1 after the last."""
        instant = from_micros(self._begin + int(part * self.jobs) * SPACING)
        return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _rows(self) -> Iterator[tuple[object, ...]]:
        created = self._begin
        ids = IdSource(lambda: from_micros(created), random.Random(1))
        for number in range(self.jobs):
            status, kind, queue, tag = self._kinds[number % len(self._kinds)]
            created = self._begin + number * SPACING
            is_final = status != "pending"
            end = created + 1_000 if is_final else None
            result = "null" if status == "completed" else None
            yield (
                *(ids.next(), kind, queue, status, f'{{"n":{number}}}', result, f'["{tag}"]'),
                *(created, created, int(is_final), created if is_final else None, end),
            )
