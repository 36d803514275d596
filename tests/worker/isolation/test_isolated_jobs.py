"""Isolated handlers, through a whole engine and with real child processes."""

import ctypes
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from store.job import AttemptStatus, Backoff, Job, JobError, JobStatus
from tests.eventually import eventually
from tests.processes import is_alive
from tests.worker.harness import Harness, NewHarness
from tests.worker.isolation.pid_file import PATIENCE, pids_in
from worker.isolation import attempt, children

HANDLERS = str(Path(__file__).with_name("handlers.py"))


class Isolated:
    """An engine whose handlers run in processes."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness

    def run(self, job_type: str, payload: object = None, **fields: Any) -> Job:
        """Run a job to its end."""
        return self.end_of(self.harness.submit(job_type, payload, **{"max_attempts": 1, **fields}))

    def end_of(self, job_id: str) -> Job:
        """The job once it is final."""
        job = self.harness.engine.wait_final(job_id, PATIENCE, lambda: False)
        assert job.status.is_final, job
        return job

    def result(self, job_type: str, payload: object = None, **fields: Any) -> Any:
        """The result of a job that must complete."""
        return result_of(self.run(job_type, payload, **fields))

    def lines(self, job_id: str) -> list[tuple[str, str]]:
        """Level and text of what a job has logged."""
        return [(line.level, line.message) for line in self.harness.store.list_log(job_id)]

    def submit_and_wait(self, job_type: str, payload: object, first_line: str, **fields: Any) -> str:
        """Submit a job, and wait until its handler has logged ``first_line``."""
        job_id = self.harness.submit(job_type, payload, **fields)
        eventually(lambda: ("info", first_line) in self.lines(job_id), PATIENCE)
        return job_id


def result_of(job: Job) -> Any:
    assert job.status is JobStatus.COMPLETED, job.error
    return msgspec.json.decode(job.result or b"")


def error_of(job: Job) -> JobError:
    assert job.error is not None, job
    return job.error


@pytest.fixture
def new(new_harness: NewHarness) -> Callable[..., Isolated]:
    return lambda **settings: Isolated(new_harness(modules=[HANDLERS], **settings).start())


@pytest.fixture
def isolated(new: Callable[..., Isolated]) -> Isolated:
    return new()


# What a handler sees


def test_a_handler_runs_in_another_process(isolated: Isolated) -> None:
    result = isolated.result("whoami", {"a": [1, None]})
    assert result["payload"] == {"a": [1, None]}
    assert result["pid"] != os.getpid()
    assert result["session"] == result["pid"]


def test_one_process_serves_one_job_after_the_other(isolated: Isolated) -> None:
    results = [isolated.result("whoami") for _ in range(5)]
    assert [result["seen"] for result in results] == [1, 2, 3, 4, 5]


def test_the_payload_is_decoded_where_the_handler_runs(isolated: Isolated) -> None:
    assert isolated.result("double", {"number": 21}) == 42
    job = isolated.run("double", {"number": "x"}, max_attempts=3)
    assert error_of(job).type == "InvalidPayload"
    assert job.attempt == 1


def test_the_context_tells_the_same_as_in_a_thread(isolated: Isolated) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    job = isolated.run("context", traceparent=trace, timeout=60.0)
    assert job.started_at is not None
    assert result_of(job) == {
        "id": job.id,
        "type": "context",
        "attempt": 1,
        "traceparent": trace,
        "deadline": msgspec.to_builtins(job.started_at + timedelta(seconds=60)),
    }


def test_a_handler_has_none_of_our_descriptors(isolated: Isolated) -> None:
    links = isolated.result("descriptors")["links"]
    # Its end of the connection and of two pipes.
    assert sorted(link.partition(":")[0] for number, link in links.items() if int(number) > 2) == [
        "pipe",
        "pipe",
        "socket",
    ]
    assert links["0"] == "/dev/null"


def test_log_and_progress_arrive_while_the_handler_runs(isolated: Isolated, tmp_path: Path) -> None:
    job_id = isolated.submit_and_wait("talk", str(tmp_path / "end"), "hello")
    progress = eventually(lambda: (found := isolated.harness.job(job_id).progress).fraction and found)
    assert progress.message.startswith("half \N{REPLACEMENT CHARACTER}")
    (tmp_path / "end").touch()
    assert isolated.end_of(job_id).status is JobStatus.COMPLETED
    level, text = isolated.lines(job_id)[1]
    assert level == "warning"
    assert text.endswith("… (cut; it had 10000 characters)")


def test_lines_of_several_threads_do_not_mix(isolated: Isolated) -> None:
    job = isolated.run("chatter", 400)
    assert job.status is JobStatus.COMPLETED
    numbers = [int(text.partition(" ")[0]) for _, text in isolated.lines(job.id)]
    assert sorted(numbers) == sorted([*range(400)] * 2)


def test_what_goes_to_loggers_goes_to_those_of_the_service(
    isolated: Isolated, caplog: pytest.LogCaptureFixture
) -> None:
    assert isolated.run("complain", "tea").status is JobStatus.COMPLETED
    assert ("shop.orders", 30, "out of tea") in caplog.record_tuples
    assert "not wanted" not in caplog.text


def test_what_is_printed_goes_to_standard_error(
    capfd: pytest.CaptureFixture[str], new: Callable[..., Isolated]
) -> None:
    assert new().run("complain", "tea").status is JobStatus.COMPLETED
    printed = capfd.readouterr()
    assert "printed tea" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("size", [10, 300_000, 1_000_000])
def test_payloads_and_results_of_any_size_get_through(isolated: Isolated, size: int) -> None:
    assert isolated.result("large", "ä" * (size // 2)) == "ä" * (size // 2)


# How a handler ends by itself


@pytest.mark.parametrize("name", ["ValueError", "SystemExit", "KeyboardInterrupt", "MemoryError", "Cancelled"])
def test_an_exception_is_told_and_the_process_goes_on(isolated: Isolated, name: str) -> None:
    first = isolated.result("whoami")
    job = isolated.run("raise", name)
    assert (job.status, error_of(job).type) == (JobStatus.FAILED, name)
    assert isolated.result("whoami")["pid"] == first["pid"]


def test_a_traceback_points_to_the_handler(isolated: Isolated) -> None:
    trace = error_of(isolated.run("raise", "ValueError")).traceback or ""
    assert "raise exceptions[payload]" in trace
    assert "child.py" not in trace


@pytest.mark.parametrize("name", ["Fail", "Reason"])
def test_fail_and_its_subclasses_use_no_further_attempt(isolated: Isolated, name: str) -> None:
    job = isolated.run("raise", name, max_attempts=5)
    assert (job.status, job.attempt, error_of(job).type) == (JobStatus.FAILED, 1, name)


def test_retry_says_when(isolated: Isolated) -> None:
    job_id = isolated.harness.submit("raise", "Retry", max_attempts=2)
    job = eventually(lambda: (found := isolated.harness.job(job_id)).failures and found, PATIENCE)
    assert (job.status, error_of(job).message) == (JobStatus.PENDING, "later")
    assert (job.run_at - job.created_at).total_seconds() > 1200


@pytest.mark.parametrize(
    ("what", "message"), [("nan", "nan"), ("object", "no JSON value"), ("large", "1048576 are allowed")]
)
def test_a_result_that_cannot_be_kept_is_refused(isolated: Isolated, what: str, message: str) -> None:
    error = error_of(isolated.run("return", what))
    assert error.type == "InvalidResult"
    assert message in error.message


# How a process ends


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("segfault", "the handler's process was killed by SIGSEGV"),
        ("exit", "the handler's process ended with exit code 3"),
        ("exit from a thread", "the handler's process ended with exit code 4"),
        ("kill", "the handler's process was killed by SIGKILL (out of memory, perhaps)"),
        ("close", "the handler closed its process's connection; the process was killed"),
        ("garbage", "the handler's process sent what is no message, and was killed"),
    ],
)
def test_a_process_that_dies_fails_its_attempt_alone(isolated: Isolated, how: str, message: str) -> None:
    before = isolated.result("whoami")
    job = isolated.run("die", how)
    assert (job.status, error_of(job).type) == (JobStatus.FAILED, "ProcessDied")
    assert error_of(job).message.startswith(message)
    assert error_of(job).traceback is None
    after = isolated.result("whoami")
    assert after["pid"] != before["pid"]
    assert isolated.harness.engine.stats()["workers"] == 1


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"Ready"}',
        '{"type":"Unusable","reason":"none"}',
        '{"type":"Line","level":"loud","text":""}',
        '{"type":"Step","fraction":7,"text":""}',
        '{"type":"Failure","error":{"type":"E","message":""},"steer":"retry","after":-1,"is_fit":true}',
        '{"type":"Success","seen":false,"is_fit":true,"result":"' + "x" * 1_100_000 + '"}',
    ],
    ids=lambda text: text[:40],
)
def test_a_message_that_makes_no_sense_fails_its_attempt_alone(isolated: Isolated, message: str) -> None:
    error = error_of(isolated.run("forge", message))
    assert error.type == "ProcessDied"
    assert "a message that makes no sense" in error.message
    assert isolated.run("whoami").status is JobStatus.COMPLETED


def test_an_attempt_whose_process_died_is_tried_again(isolated: Isolated) -> None:
    job = isolated.run("die", "exit", max_attempts=2, backoff=Backoff(base=0.0))
    statuses = [tried.status for tried in isolated.harness.store.list_attempts(job.id)]
    assert statuses == [AttemptStatus.FAILED] * 2


def test_a_process_that_is_killed_from_outside_is_replaced(isolated: Isolated, tmp_path: Path) -> None:
    job_id = isolated.submit_and_wait("busy", str(tmp_path / "pids"), "busy", max_attempts=1)
    os.kill(pids_in(tmp_path / "pids")[0], signal.SIGKILL)
    assert error_of(isolated.end_of(job_id)).type == "ProcessDied"
    assert isolated.run("whoami").status is JobStatus.COMPLETED


def test_an_idle_process_that_was_killed_costs_no_attempt(isolated: Isolated) -> None:
    pid = isolated.result("whoami")["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: isolated.harness.engine._parts.children._idle[-1]._has_ended_within(0))
    assert isolated.result("whoami")["pid"] != pid


# Being told to end


@pytest.fixture
def soon_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not end is killed at once."""
    monkeypatch.setattr(attempt, "KILL_AFTER", 0.1)


