"""Following a job's log while it runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from store.errors import JobNotFound
from store.job import JobStatus
from store.protocol import Note
from tests.eventually import eventually
from tests.store.samples import DONE, OURS, line
from tests.talk import Talk
from tests.worker.faulty_store import FaultyStore
from tests.worker.harness import Harness, NewHarness
from worker import follower
from worker.context import JobContext
from worker.errors import Cancelled, Retry, ShuttingDown


class Reader:
    """Somebody who follows a log, in a thread of its own."""

    def __init__(self, made: Harness, job_id: str, after: int = 0) -> None:
        #: What came so far.
        self.numbers: list[int] = []
        self.messages: list[str] = []
        #: How it ended, if with an error.
        self.error: BaseException | None = None
        self._is_gone = threading.Event()
        #: How often it was asked whether it is gone.
        self.asked = 0
        self._batches = made.engine.follow(job_id, after, self._gone)
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _gone(self) -> bool:
        self.asked += 1
        return self._is_gone.is_set()

    def _read(self) -> None:
        try:
            for batch in self._batches:
                self.numbers += [each.number for each in batch]
                self.messages += [each.message for each in batch]
        except Exception as error:
            self.error = error

    def leave(self) -> None:
        """Hang up."""
        self._is_gone.set()

    def has_ended(self) -> bool:
        self.thread.join(5)
        return not self.thread.is_alive()


@contextmanager
def reading(made: Harness, job_id: str, after: int = 0) -> Iterator[Reader]:
    reader = Reader(made, job_id, after)
    try:
        yield reader
    finally:
        reader.leave()
        assert reader.has_ended()


@pytest.fixture(autouse=True)
def short_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that left is noticed at once."""
    monkeypatch.setattr(follower, "_CLIENT_CHECK_INTERVAL", 0.005)


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_lines_come_while_the_job_runs_and_the_last_ones_before_the_end(new_harness: NewHarness, talk: Talk) -> None:
    made = new_harness(handlers={"talk": talk}).start()
    job_id = made.submit("talk")
    with reading(made, job_id) as reader:
        for text in ("one", "two"):
            talk.say(text)
            eventually(lambda text=text: reader.messages[-1:] == [text])
        talk.say("three")
        talk.end()
        assert reader.has_ended()
    assert (reader.numbers, reader.messages) == ([1, 2, 3], ["one", "two", "three"])
    assert reader.error is None


def test_a_job_that_waits_is_followed_until_it_has_run(new_harness: NewHarness, talk: Talk) -> None:
    made = new_harness(handlers={"talk": talk}).start()
    made.block_worker()
    with reading(made, made.submit("talk")) as reader:
        eventually(lambda: reader.asked)
        talk.say("at last")
        talk.end()
        made.gate.set()
        assert reader.has_ended()
    assert reader.messages == ["at last"]


def test_what_a_failed_attempt_said_last_comes_before_the_next_one_begins(new_harness: NewHarness, talk: Talk) -> None:
    made = new_harness(handlers={"talk": talk}).start()
    with reading(made, made.submit("talk")) as reader:
        talk.say("no luck")
        talk.end(Retry(after=3600))
        eventually(lambda: reader.messages == ["no luck"])


def test_a_job_that_has_ended_is_told_to_its_end_at_once(new_harness: NewHarness, talk: Talk) -> None:
    made = new_harness(handlers={"talk": talk}).start()
    job_id = made.submit("talk")
    talk.say("one")
    talk.say("two")
    talk.end()
    made.final(job_id)
    assert [[each.message for each in batch] for batch in made.engine.follow(job_id, 1, lambda: True)] == [["two"]]


def test_a_job_that_is_cancelled_while_it_waits_ends_its_log(new_harness: NewHarness) -> None:
    made = new_harness().start()
    made.block_worker()
    job_id = made.submit()
    with reading(made, job_id) as reader:
        eventually(lambda: reader.asked)
        made.engine.cancel(job_id)
        assert reader.has_ended()
    assert reader.error is None


