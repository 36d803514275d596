import math
import threading
from datetime import timedelta

import pytest

from store.job import Job, Progress
from store.transitions import claimed, created
from tests.fake_clock import START, FakeClock
from tests.worker.harness import new_job
from worker.context import JobContext
from worker.errors import Cancelled
from worker.notes import MAX_LINE, Notes, Unsaved

#: How many unsaved lines the notes of these tests keep.
KEEP = 10


class Setting:
    """A context, and what its engine sees of it."""

    def __init__(self) -> None:
        self.notes = Notes(1, keep=KEEP)
        self.told = 0
        self.ctx = JobContext(running_job(), self.notes, FakeClock(), self._tell)

    def _tell(self) -> None:
        self.told += 1

    def lines(self) -> list[str]:
        return [line.message for line in self.notes.take().lines]


def running_job(**fields: object) -> Job:
    return claimed(created(new_job(timeout=90.0, **fields), "job-1", START), START)


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_it_tells_who_and_until_when(setting: Setting) -> None:
    ctx = setting.ctx
    assert (ctx.job_id, ctx.type, ctx.attempt) == ("job-1", "echo", 1)
    assert ctx.deadline == START + timedelta(seconds=90)


def test_a_log_line_carries_time_attempt_and_level(setting: Setting) -> None:
    setting.ctx.log("hello")
    setting.ctx.log("oh", level="warning")
    taken = setting.notes.take()
    first, second = taken.lines
    assert (first.time, first.attempt, first.level, first.message) == (START, 1, "info", "hello")
    assert second.level == "warning"
    assert (taken.skipped, taken.progress) == (0, None)
    assert setting.told == 2


def test_an_unknown_level_is_refused_and_names_the_known(setting: Setting) -> None:
    with pytest.raises(ValueError, match="debug, info, warning, error"):
        setting.ctx.log("hello", level="loud")


def test_a_long_line_is_cut_with_a_mark(setting: Setting) -> None:
    setting.ctx.log("x" * (MAX_LINE + 1))
    assert setting.lines() == ["x" * MAX_LINE + " … (cut; it had 8193 characters)"]


def log(setting: Setting, numbers: range) -> None:
    for number in numbers:
        setting.ctx.log(str(number))


def messages(taken: Unsaved) -> list[int]:
    return [int(line.message) for line in taken.lines]


def test_of_lines_that_nobody_takes_the_last_stay_and_the_others_are_counted(setting: Setting) -> None:
    log(setting, range(KEEP + 500))
    taken = setting.notes.take()
    assert messages(taken) == list(range(500, KEEP + 500))
    assert taken.skipped == 500
    assert setting.notes.take() == Unsaved()


def test_an_attempt_may_log_on_once_its_lines_were_taken(setting: Setting) -> None:
    log(setting, range(KEEP))
    setting.notes.take()
    log(setting, range(KEEP))
    assert setting.notes.take().skipped == 0


@pytest.mark.parametrize("more", [0, 1, KEEP - 1, KEEP, KEEP + 3])
@pytest.mark.parametrize("first", [1, KEEP, KEEP + 2])
def test_of_lines_that_were_put_back_the_newest_stay_and_none_is_miscounted(
    setting: Setting, first: int, more: int
) -> None:
    log(setting, range(first))
    taken = setting.notes.take()
    log(setting, range(first, first + more))
    setting.notes.put_back(taken)
    all_of_them = setting.notes.take()
    kept = min(KEEP, first + more)
    assert messages(all_of_them) == list(range(first + more))[-kept:]
    assert all_of_them.skipped + kept == first + more


def test_text_that_no_database_takes_is_mended(setting: Setting) -> None:
    setting.ctx.log("a\0b\ud800c\U0001f600ä")
    assert setting.lines()[0].encode() == "a\ufffdb\ufffd\ufffd\ufffdc\U0001f600ä".encode()


@pytest.mark.parametrize("fraction", [-0.01, 1.01, math.nan, math.inf])
def test_a_progress_that_is_none_is_refused(setting: Setting, fraction: float) -> None:
    with pytest.raises(ValueError, match="not from 0 to 1"):
        setting.ctx.progress(fraction)


def test_the_last_progress_counts(setting: Setting) -> None:
    setting.ctx.progress(0, "begun")
    setting.ctx.progress(1, "done")
    assert setting.notes.take() == Unsaved(progress=Progress(1.0, "done"))
    assert setting.notes.take() == Unsaved()


def test_notes_that_were_put_back_stand_before_newer_ones(setting: Setting) -> None:
    setting.ctx.log("old")
    setting.ctx.progress(0.1)
    taken = setting.notes.take()
    setting.ctx.log("new")
    setting.ctx.progress(0.2)
    setting.notes.put_back(taken)
    both = setting.notes.take()
    assert [line.message for line in both.lines] == ["old", "new"]
    assert (both.skipped, both.progress) == (0, Progress(0.2))


def test_sleep_returns_when_the_time_is_over(setting: Setting) -> None:
    setting.ctx.sleep(0.001)
    assert not setting.ctx.cancelled.seen


def test_sleep_ends_at_once_when_it_is_told(setting: Setting) -> None:
    threading.Timer(0.01, setting.ctx.cancelled.set).start()
    with pytest.raises(Cancelled):
        setting.ctx.sleep(60)
    assert setting.ctx.cancelled.seen


def test_a_handler_that_never_looked_has_not_seen_it(setting: Setting) -> None:
    setting.ctx.cancelled.set()
    assert not setting.ctx.cancelled.seen


def test_a_handler_that_looked_too_early_has_not_seen_it(setting: Setting) -> None:
    assert not setting.ctx.cancelled.is_set()
    assert not setting.ctx.cancelled.wait(0)
    setting.ctx.cancelled.set()
    assert not setting.ctx.cancelled.seen


@pytest.mark.parametrize("look", ["is_set", "wait"])
def test_a_handler_that_looked_has_seen_it(setting: Setting, look: str) -> None:
    setting.ctx.cancelled.set()
    assert getattr(setting.ctx.cancelled, look)()
    assert setting.ctx.cancelled.seen


def test_a_broad_except_does_not_swallow_the_end(setting: Setting) -> None:
    setting.ctx.cancelled.set()
    with pytest.raises(Cancelled):
        try:
            setting.ctx.sleep(1)
        except Exception:
            pytest.fail("Cancelled is no Exception")


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_sleep_of_no_length_that_there_is_is_refused(setting: Setting, seconds: float) -> None:
    with pytest.raises(ValueError, match="cannot sleep for"):
        setting.ctx.sleep(seconds)


def test_a_sleep_without_end_lasts_until_it_is_told(setting: Setting) -> None:
    setting.ctx.cancelled.set()
    with pytest.raises(Cancelled):
        setting.ctx.sleep(math.inf)


def test_a_callback_that_raises_keeps_nobody_from_hearing(setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    """Who tells a handler to end has others to tell."""

    def fail() -> None:
        raise ValueError("in the callback")

    heard = threading.Event()
    with setting.ctx.cancelled.calling(fail), setting.ctx.cancelled.calling(heard.set):
        setting.ctx.cancelled.set()
    assert heard.is_set()
    assert "in the callback" in caplog.text