def test_a_handler_that_sleeps_ends_at_once_and_its_process_stays(isolated: Isolated) -> None:
    pid = isolated.result("whoami")["pid"]
    job = isolated.run("patient", "sleep", timeout=0.1)
    assert error_of(job).type == "TimedOut"
    assert isolated.result("whoami")["pid"] == pid


def test_a_handler_can_be_told_again_and_again(isolated: Isolated) -> None:
    job_id = isolated.submit_and_wait("patient", "look", "waiting")
    for _ in range(100):
        isolated.harness.engine.cancel(job_id)
        if isolated.harness.job(job_id).status.is_final:
            break
    assert isolated.end_of(job_id).status is JobStatus.CANCELLED


def test_a_handler_that_looks_sees_the_cancel(isolated: Isolated) -> None:
    job_id = isolated.submit_and_wait("patient", "look", "waiting")
    isolated.harness.engine.cancel(job_id)
    job = isolated.end_of(job_id)
    assert (job.status, bytes(job.result or b"")) == (JobStatus.CANCELLED, b'"saw it"')


def test_a_handler_that_never_looked_has_completed(isolated: Isolated) -> None:
    job_id = isolated.submit_and_wait("patient", "work", "working")
    isolated.harness.engine.cancel(job_id)
    assert result_of(isolated.end_of(job_id)) == "never looked"


