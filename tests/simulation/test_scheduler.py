"""The scheduler and its primitives, with no engine on them."""

import random
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from tests.simulation.carriers import Carriers
from tests.simulation.primitives import primitives
from tests.simulation.scheduler import Broken, Scheduler
from tests.simulation.task import Process

WORLD = Process("world")


@pytest.fixture
def carriers() -> Iterator[Carriers]:
    """Threads that end with the test."""
    made = Carriers()
    yield made
    made.close()


@pytest.fixture
def new_scheduler(carriers: Carriers) -> Callable[[int], Scheduler]:
    """Schedulers by seed."""
    return lambda seed: Scheduler(random.Random(seed), carriers)


@pytest.fixture
def scheduler(new_scheduler: Callable[[int], Scheduler]) -> Scheduler:
    """One of them."""
    return new_scheduler(1)


@pytest.fixture
def sim(scheduler: Scheduler) -> SimpleNamespace:
    """What stands for ``threading``."""
    return primitives(scheduler)


def race(scheduler: Scheduler) -> str:
    """The order in which three threads take a lock twice."""
    sim = primitives(scheduler)
    order: list[str] = []

    def take(lock: object, name: str) -> None:
        for _ in range(2):
            with lock:  # type: ignore[attr-defined]
                order.append(name)

    def main() -> None:
        lock = sim.Lock()
        threads = [sim.Thread(target=take, args=(lock, name), name=name) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    scheduler.run(WORLD, main)
    return "".join(order)


def test_seeds_give_different_orders_and_the_same_seed_the_same(new_scheduler: Callable[[int], Scheduler]) -> None:
    orders = [race(new_scheduler(seed)) for seed in range(50)]

    assert len(set(orders)) > 5
    assert orders == [race(new_scheduler(seed)) for seed in range(50)]


def test_time_passes_only_when_nobody_can_run(scheduler: Scheduler, sim: SimpleNamespace) -> None:
    times = []

    def main() -> None:
        assert not sim.Event().wait(3600.0)
        times.append(scheduler.now)
        for _ in range(100):
            scheduler.step()
        times.append(scheduler.now)

    scheduler.run(WORLD, main)

    assert times == [3600.0, 3600.0]


def test_a_deadlock_is_found(scheduler: Scheduler, sim: SimpleNamespace) -> None:
    def main() -> None:
        lock = sim.Lock()
        with lock:
            lock.acquire()

    with pytest.raises(Broken, match="deadlock"):
        scheduler.run(WORLD, main)


def test_threads_that_keep_each_other_busy_are_found(scheduler: Scheduler, sim: SimpleNamespace) -> None:
    def main() -> None:
        while True:
            sim.Event().set()

    with pytest.raises(Broken, match="busy"):
        scheduler.run(WORLD, main)


def test_an_error_that_ends_a_thread_is_found(scheduler: Scheduler, sim: SimpleNamespace) -> None:
    def fail() -> None:
        raise ValueError("boom")

    def main() -> None:
        sim.Thread(target=fail, name="unlucky").start()
        scheduler.sleep(1.0)

    with pytest.raises(Broken, match=r"(?s)unlucky died of .*ValueError: boom"):
        scheduler.run(WORLD, main)


def test_a_killed_process_does_nothing_more_whatever_it_catches(scheduler: Scheduler) -> None:
    victim = Process("victim")
    done = []

    def live() -> None:
        while True:
            try:
                scheduler.sleep(1.0)
                done.append(scheduler.now)
            except BaseException:
                scheduler.step()

    def main() -> None:
        scheduler.spawn("main", victim, live)
        scheduler.sleep(2.5)
        scheduler.kill(victim)
        scheduler.sleep(10.0)

    scheduler.run(WORLD, main)

    assert done == [1.0, 2.0]


def test_who_was_killed_cannot_find_fault_with_a_world_that_has_gone_on(scheduler: Scheduler) -> None:
    victim = Process("victim")

    def live() -> None:
        try:
            scheduler.sleep(1.0)
        finally:
            scheduler.fail("late")

    def main() -> None:
        scheduler.spawn("main", victim, live)
        scheduler.sleep(0.5)
        scheduler.kill(victim)
        scheduler.sleep(10.0)

    scheduler.run(WORLD, main)


def test_a_frozen_process_finds_its_deadlines_passed_when_it_goes_on(scheduler: Scheduler) -> None:
    sleeper = Process("sleeper")
    done = []

    def live() -> None:
        scheduler.sleep(1.0)
        done.append(scheduler.now)

    def main() -> None:
        scheduler.spawn("main", sleeper, live)
        scheduler.sleep(0.5)
        scheduler.freeze(sleeper)
        scheduler.sleep(30.0)
        scheduler.thaw(sleeper)
        scheduler.sleep(0.1)

    scheduler.run(WORLD, main)

    assert done == [30.5]


def test_a_notice_wakes_who_waits(scheduler: Scheduler, sim: SimpleNamespace) -> None:
    woken = []

    def wait(condition: object) -> None:
        with condition:  # type: ignore[attr-defined]
            woken.append(condition.wait(10.0))  # type: ignore[attr-defined]

    def main() -> None:
        condition = sim.Condition()
        threads = [sim.Thread(target=wait, args=(condition,), name=name) for name in "ab"]
        for thread in threads:
            thread.start()
        scheduler.sleep(1.0)
        with condition:
            condition.notify()
        for thread in threads:
            thread.join()

    scheduler.run(WORLD, main)

    assert sorted(woken) == [False, True]
    assert scheduler.now == 10.0
