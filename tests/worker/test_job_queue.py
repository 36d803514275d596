import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from store.protocol import DueJob
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.store.race import race
from worker.errors import QueueClosed
from worker.job_queue import JobQueue


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def queue(stop: threading.Event, clock: FakeClock) -> JobQueue:
    """A queue of ten that does not overflow."""
    return fed(JobQueue("default", stop, clock.monotonic, capacity=10))


def fed(queue: JobQueue, *job_ids: str, more: bool = False) -> JobQueue:
    """The queue after the dispatcher brought these."""
    queue.begin_feed()
    assert not queue.fill([DueJob(job_id, 0) for job_id in job_ids], more=more)
    return queue


def fill(queue: JobQueue, count: int = 10) -> None:
    for number in range(count):
        assert queue.offer(f"job {number}", 0)


def taken(queue: JobQueue) -> list[str]:
    """Everything that the queue gives at once."""
    return list(iter(queue.get_nowait, None))


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start a call; its result or its error comes into the list."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except QueueClosed as error:
            results.append(error)

    thread = threading.Thread(target=run, name="gofer-test-caller", daemon=True)
    thread.start()
    return thread, results


def blocked(thread: threading.Thread) -> bool:
    thread.join(0.03)
    return thread.is_alive()


def test_higher_priority_comes_first_and_then_the_order_of_entry(queue: JobQueue) -> None:
    for job_id, priority in [("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5)]:
        assert queue.offer(job_id, priority)
    assert taken(queue) == ["b", "e", "a", "c", "d"]


def test_an_id_is_in_it_once(queue: JobQueue) -> None:
    assert queue.offer("a", 0)
    assert queue.offer("a", 5)
    assert taken(queue) == ["a"]


def test_an_id_that_was_taken_can_come_again(queue: JobQueue) -> None:
    queue.offer("a", 0)
    assert queue.get() == "a"
    assert queue.offer("a", 0)
    assert queue.get() == "a"


def test_get_waits_for_an_id(queue: JobQueue) -> None:
    thread, results = in_thread(queue.get)
    assert blocked(thread)
    queue.offer("a", 0)
    thread.join(5)
    assert results == ["a"]


def test_a_full_queue_makes_the_first_offer_wait_and_then_overflows(
    queue: JobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    fill(queue)
    began = time.monotonic()
    assert not queue.offer("late", 0, timeout=0.05)
    assert time.monotonic() - began >= 0.05
    began = time.monotonic()
    assert not queue.offer("later", 0, timeout=5)
    assert time.monotonic() - began < 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_second_offer_to_a_full_queue_ends_the_wait_of_the_first(queue: JobQueue) -> None:
    fill(queue)
    thread, results = in_thread(lambda: queue.offer("first", 0, timeout=30))
    assert blocked(thread)
    assert not queue.offer("second", 0, timeout=30)
    thread.join(5)
    assert results == [False]


def test_a_queue_that_fills_again_and_again_warns_once_a_minute(
    queue: JobQueue, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    def overflow() -> None:
        fed(queue)
        fill(queue)
        assert not queue.offer("late", 0, timeout=0.001)
        taken(queue)

    overflow()
    overflow()
    assert len(caplog.records) == 1
    clock.advance(60)
    overflow()
    assert len(caplog.records) == 2


def test_an_offer_that_overflows_the_queue_during_a_feed_is_fed_in_later(queue: JobQueue) -> None:
    """The feed that is under way has looked already, so it must not end the overflow."""
    queue.begin_feed()
    fill(queue)
    assert not queue.offer("late", 0, timeout=0.001)
    queue.fill([], more=False)
    taken(queue)
    assert queue.wants_feed()


def test_a_waiting_offer_takes_the_room_that_a_get_leaves(queue: JobQueue) -> None:
    fill(queue)
    thread, results = in_thread(lambda: queue.offer("late", 0, timeout=5))
    assert blocked(thread)
    queue.get()
    thread.join(5)
    assert results == [True]


def test_an_overflowing_queue_refuses_even_when_it_has_room(queue: JobQueue) -> None:
    queue.mark_overflowing()
    assert not queue.accepts
    assert not queue.offer("a", 0)
    assert queue.size == 0


def test_a_queue_begins_overflowing(stop: threading.Event) -> None:
    queue = JobQueue("default", stop, FakeClock().monotonic)
    assert not queue.offer("a", 0)
    assert queue.wants_feed()


def test_a_short_reservation_ends_the_overflow(queue: JobQueue) -> None:
    queue.mark_overflowing()
    fed(queue, "a", "b")
    assert queue.accepts
    assert not queue.wants_feed()
    assert taken(queue) == ["a", "b"]


def test_a_full_reservation_does_not_end_the_overflow(queue: JobQueue) -> None:
    fed(queue, *(f"job {n}" for n in range(10)), more=True)
    assert not queue.accepts


def test_an_offer_during_the_last_feed_is_behind_what_was_fed(queue: JobQueue) -> None:
    """The race that would lose a job: stored after the dispatcher looked, offered before it said so."""
    queue.mark_overflowing()
    queue.begin_feed()
    assert not queue.offer("in between", 0)
    assert queue.fill([DueJob("backlog", 0)], more=False) == []
    assert taken(queue) == ["backlog", "in between"]


def test_more_offers_during_a_feed_than_there_is_room_for_keep_it_overflowing(queue: JobQueue) -> None:
    queue.mark_overflowing()
    queue.begin_feed()
    for number in range(100):
        queue.offer(f"in between {number}", 0)
    queue.fill([DueJob("backlog", 0)], more=False)
    assert queue.wants_feed()
    assert taken(queue) == ["backlog"]


def test_what_does_not_fit_is_returned_and_keeps_it_overflowing(queue: JobQueue) -> None:
    fill(queue, 9)
    assert queue.begin_feed() == 1
    queue.offer("quick", 0)
    assert queue.fill([DueJob("slow", 0)], more=False) == ["slow"]
    assert not queue.accepts


@pytest.mark.parametrize("get", [JobQueue.get, JobQueue.get_nowait])
def test_room_is_told_once_when_an_overflowing_buffer_has_become_half_empty(
    queue: JobQueue, get: Callable[[JobQueue], str | None]
) -> None:
    told: list[int] = []
    queue.on_room = lambda: told.append(queue.size)
    fed(queue, *(f"job {n}" for n in range(10)), more=True)
    for _ in range(10):
        assert get(queue)
    assert told == [5]


def test_no_room_is_told_while_it_does_not_overflow(queue: JobQueue) -> None:
    told: list[int] = []
    queue.on_room = lambda: told.append(queue.size)
    fill(queue)
    taken(queue)
    assert not told


def test_a_discard_that_jumps_over_the_half_tells_of_room(queue: JobQueue) -> None:
    told: list[int] = []
    queue.on_room = lambda: told.append(queue.size)
    fed(queue, *(f"job {n}" for n in range(10)), more=True)
    queue.discard([f"job {n}" for n in range(2, 9)])
    assert told == [3]
    assert taken(queue) == ["job 0", "job 1", "job 9"]


def test_discard_passes_over_what_is_not_there(queue: JobQueue) -> None:
    queue.offer("a", 0)
    queue.discard(["b"])
    assert queue.ids() == ["a"]


def test_drain_gives_everything_in_order(queue: JobQueue) -> None:
    queue.offer("a", 0)
    queue.offer("b", 9)
    assert queue.drain() == ["b", "a"]
    assert queue.offer("a", 0)


def test_get_ends_when_the_service_stops(queue: JobQueue, stop: threading.Event) -> None:
    thread, results = in_thread(queue.get)
    assert blocked(thread)
    stop.set()
    queue.wake()
    thread.join(5)
    assert results == [None]


def test_a_stopped_queue_gives_nothing_though_it_has_ids(queue: JobQueue, stop: threading.Event) -> None:
    queue.offer("a", 0)
    stop.set()
    assert queue.get() is None
    assert queue.get_nowait() is None
    assert queue.close() == ["a"]


def test_a_stopped_queue_takes_nothing(queue: JobQueue, stop: threading.Event) -> None:
    stop.set()
    assert not queue.offer("a", 0)
    assert queue.begin_feed() == 0
    assert not queue.wants_feed()


def test_close_ends_every_wait(queue: JobQueue) -> None:
    getter, got = in_thread(queue.get)
    assert blocked(getter)
    queue.close()
    getter.join(5)
    assert isinstance(got[0], QueueClosed)


def test_close_ends_the_wait_of_an_offer(queue: JobQueue) -> None:
    fill(queue)
    offerer, offered = in_thread(lambda: queue.offer("late", 0, timeout=30))
    assert blocked(offerer)
    queue.close()
    offerer.join(5)
    assert offered == [False]


def test_a_closed_queue_takes_nothing_and_returns_its_rest_once(queue: JobQueue) -> None:
    queue.offer("a", 0)
    assert queue.close() == ["a"]
    assert queue.close() == []
    assert not queue.offer("b", 0)
    assert queue.fill([DueJob("c", 0)], more=False) == ["c"]
    with pytest.raises(QueueClosed):
        queue.get()


def test_every_id_is_given_once_when_many_offer_and_many_get(stop: threading.Event) -> None:
    queue = fed(JobQueue("default", stop, FakeClock().monotonic, capacity=2000))
    got: list[str] = []

    def consume() -> None:
        while (job_id := queue.get()) is not None:
            got.append(job_id)

    def produce(name: int) -> None:
        for number in range(500):
            assert queue.offer(f"{name}-{number}", 0)

    with ThreadPoolExecutor(8) as threads:
        consumers = [threads.submit(consume) for _ in range(4)]
        producers = [threads.submit(produce, name) for name in range(4)]
        for producer in producers:
            producer.result(timeout=20)
        eventually(lambda: len(got) == 2000)
        stop.set()
        queue.wake()
        for consumer in consumers:
            consumer.result(timeout=5)
    assert len(set(got)) == len(got) == 2000


def test_no_stop_is_lost_however_it_falls_before_a_wait() -> None:
    for _ in range(200):
        stop = threading.Event()
        queue = JobQueue("default", stop, FakeClock().monotonic)

        def halt(stop: threading.Event = stop, queue: JobQueue = queue) -> None:
            stop.set()
            queue.wake()

        assert race([queue.get, queue.get, halt]) == [None, None, None]


class ModelStore:
    """Ids that wait to be claimed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pending: set[str] = set()
        self.claimed: list[str] = []

    def create(self, job_id: str) -> None:
        with self.lock:
            self.pending.add(job_id)

    def claim(self, job_id: str) -> None:
        with self.lock:
            if job_id in self.pending:
                self.pending.remove(job_id)
                self.claimed.append(job_id)

    def reserve(self, queue: JobQueue, limit: int) -> list[DueJob]:
        with self.lock:
            return [DueJob(job_id, 0) for job_id in sorted(self.pending - set(queue.ids()))[:limit]]


def test_nothing_is_lost_between_offers_feeds_and_gets() -> None:
    """A dispatcher that feeds as the real one does, and submitters who obey ``offer``."""
    stop, fed_up, store = threading.Event(), threading.Event(), ModelStore()
    queue = JobQueue("default", stop, FakeClock().monotonic, capacity=4)

    def submit(name: int) -> None:
        for number in range(300):
            store.create(f"{name}-{number}")
            queue.offer(f"{name}-{number}", 0, timeout=0.0001)

    def dispatch() -> None:
        while not fed_up.is_set():
            if queue.wants_feed():
                room = queue.begin_feed()
                found = store.reserve(queue, room)
                queue.fill(found, more=len(found) >= room)

    def work() -> None:
        while (job_id := queue.get()) is not None:
            store.claim(job_id)

    with ThreadPoolExecutor(8) as threads:
        tasks = [threads.submit(work), threads.submit(work), threads.submit(dispatch)]
        for submitter in [threads.submit(submit, name) for name in range(3)]:
            submitter.result(timeout=20)
        eventually(lambda: len(store.claimed) == 900, timeout=10)
        fed_up.set()
        stop.set()
        queue.wake()
        for task in tasks:
            task.result(timeout=5)
    assert len(set(store.claimed)) == 900