def test_a_cancel_does_not_reach_the_next_job_of_the_process(isolated: Isolated) -> None:
    job_id = isolated.submit_and_wait("patient", "work", "working")
    isolated.harness.engine.cancel(job_id)
    isolated.end_of(job_id)
    next_id = isolated.submit_and_wait("patient", "look", "waiting")
    assert isolated.harness.job(next_id).status is JobStatus.PROCESSING
    isolated.harness.engine.cancel(next_id)
    assert isolated.end_of(next_id).status is JobStatus.CANCELLED


@pytest.mark.usefixtures("soon_killed")
def test_at_its_timeout_a_handler_that_keeps_the_interpreters_lock_is_killed(
    isolated: Isolated, tmp_path: Path
) -> None:
    job_id = isolated.submit_and_wait("busy", str(tmp_path / "pids"), "busy", max_attempts=1, timeout=2.0)
    job = isolated.end_of(job_id)
    assert error_of(job).type == "TimedOut"
    assert not is_alive(pids_in(tmp_path / "pids")[0])
    assert isolated.lines(job_id)[-1][1].startswith("the handler did not end within 0.1 s after it was told to")
    assert isolated.run("whoami").status is JobStatus.COMPLETED


@pytest.mark.usefixtures("soon_killed")
@pytest.mark.parametrize("job_type", ["family", "distant-family"])
def test_a_cancelled_handler_is_killed_with_what_it_started(isolated: Isolated, tmp_path: Path, job_type: str) -> None:
    """In its own session or in another one."""
    job_id = isolated.submit_and_wait(job_type, str(tmp_path / "pids"), "started")
    isolated.harness.engine.cancel(job_id)
    job = isolated.end_of(job_id)
    assert (job.status, error_of(job).type) == (JobStatus.CANCELLED, "ProcessDied")
    eventually(lambda: not any(is_alive(pid) for pid in pids_in(tmp_path / "pids")))