def test_a_job_that_is_cancelled_while_it_runs_is_followed_until_it_has_ended(
    new_harness: NewHarness, talk: Talk
) -> None:
    made = new_harness(handlers={"talk": talk}).start()
    job_id = made.submit("talk")
    made.wait_for(job_id, JobStatus.PROCESSING)
    with reading(made, job_id) as reader:
        made.engine.cancel(job_id)
        talk.say("tidying up")
        talk.end(Cancelled())
        assert reader.has_ended()
    assert reader.messages == ["tidying up"]


def test_a_reader_that_has_left_is_not_waited_for(new_harness: NewHarness, talk: Talk) -> None:
    made = new_harness(handlers={"talk": talk}).start()
    with reading(made, made.submit("talk")) as reader:
        eventually(lambda: reader.asked)
        reader.leave()
        assert reader.has_ended()
    talk.end()


def test_the_stop_of_the_service_ends_every_log(new_harness: NewHarness, talk: Talk) -> None:
    made = new_harness(handlers={"talk": talk}).start()
    with reading(made, made.submit("talk")) as reader:
        talk.say("begun")
        eventually(lambda: reader.messages)
        made.engine.begin_stop()
        assert reader.has_ended()
    assert isinstance(reader.error, ShuttingDown)
    talk.end()


def test_a_log_that_is_followed_once_the_service_stops_is_shown_as_it_is(new_harness: NewHarness) -> None:
    made = new_harness().start()
    job_id = made.block_worker()
    made.engine.begin_stop()
    with pytest.raises(ShuttingDown):
        next(made.engine.follow(job_id, 0, lambda: False))


def test_there_is_nothing_to_follow_of_a_job_that_is_not_there(new_harness: NewHarness) -> None:
    made = new_harness().start()
    with pytest.raises(JobNotFound):
        next(made.engine.follow("nobody", 0, lambda: False))


def test_nothing_is_read_while_nothing_happens(new_harness: NewHarness, faulty: FaultyStore) -> None:
    made = new_harness(faulty).start()
    job_id = made.block_worker()
    with reading(made, job_id) as reader:
        eventually(lambda: reader.asked >= 20)
        assert faulty.calls["list_log"] == 1


def test_news_that_nobody_told_come_late_and_not_never(
    new_harness: NewHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_LONGEST_SILENCE", 0.02)
    made = new_harness().start()
    made.block_worker()
    made.engine.pause("default")
    job_id = made.submit()
    made.store.resume_queue("default")
    assert made.store.claim_job(job_id, OURS) is not None
    with reading(made, job_id) as reader:
        eventually(lambda: reader.asked)
        made.store.record_notes([Note(job_id, 1, None, (line("by somebody else"),))])
        eventually(lambda: reader.messages == ["by somebody else"])
        made.store.finish_job(job_id, 1, DONE)
        assert reader.has_ended()


def test_nobody_is_remembered_who_follows_no_more(new_harness: NewHarness) -> None:
    made = new_harness().start()
    job_id = made.block_worker()
    with reading(made, job_id) as reader:
        eventually(lambda: reader.asked)
    batches = made.engine.follow(job_id, 0, lambda: False)
    batches.close()
    assert made.engine._parts.finals._waiting == {}
    assert made.engine._parts.follower._logs._waiting == {}
    made.gate.set()
    made.final(job_id)


def test_a_log_that_grows_faster_than_it_is_stored_keeps_its_last_lines(new_harness: NewHarness, talk: Talk) -> None:
    made = new_harness(handlers={"talk": talk}, log_lines=5).start()
    job_id = made.submit("talk")

    def shout(ctx: JobContext) -> None:
        for number in range(1, 101):
            ctx.log(str(number))

    talk.then(shout)
    talk.end()
    made.final(job_id)
    log = made.store.list_log(job_id)
    assert [each.message for each in log][-5:] == [str(number) for number in range(96, 101)]
    assert all(str(each.number) == each.message for each in log)
