"""The peer of the drain: huey's own consumer with four worker threads over the same number of stored tasks.

Fair to it: ``fsync=True`` as Gofer syncs too, results are stored, the workers
poll every millisecond without backing off, tasks are stored in one
transaction beforehand, and counting reads a number in memory.

Run as ``python -m benchmarks.huey_peer FILE TASKS WORKERS``; prints the seconds.
"""

import logging
import sys
import time
from collections.abc import Iterator

from huey import SqliteHuey
from huey.consumer import Consumer


def drain(filename: str, tasks: int, workers: int) -> float:
    """Seconds from the consumer's start to the last stored result."""
    huey = SqliteHuey(filename=filename, fsync=True)

    @huey.task()  # type: ignore[untyped-decorator]  # huey has no types
    def echo(payload: object) -> object:
        return payload

    _store(huey, (huey.serialize_task(echo.s({"n": n})) for n in range(tasks)))
    consumer = Consumer(
        huey, workers=workers, periodic=False, initial_delay=0.001, backoff=1.0, max_delay=0.001, worker_type="thread"
    )
    started = time.perf_counter()
    consumer.start()
    while sum(worker.task_count for worker, _ in consumer.worker_threads) < tasks:
        time.sleep(0.005)
    seconds = time.perf_counter() - started
    consumer.stop(graceful=True)
    assert huey.result_count() == tasks
    return seconds


def _store(huey: SqliteHuey, tasks: Iterator[bytes]) -> None:
    with huey.storage.db(commit=True) as cursor:
        cursor.executemany(
            "insert into task (queue, data, priority) values (?, ?, 0)", ((huey.storage.name, task) for task in tasks)
        )


if __name__ == "__main__":
    logging.disable()
    print(drain(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