@pytest.mark.usefixtures("soon_killed")
def test_a_shutdown_kills_a_deaf_handler_and_puts_its_job_back(isolated: Isolated, tmp_path: Path) -> None:
    job_id = isolated.submit_and_wait("busy", str(tmp_path / "pids"), "busy")
    isolated.harness.engine.stop()
    assert not is_alive(pids_in(tmp_path / "pids")[0])
    job = isolated.harness.job(job_id)
    assert (job.status, job.interruptions, job.failures) == (JobStatus.PENDING, 1, 0)


# The processes


def test_two_busy_handlers_run_in_two_processes_at_a_time(new: Callable[..., Isolated], tmp_path: Path) -> None:
    isolated = new(workers=2)
    jobs = [isolated.harness.submit("spin", str(tmp_path / "end")) for _ in range(2)]
    eventually(lambda: isolated.harness.engine.stats()["processing"] == 2)
    (tmp_path / "end").touch()
    assert len({result_of(isolated.end_of(job_id)) for job_id in jobs}) == 2


@pytest.mark.parametrize("what", ["thread", "directory"])
def test_a_process_that_was_left_untidy_is_replaced(isolated: Isolated, what: str) -> None:
    pid = isolated.result("litter", what)
    assert isolated.result("whoami")["pid"] != pid
    eventually(lambda: not is_alive(pid))


