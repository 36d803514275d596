"""Commands as jobs: real programs, in a real engine, and what is left of them, which is nothing."""

import ctypes
import errno
import os
import resource
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from store.job import AttemptStatus, Job, JobStatus
from tests import processes
from tests.eventually import eventually
from tests.worker.commands.conftest import Serve
from tests.worker.harness import Harness
from worker import orphans
from worker.orphans import Family, Process
from worker.process_groups import ProcessGroups

#: Bears a SIGTERM, and says when it is ready for it.
DEAF = "trap '' TERM; echo deaf >&2; while :; do sleep 0.05; done"


def shell(script: str, more: str = "") -> str:
    """The declaration of the command ``x``, a shell script."""
    return f"[commands.x]\nargv = ['sh', '-c', '''{script}''']\n{more}"


def run(harness: Harness, payload: object = None, **options: object) -> Job:
    """The job ``x``, final."""
    return harness.final(harness.submit("x", payload, max_attempts=1, **options))


def logged(harness: Harness, job_id: str) -> list[str]:
    return [line.message for line in harness.store.list_log(job_id)]


def started(harness: Harness, line: str, **options: object) -> str:
    """A job ``x`` that has begun and logged ``line``; its id."""
    job_id = harness.submit("x", **options)
    eventually(lambda: line in logged(harness, job_id))
    return job_id


def left_of(job_id: str) -> dict[int, str]:
    return processes.carrying(f"GOFER_JOB_ID={job_id}")


