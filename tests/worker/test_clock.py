"""The wall clock is set while an engine runs: what lasts a while lasts as long, what waits for an instant gets it."""

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from store.errors import StoreUnavailable
from store.job import AttemptStatus, JobStatus
from store.memory import MemoryStore
from store.sqlite import SqliteStore
from store.transitions import Failed
from tests.eventually import eventually
from tests.fake_clock import START, FakeClock
from tests.store.samples import BOOM, OURS, create_processing, finish
from tests.worker.faulty_store import FaultyStore
from tests.worker.harness import Harness, NewHarness, new_job
from worker import follower
from worker.dispatcher import Dispatcher
from worker.errors import Retry
from worker.job_queue import JobQueue
from worker.loop import Loop
from worker.maintainer import Maintainer
from worker.running import RunningJobs

HOUR = 3600.0
EITHER_WAY = pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The engine looks at it all the time, since it waits on the real one."""
    monkeypatch.setattr("worker.maintainer._LOOK", 0.005)
    monkeypatch.setattr("worker.dispatcher._LONGEST_SLEEP", 0.005)
    return FakeClock()


@pytest.fixture
def made(new_harness: NewHarness, clock: FakeClock) -> Harness:
    return new_harness(clock=clock, handlers={"later": _later}).start()


def _later(ctx: object, payload: object) -> object:
    raise Retry(after=60)


def set_clock(made: Harness, clock: FakeClock, seconds: float) -> None:
    """Returns when the store and the dispatcher know."""
    maintainer = loop_of(made, "gofer-maintainer")
    clock.jump(seconds)
    turn(maintainer, 2)
    turn(loop_of(made, "gofer-dispatcher"), 2)


def loop_of(made: Harness, name: str) -> Loop:
    return next(loop for loop in made.engine._parts.loops if loop.name == name)


def turn(loop: Loop, times: int = 1) -> None:
    """Returns after as many turns of a loop that began after the call, less one that may have begun before."""
    taken = threading.Semaphore(0)
    inner = loop._turn

    def counted() -> float | None:
        delay = inner()
        taken.release()
        return delay

    loop._turn = counted
    try:
        for _ in range(times):
            loop.wake()
            assert taken.acquire(timeout=5), loop.name
    finally:
        loop._turn = inner


def wait_for_retry(made: Harness) -> str:
    """A job whose first attempt has just failed, and which is to run again in 60 s."""
    job_id = made.submit("later", max_attempts=2)
    eventually(lambda: (job := made.job(job_id)).attempt == 1 and job.status is JobStatus.PENDING)
    return job_id


@EITHER_WAY
def test_a_retry_waits_as_long_as_it_is_to(made: Harness, clock: FakeClock, jump: float) -> None:
    job_id = wait_for_retry(made)
    set_clock(made, clock, jump)
    assert made.job(job_id).run_at == clock.now() + timedelta(seconds=60)
    clock.advance(59)
    turn(loop_of(made, "gofer-dispatcher"), 2)
    assert made.job(job_id).attempt == 1
    clock.advance(1)
    assert made.wait_for(job_id, JobStatus.FAILED).attempt == 2


@EITHER_WAY
def test_jobs_that_are_due_are_run(made: Harness, clock: FakeClock, jump: float) -> None:
    """Those in the buffer, and those that are in the store alone."""
    made.block_worker()
    ids = [made.submit("gate", number) for number in range(3)]
    created = made.engine.submit_many([new_job("gate", number) for number in range(3, 150)])
    ids += [each.job.id for each in created]
    set_clock(made, clock, jump)
    ids.append(made.submit("gate", 150))
    made.gate.set()
    for job_id in ids:
        made.wait_for(job_id, JobStatus.COMPLETED)
    assert made.passed[1:] == list(range(151))


def test_an_instant_is_reached_when_the_clock_is_set_forward(made: Harness, clock: FakeClock) -> None:
    job_id = made.submit(run_at=clock.now() + timedelta(minutes=30))
    clock.jump(HOUR)
    made.wait_for(job_id, JobStatus.COMPLETED)


def test_an_instant_is_put_off_when_the_clock_is_set_back(made: Harness, clock: FakeClock) -> None:
    job_id = made.submit(run_at=clock.now() + timedelta(seconds=10))
    set_clock(made, clock, -HOUR)
    clock.advance(10)
    turn(loop_of(made, "gofer-dispatcher"), 2)
    assert made.job(job_id).status is JobStatus.PENDING
    clock.advance(HOUR)
    made.wait_for(job_id, JobStatus.COMPLETED)


def test_a_buffered_job_with_an_instant_waits_for_it_once_more(made: Harness, clock: FakeClock) -> None:
    made.block_worker()
    job_id = made.submit(run_at=clock.now())
    set_clock(made, clock, -HOUR)
    made.gate.set()
    eventually(lambda: made.engine.stats()["busy"] == 0)
    assert made.job(job_id).status is JobStatus.PENDING
    clock.advance(HOUR)
    made.wait_for(job_id, JobStatus.COMPLETED)


@EITHER_WAY
def test_leases_and_timeouts_last_as_long(made: Harness, clock: FakeClock, jump: float) -> None:
    job_id = made.block_worker(timeout=60.0)
    set_clock(made, clock, jump)
    for name in ("gofer-reaper", "gofer-watchdog"):
        turn(loop_of(made, name), 2)
    assert made.job(job_id).status is JobStatus.PROCESSING
    made.gate.set()
    assert made.wait_for(job_id, JobStatus.COMPLETED).attempt == 1


@EITHER_WAY
def test_a_timeout_comes_when_its_time_has_passed(made: Harness, clock: FakeClock, jump: float) -> None:
    job_id = made.block_worker(timeout=60.0, max_attempts=1)
    set_clock(made, clock, jump)
    clock.advance(61)
    turn(loop_of(made, "gofer-watchdog"), 2)
    made.wait_for(job_id, JobStatus.FAILED)
    assert [attempt.status for attempt in made.store.list_attempts(job_id)] == [AttemptStatus.TIMED_OUT]


@EITHER_WAY
def test_who_waits_for_a_job_waits_as_long(
    made: Harness, clock: FakeClock, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engine._CLIENT_CHECK_INTERVAL", 0.005)
    job_id = made.block_worker()
    looks = threading.Semaphore(0)
    seen: list[JobStatus] = []

    def gone() -> bool:
        looks.release()
        return False

    waiter = threading.Thread(target=lambda: seen.append(made.engine.wait_final(job_id, 30, gone).status))
    waiter.start()
    clock.jump(jump)
    for _ in range(3):
        assert looks.acquire(timeout=5)
    assert not seen
    clock.advance(30)
    waiter.join(5)
    assert seen == [JobStatus.PROCESSING]


@EITHER_WAY
def test_a_log_of_which_nothing_is_heard_is_looked_at_after_as_long(
    new_harness: NewHarness, clock: FakeClock, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_CLIENT_CHECK_INTERVAL", 0.005)
    faulty = FaultyStore(MemoryStore(clock, random.Random(1)))
    made = new_harness(faulty, clock=clock).start()
    job_id = made.block_worker()
    looks, is_gone = threading.Semaphore(0), threading.Event()

    def gone() -> bool:
        looks.release()
        return is_gone.is_set()

    def has_looked_around() -> bool:
        """After as many looks at the client as would show that it is time to look at the log."""
        return all(looks.acquire(timeout=5) for _ in range(3))

    reader = threading.Thread(target=lambda: list(made.engine.follow(job_id, 0, gone)))
    reader.start()
    try:
        assert has_looked_around()
        clock.jump(jump)
        clock.advance(follower._LONGEST_SILENCE - 1)
        # Those that were there before the jump are over.
        while looks.acquire(blocking=False):
            pass
        assert has_looked_around()
        assert faulty.calls["list_log"] == 1
        clock.advance(1)
        eventually(lambda: faulty.calls["list_log"] == 2)
    finally:
        is_gone.set()
        reader.join(5)
    assert not reader.is_alive()


@EITHER_WAY
def test_a_shutdown_waits_as_long(new_harness: NewHarness, clock: FakeClock, jump: float) -> None:
    made = new_harness(clock=clock, shutdown_timeout=30.0).start()
    job_id = made.block_worker()
    stopper = threading.Thread(target=made.engine.stop)
    stopper.start()
    eventually(made.engine._parts.stop.is_set)
    clock.jump(jump)
    made.gate.set()
    stopper.join(5)
    assert not stopper.is_alive()
    assert made.job(job_id).status is JobStatus.COMPLETED


def test_results_are_kept_for_as_long_as_the_wall_clock_says(new_harness: NewHarness, clock: FakeClock) -> None:
    made = new_harness(clock=clock, retention={JobStatus.COMPLETED: 1800.0}).start()
    job_id = made.submit()
    made.wait_for(job_id, JobStatus.COMPLETED)
    for seconds, completed in ((-HOUR, 1), (HOUR, 1), (HOUR, 0)):
        clock.jump(seconds)
        turn(loop_of(made, "gofer-retention"), 2)
        assert made.engine.stats()["completed"] == completed


@pytest.mark.parametrize(("jump", "way"), [(HOUR, "forward"), (-HOUR, "back")])
def test_it_is_told_once(
    made: Harness, clock: FakeClock, jump: float, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "worker.maintainer")
    for _ in range(2):
        wait_for_retry(made)
    set_clock(made, clock, jump)
    turn(loop_of(made, "gofer-maintainer"), 3)
    told = [record.getMessage() for record in caplog.records if record.name == "worker.maintainer"]
    assert told == [f"the wall clock was set {way} by 3600.0 s; 2 waiting jobs were moved along"]


@pytest.mark.parametrize(("jump", "all_along"), [(HOUR, False), (-HOUR, True)], ids=["forward", "back"])
def test_queues_are_looked_at_while_jobs_are_moved_only_if_that_finds_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float, all_along: bool
) -> None:
    """Each look meets every job that is not moved yet and only seems to be due, and holds up all who write."""
    monkeypatch.setattr("worker.maintainer._BATCH", 1)
    clock = FakeClock()
    with closing(SqliteStore(tmp_path / "gofer.db", clock, random.Random(1))) as store:
        for _ in range(3):
            finish(store, create_processing(store), Failed(BOOM, retry_in=60))
        dispatcher = Dispatcher(
            store, clock, {"default": JobQueue("default", threading.Event(), clock.monotonic)}, RunningJobs(), OURS
        )
        dispatcher.open()
        dispatcher.loop._turn()
        maintainer = Maintainer(store, clock, dispatcher, ["default"])
        maintainer._turn()  # As at each start.
        assert dispatcher._wanted()
        clock.jump(jump)
        looks = []
        while maintainer._turn() < 1:
            looks.append(bool(dispatcher._wanted()))
        assert looks == [True, *[all_along] * (len(looks) - 1)]
        assert len(looks) >= 3
        assert dispatcher._wanted(), "at the end"


def test_a_store_that_fails_meanwhile_follows_later(
    new_harness: NewHarness, clock: FakeClock, short_waits: None, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = FaultyStore(MemoryStore(clock, random.Random(1)))
    made = new_harness(faulty, clock=clock, handlers={"later": _later}).start()
    wait_for_retry(made)
    faulty.fail("follow_clock", StoreUnavailable("not now"), times=3)
    clock.jump(-HOUR)
    eventually(lambda: "set back by 3600.0 s; 1 waiting jobs were moved along" in caplog.text)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is that of a place with summer time."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("begin", "instants"),
    [
        # 02:30 comes twice in the night of 25 October 2026.
        ("2026-10-25T00:00:00+00:00", ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"]),
        # There is no 02:30 in the night of 29 March 2026; each of these is half an hour after the change or before.
        ("2026-03-29T00:00:00+00:00", ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"]),
    ],
    ids=["autumn", "spring"],
)
@pytest.mark.usefixtures("berlin")
def test_instants_around_the_change_of_summer_time_are_an_hour_apart(
    new_harness: NewHarness, clock: FakeClock, begin: str, instants: list[str]
) -> None:
    clock.jump((datetime.fromisoformat(begin) - START).total_seconds())
    made = new_harness(clock=clock).start()
    first, second = (made.submit(run_at=datetime.fromisoformat(instant).astimezone(UTC)) for instant in instants)
    clock.advance(1800)
    assert made.wait_for(first, JobStatus.COMPLETED).started_at == clock.now()
    clock.advance(3599)
    turn(loop_of(made, "gofer-dispatcher"), 2)
    assert made.job(second).status is JobStatus.PENDING
    clock.advance(1)
    assert made.wait_for(second, JobStatus.COMPLETED).started_at == clock.now()


@pytest.mark.usefixtures("berlin")
def test_a_change_of_summer_time_moves_nothing(
    made: Harness, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.jump((datetime(2026, 10, 25, 0, 59, 30, tzinfo=UTC) - clock.now()).total_seconds())
    turn(loop_of(made, "gofer-maintainer"), 3)
    caplog.clear()
    job_id = wait_for_retry(made)
    clock.advance(59)
    turn(loop_of(made, "gofer-dispatcher"), 2)
    assert made.job(job_id).attempt == 1
    clock.advance(1)
    assert made.wait_for(job_id, JobStatus.FAILED).attempt == 2
    assert "wall clock" not in caplog.text