def test_a_process_is_replaced_after_many_attempts(isolated: Isolated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_MAX_ATTEMPTS", 2)
    pids = [isolated.result("whoami")["pid"] for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    eventually(lambda: not is_alive(pids[0]))


def test_a_process_is_replaced_after_a_long_time(isolated: Isolated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_MAX_AGE", 0.0)
    assert isolated.result("whoami")["pid"] != isolated.result("whoami")["pid"]


def test_a_program_that_was_left_ends_with_its_process(isolated: Isolated) -> None:
    pids = isolated.result("leave-program")
    assert all(is_alive(pid) for pid in pids)
    isolated.harness.engine.stop()
    eventually(lambda: not any(is_alive(pid) for pid in pids))


def test_as_the_parent_of_orphans_we_leave_no_zombie(isolated: Isolated) -> None:
    """In a container we are process 1: whoever loses its parent becomes our child."""
    libc, set_child_subreaper = ctypes.CDLL(None), 36
    libc.prctl(set_child_subreaper, 1)
    try:
        pids = isolated.result("leave-program")
        isolated.harness.engine.stop()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    finally:
        libc.prctl(set_child_subreaper, 0)


@pytest.mark.usefixtures("soon_killed")
def test_as_the_parent_of_orphans_we_leave_no_zombie_of_another_session(isolated: Isolated, tmp_path: Path) -> None:
    libc, set_child_subreaper = ctypes.CDLL(None), 36
    libc.prctl(set_child_subreaper, 1)
    try:
        job_id = isolated.submit_and_wait("distant-family", str(tmp_path / "pids"), "started")
        isolated.harness.engine.cancel(job_id)
        isolated.end_of(job_id)
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids_in(tmp_path / "pids")))
    finally:
        libc.prctl(set_child_subreaper, 0)


def test_a_copy_that_comes_back_from_the_handler_ends_in_silence(isolated: Isolated) -> None:
    job = isolated.run("fork")
    parent, own = result_of(job)
    assert parent == own
    assert isolated.lines(job.id) == []
    assert isolated.result("whoami")["pid"] == parent


def test_a_copy_may_be_made_while_another_thread_logs(isolated: Isolated) -> None:
    assert isolated.result("fork-while-logging") == 7


def test_a_copy_that_goes_on_writing_does_not_keep_the_attempt(isolated: Isolated) -> None:
    job = isolated.run("haunt")
    assert error_of(job).type == "ProcessDied"
    assert [level for level, _ in isolated.lines(job.id)] == ["warning"]


def test_children_are_started_ahead_and_end_with_the_engine(isolated: Isolated) -> None:
    def idle() -> list[int]:
        return [child._process.pid for child in isolated.harness.engine._parts.children._idle]

    pids = eventually(idle)
    isolated.harness.engine.stop()
    assert not any(is_alive(pid) for pid in pids)


def test_without_isolated_handlers_no_process_is_started(new_harness: NewHarness) -> None:
    made = new_harness().start()
    made.final(made.submit())
    assert not made.engine._parts.children._idle
    assert made.engine._parts.children.loop.join(0)


def test_handlers_that_cannot_be_loaded_again_fail_the_attempt_and_not_the_service(
    new_harness: NewHarness, tmp_path: Path
) -> None:
    module = tmp_path / "jobs.py"
    module.write_text(Path(HANDLERS).read_text())
    made = new_harness(modules=[str(module)])
    module.write_text("import nowhere_to_be_found")
    isolated = Isolated(made.start())
    error = error_of(isolated.run("whoami"))
    assert error.type == "ProcessNotStarted"
    assert "nowhere_to_be_found" in error.message
    module.write_text(Path(HANDLERS).read_text())
    job = isolated.run("whoami", max_attempts=3, backoff=Backoff(base=0.0))
    assert job.status is JobStatus.COMPLETED


def test_a_module_that_does_not_come_to_an_end_is_given_up(
    new_harness: NewHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_START_LIMIT", 0.1)
    module = tmp_path / "jobs.py"
    module.write_text(Path(HANDLERS).read_text())
    made = new_harness(modules=[str(module)])
    module.write_text("import time; time.sleep(3600)")
    error = error_of(Isolated(made.start()).run("whoami"))
    assert (error.type, error.message) == ("ProcessNotStarted", "the handlers were not loaded within 0.1 s")


def test_a_job_that_waits_for_its_process_can_be_told_to_end(new_harness: NewHarness, tmp_path: Path) -> None:
    module = tmp_path / "jobs.py"
    module.write_text(Path(HANDLERS).read_text())
    made = new_harness(modules=[str(module)])
    module.write_text("import time; time.sleep(3600)")
    isolated = Isolated(made.start())
    job_id = made.submit("whoami")
    made.wait_for(job_id, JobStatus.PROCESSING)
    made.engine.cancel(job_id)
    assert isolated.end_of(job_id).status is JobStatus.CANCELLED


def test_a_system_without_processes_to_give_fails_the_attempt(
    new_harness: NewHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(children, "ChildProcess", refuse)
    error = error_of(Isolated(new_harness(modules=[HANDLERS]).start()).run("whoami"))
    assert (error.type, error.message) == (
        "ProcessNotStarted",
        "no process can be started for the handler: no more processes",
    )


def test_a_process_that_cannot_be_watched_is_not_left_behind(
    new_harness: NewHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[int] = []

    def refuse(pid: int) -> int:
        watched.append(pid)
        raise OSError("no more descriptors")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    isolated = Isolated(new_harness(modules=[HANDLERS]).start())
    assert error_of(isolated.run("whoami")).type == "ProcessNotStarted"
    isolated.harness.engine.stop()
    assert not any(Path(f"/proc/{pid}").exists() for pid in watched)