@contextmanager
def every_descriptor_taken() -> Iterator[None]:
    """Within the block no file can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    taken = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def test_the_output_is_the_result(serve: Serve) -> None:
    job = run(serve(shell("echo hello")))

    assert (job.status, job.result) == (JobStatus.COMPLETED, msgspec.Raw(b'"hello\\n"'))


def test_an_output_of_json_is_the_result_as_json(serve: Serve) -> None:
    assert run(serve(shell('echo "{\\"a\\": [1]}"'))).result == msgspec.Raw(b'{"a":[1]}')


def test_a_value_is_one_argument_whatever_it_is(serve: Serve) -> None:
    toml = "[commands.x]\nargv = ['printf', '[%s]', '{a}', '--a={a}']\nparams.a.pattern = '(?s).*'"
    value = "a b; $(echo c) `d` \"'\\ \n* {a}"

    assert msgspec.json.decode(run(serve(toml), {"a": value}).result or b"") == f"[{value}][--a={value}]"


def test_the_environment_is_what_was_declared_and_what_tells_of_the_job(serve: Serve) -> None:
    harness = serve("[commands.x]\nargv = ['env']\nenv = { A = 'b' }")
    job_id = harness.submit("x", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    lines = msgspec.json.decode(harness.final(job_id).result or b"").split()

    assert sorted(lines) == sorted(
        [
            "PATH=/usr/bin:/bin",
            "HOME=/root",
            "LANG=C.UTF-8",
            "A=b",
            f"GOFER_JOB_ID={job_id}",
            "GOFER_ATTEMPT=1",
            "GOFER_TYPE=x",
            "TRACEPARENT=00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        ]
    )


def test_it_runs_in_its_directory_and_session_with_nothing_open_but_the_three(serve: Serve, tmp_path: Path) -> None:
    harness = serve(shell("pwd; ls /proc/$$/fd; ps -o sid= -p $$; echo $$; cat", f"cwd = '{tmp_path}'"))

    text = msgspec.json.decode(run(harness).result or b"")

    cwd, *descriptors, session, pid = text.split()
    # The fourth is the shell's own, or there is none.
    assert (cwd, descriptors[:3], session) == (str(tmp_path), ["0", "1", "2"], pid)
    assert len(descriptors) == 3


@pytest.mark.parametrize("payload", [{"a": [1, "é"]}, "x" * 500_000, None])
def test_standard_input_is_the_payload_where_it_is_asked_for(serve: Serve, payload: object) -> None:
    harness = serve("[commands.x]\nargv = ['cat']\nstdin = 'payload'\nlimits.max_output = '1MiB'")

    assert msgspec.json.decode(run(harness, payload).result or b"") == payload


def test_a_command_need_not_read_its_input(serve: Serve) -> None:
    harness = serve("[commands.x]\nargv = ['true']\nstdin = 'payload'")

    assert run(harness, "x" * 500_000).status is JobStatus.COMPLETED


def test_standard_error_is_logged_while_it_runs_and_progress_is_shown(serve: Serve, tmp_path: Path) -> None:
    script = f"echo one >&2; echo ::progress 40/100 resizing >&2; until [ -e {tmp_path}/end ]; do sleep 0.01; done"
    harness = serve(shell(script + "; echo ::progress 80%; printf two >&2"))
    job_id = started(harness, "one")

    eventually(lambda: harness.job(job_id).progress.fraction == 0.4)
    assert harness.job(job_id).progress.message == "resizing"
    (tmp_path / "end").touch()

    assert harness.final(job_id).result == msgspec.Raw(b'""')
    assert logged(harness, job_id) == ["one", "two"]


def test_an_endless_output_neither_grows_nor_blocks(serve: Serve) -> None:
    harness = serve(
        shell("head -c 50000000 /dev/zero; head -c 50000000 /dev/zero >&2; echo end", "limits.max_output = 4")
    )
    job_id = harness.submit("x")

    assert str(msgspec.json.decode(harness.final(job_id).result or b"")).endswith("… (cut; it had 50000004 bytes)")
    log, warning = harness.store.list_log(job_id)
    assert log.message.endswith("(cut; it had 50000000 bytes)")
    assert (warning.level, warning.message) == (
        "warning",
        "the output was cut: 4 of its 50000004 bytes are the result",
    )


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo first >&2; echo last >&2; echo >&2; exit 3", "exit code 3: last"),
        ("exit 1", "exit code 1"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
        ("echo oops >&2; kill -KILL $$", "killed by SIGKILL: oops"),
        ("kill -40 $$", "killed by signal 40"),
    ],
)
def test_another_end_than_exit_code_0_is_a_failed_attempt(serve: Serve, script: str, error: str) -> None:
    job = run(serve(shell(script)))

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert (job.error.type, job.error.message, job.error.traceback) == ("CommandFailed", error, None)


def test_exit_code_75_asks_for_another_attempt(serve: Serve) -> None:
    harness = serve(shell('echo busy >&2; [ "$GOFER_ATTEMPT" = 2 ] || exit 75', "backoff.base = 0"))
    job_id = harness.submit("x", max_attempts=2, backoff=harness.engine.registry.get("x").backoff)

    assert harness.final(job_id).attempt == 2
    (error,) = (attempt.error for attempt in harness.store.list_attempts(job_id) if attempt.error)
    assert (error.type, error.message) == ("Retry", "exit code 75: busy")


def test_a_program_that_is_gone_by_now_is_told(serve: Serve, tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    harness = serve(f"[commands.x]\nargv = ['{program}']")
    program.unlink()

    error = run(harness).error

    assert error is not None
    assert (error.type, error.message) == (
        "CommandFailed",
        f"cannot start {program}: [Errno 2] No such file or directory: '{program}'",
    )


def test_a_directory_that_is_gone_by_now_is_told(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    harness = serve(f"[commands.x]\nargv = ['true']\ncwd = '{tmp_path}/d'")
    (tmp_path / "d").rmdir()

    error = run(harness).error

    assert error is not None
    assert error.message.endswith(f"No such file or directory: '{tmp_path}/d'")


def test_a_timeout_ends_the_whole_group(serve: Serve) -> None:
    harness = serve(shell("sleep 1000 & echo go >&2; wait"))
    job_id = started(harness, "go", timeout=0.5, max_attempts=1)

    job = harness.final(job_id)

    assert job.error is not None
    assert job.error.type == "TimedOut"
    assert left_of(job_id) == {}


def test_a_command_that_is_deaf_is_killed_after_its_grace(serve: Serve) -> None:
    harness = serve(shell(DEAF, "grace = 0.2"))
    job_id = started(harness, "deaf")

    harness.engine.cancel(job_id)

    assert harness.final(job_id).status is JobStatus.CANCELLED
    assert left_of(job_id) == {}


def test_a_command_may_tidy_up_in_its_grace(serve: Serve, tmp_path: Path) -> None:
    script = f"trap 'echo tidy >&2; touch {tmp_path}/tidy; exit 0' TERM; echo go >&2; while :; do sleep 0.05; done"
    harness = serve(shell(script))
    job_id = started(harness, "go")

    harness.engine.cancel(job_id)

    assert harness.final(job_id).status is JobStatus.CANCELLED
    assert (tmp_path / "tidy").exists()
    assert logged(harness, job_id)[-1] == "tidy"


def test_a_stopped_command_is_ended_in_its_grace(serve: Serve) -> None:
    harness = serve(shell("trap 'exit 3' TERM; echo $$ >&2; while :; do sleep 0.05; done", "grace = 60"))
    job_id = harness.submit("x")
    (pid,) = eventually(lambda: logged(harness, job_id))
    os.kill(int(pid), signal.SIGSTOP)

    harness.engine.cancel(job_id)

    assert harness.final(job_id).status is JobStatus.CANCELLED


@pytest.mark.parametrize("ignores", ["", "trap '' TERM;"])
def test_a_grandchild_in_a_session_of_its_own_is_ended_by_force(serve: Serve, ignores: str) -> None:
    harness = serve(shell(f"{ignores} setsid sleep 1001 >/dev/null 2>&1 & echo go >&2; sleep 1000", "grace = 0.3"))
    job_id = started(harness, "go")
    eventually(lambda: "sleep 1001 " in left_of(job_id).values())

    harness.engine.cancel(job_id)

    harness.final(job_id)
    assert left_of(job_id) == {}


def test_a_grandchild_that_makes_more_of_its_kind_is_ended(serve: Serve) -> None:
    """Each lives for a moment only and has a session of its own: what is found is gone, and there is another."""
    script = 'f() { sleep 0.02; setsid sh -c "$1" x "$1" & }; f "$1"'
    harness = serve(
        f"[commands.x]\nargv = ['sh', '-c', '''echo go >&2; {script}; sleep 1000''', 'x', '''{script}''']\ngrace = 0.1"
    )
    job_id = started(harness, "go")

    harness.engine.cancel(job_id)

    harness.final(job_id)
    assert left_of(job_id) == {}


def test_who_is_found_late_is_killed_all_the_same(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a single look may take longer than all the time that there is."""
    monkeypatch.setattr("worker.commands.process.KILL_TIME", 0.0)
    harness = serve(shell("setsid sleep 1001 >/dev/null 2>&1 & echo go >&2; sleep 1000", "grace = 0"))
    job_id = started(harness, "go")
    eventually(lambda: "sleep 1001 " in left_of(job_id).values())

    harness.engine.cancel(job_id)

    job = harness.final(job_id)
    assert (job.status, job.error) == (JobStatus.CANCELLED, None)
    assert left_of(job_id) == {}


def test_nobody_is_left_because_no_descriptor_was_free(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    members = Family.members
    failed = threading.Event()

    def watched(self: Family, processes: Iterable[Process]) -> dict[int, int]:
        try:
            return members(self, processes)
        except OSError:
            failed.set()
            raise

    monkeypatch.setattr(Family, "members", watched)
    harness = serve(shell("setsid sleep 1001 >/dev/null 2>&1 & echo go >&2; sleep 1000", "grace = 0.1"))
    job_id = started(harness, "go")
    eventually(lambda: "sleep 1001 " in left_of(job_id).values())
    with every_descriptor_taken():
        harness.engine.cancel(job_id)
        assert failed.wait(10)

    job = harness.final(job_id)
    assert (job.status, job.error) == (JobStatus.CANCELLED, None)
    assert left_of(job_id) == {}


def test_nothing_is_left_of_a_command_that_cannot_be_minded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program runs, and then there is no descriptor for what would tell us of its end."""
    children: list[str] = []

    def refuse(pid: int) -> int:
        eventually(lambda: "sleep 1001 " in processes.carrying("GOFER_TYPE=x").values())
        children.append(Path(f"/proc/{pid}/cmdline").read_text())
        monkeypatch.undo()
        raise OSError(errno.EMFILE, "Too many open files")

    harness = serve(shell("setsid sleep 1001 >/dev/null 2>&1 & sleep 1000", "grace = 0.1"))
    monkeypatch.setattr(os, "pidfd_open", refuse)

    job = run(harness)

    assert (job.status, len(children)) == (JobStatus.FAILED, 1)
    assert left_of(job.id) == {}


def test_the_grace_begins_when_the_command_is_told(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = orphans.look

    def slow_look() -> list[Process]:
        threading.Event().wait(1.1)
        return look()

    monkeypatch.setattr(orphans, "look", slow_look)
    script = f"trap 'touch {tmp_path}/tidy; exit' TERM; echo go >&2; sleep 1000 & wait"
    harness = serve(shell(script, "grace = 1"))
    job_id = started(harness, "go")

    harness.engine.cancel(job_id)

    harness.final(job_id)
    assert (tmp_path / "tidy").exists()


@pytest.mark.parametrize("session", ["", "setsid"])
def test_a_grandchild_that_holds_the_output_open_holds_up_nobody(serve: Serve, session: str) -> None:
    harness = serve(shell(f"{session} sleep 1000 & echo done"))
    job_id = harness.submit("x")

    assert harness.final(job_id).result == msgspec.Raw(b'"done\\n"')
    assert left_of(job_id) == {}


def test_a_grandchild_that_nobody_can_know_of_holds_up_nobody(serve: Serve, tmp_path: Path) -> None:
    """It has another session, another environment, and our pipe."""
    script = f"env -i setsid sh -c 'echo $$ >{tmp_path}/pid; exec sleep 1000' & "
    script += f"until [ -s {tmp_path}/pid ]; do sleep 0.01; done; echo done"
    harness = serve(f'[commands.x]\nargv = ["sh", "-c", """{script}"""]')

    assert run(harness).result == msgspec.Raw(b'"done\\n"')
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_what_a_command_leaves_in_its_group_is_ended(serve: Serve) -> None:
    harness = serve(shell("trap '' TERM; sleep 1000 >/dev/null 2>&1 & echo done", "grace = 0.1"))
    job_id = harness.submit("x")

    assert harness.final(job_id).status is JobStatus.COMPLETED
    assert left_of(job_id) == {}


def test_a_daemon_is_left_alone(serve: Serve, tmp_path: Path) -> None:
    daemon_script = f"touch {tmp_path}/daemon; exec sleep 1000"
    script = f"setsid sh -c '{daemon_script}' >/dev/null 2>&1 & until [ -e {tmp_path}/daemon ]; do sleep 0.01; done"
    harness = serve(f'[commands.x]\nargv = ["sh", "-c", """{script}"""]')
    job_id = harness.submit("x")

    assert harness.final(job_id).status is JobStatus.COMPLETED
    (daemon,) = left_of(job_id)
    os.kill(daemon, signal.SIGKILL)


def test_the_last_words_of_a_helper_are_heard(serve: Serve) -> None:
    harness = serve(shell("(sleep 0.02; echo late >&2) & echo done"))
    job_id = harness.submit("x")

    harness.final(job_id)

    assert logged(harness, job_id) == ["late"]


def test_a_shutdown_ends_commands_and_puts_their_jobs_back(serve: Serve) -> None:
    harness = serve(shell(DEAF, "grace = 0.3"), shutdown_timeout=0.05, workers=2)
    jobs = [started(harness, "deaf") for _ in range(2)]

    harness.engine.stop()

    for job_id in jobs:
        assert harness.job(job_id).status is JobStatus.PENDING
        assert [attempt.status for attempt in harness.store.list_attempts(job_id)] == [AttemptStatus.INTERRUPTED]
        assert left_of(job_id) == {}


@pytest.fixture
def process_1() -> Iterator[None]:
    """Orphans become ours, as they do in a container."""
    set_child_subreaper = 36
    libc = ctypes.CDLL(None)
    libc.prctl(set_child_subreaper, 1)
    yield
    libc.prctl(set_child_subreaper, 0)


@pytest.mark.usefixtures("process_1")
@pytest.mark.parametrize("end", ["exit 0", "kill -KILL $$", "sleep 1000"])
@pytest.mark.parametrize("other", ["sleep 1000 >/dev/null 2>&1", "sleep 1000", "setsid sleep 1000"])
def test_as_process_1_we_wait_for_the_orphans(serve: Serve, groups: ProcessGroups, other: str, end: str) -> None:
    harness = serve(shell(f"(: &); ({other} &); echo go >&2; {end}"))
    job_id = started(harness, "go", max_attempts=1)

    if end == "sleep 1000":
        harness.engine.cancel(job_id)
    harness.final(job_id)

    assert groups._guardian is not None
    assert processes.children(os.getpid()) == {groups._guardian.pid}


def test_each_attempt_is_ended_alone(serve: Serve) -> None:
    harness = serve(shell(DEAF, "grace = 0.1"), workers=2)
    first, second = (started(harness, "deaf") for _ in range(2))

    harness.engine.cancel(first)
    harness.final(first)

    assert (left_of(first), harness.job(second).status) == ({}, JobStatus.PROCESSING)
    assert left_of(second) != {}
    harness.engine.cancel(second)
    harness.final(second)


def test_no_threads_are_needed_for_a_command(serve: Serve) -> None:
    harness = serve(shell(DEAF, "grace = 0"))
    before = threading.active_count()
    job_id = started(harness, "deaf")

    assert threading.active_count() == before
    harness.engine.cancel(job_id)
    harness.final(job_id)


def test_limits_hold(serve: Serve) -> None:
    harness = serve(shell("ulimit -v; ulimit -t; ulimit -n", "limits = { memory = '1GiB', cpu = 7, open_files = 50 }"))

    assert msgspec.json.decode(run(harness).result or b"").split() == ["1048576", "7", "50"]


def test_limits_change_nothing_else(serve: Serve) -> None:
    probe = (
        "sh -c 'kill -PIPE $$; echo deaf'; echo $0 $1; grep SigIgn /proc/self/status; unset GOFER_JOB_ID; env | sort"
    )
    toml = f'[commands.x]\nargv = ["sh", "-c", """{probe}""", "a b", "c"]\nenv.LANG = "C"\n'
    with_limits = run(serve(toml + "limits.open_files = 50")).result
    without = run(serve(toml)).result

    assert with_limits == without
    assert "deaf" not in str(msgspec.json.decode(without or b""))


def test_a_command_that_uses_up_its_processor_time_is_killed(serve: Serve) -> None:
    error = run(serve(shell("while :; do :; done", "limits.cpu = 1"))).error

    assert error is not None
    assert error.message == "killed by SIGXCPU"


def test_a_program_that_cannot_be_started_with_limits_is_told(serve: Serve, tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)

    error = run(serve(f"[commands.x]\nargv = ['{program}']\nlimits.open_files = 50")).error

    assert error is not None
    assert error.message == f"exit code 127: cannot start {program}: [Errno 2] No such file or directory: '{program}'"


def test_nothing_is_left_of_many_commands(serve: Serve) -> None:
    harness = serve(shell("sleep 1000 & echo done"), workers=4)
    jobs = [harness.submit("x") for _ in range(40)]
    for job_id in jobs:
        harness.final(job_id)

    assert [job_id for job_id in jobs if left_of(job_id)] == []
    assert processes.zombies(os.getpid()) == set()
