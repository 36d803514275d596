"""Declared commands in the real service: however it ends, nothing is left of them."""

import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.eventually import eventually
from tests.system.service import PROGRAM, Service, run_to_end

#: A command that bears SIGTERM, and so do its children: one in its group, one in a session of its own.
STUBBORN = """
trap '' TERM
echo started >&2
sleep 1000 &
setsid sleep 1000 >/dev/null 2>&1 </dev/null &
while :; do sleep 0.05; done
"""

Start = Callable[..., Service]


@pytest.fixture
def marker(tmp_path: Path) -> str:
    """An entry of the environment of every command of the test."""
    return f"MARKER={tmp_path}"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The file with the declarations."""
    path = tmp_path / "gofer.toml"
    path.write_text(
        f"""
        [commands.stubborn]
        argv = ["sh", "-c", '''{STUBBORN}''']
        grace = 0.3
        env.MARKER = "{tmp_path}"
        [commands.quick]
        argv = ["sh", "-c", "sleep 0.0$1; echo $0", "{{text}}", "{{n}}"]
        env.MARKER = "{tmp_path}"
        params.text = {{ pattern = '[a-z]+', default = "hello" }}
        params.n = {{ pattern = '[0-9]', default = 0 }}
        """
    )
    return path


def start_stubborn(service: Service, **options: object) -> str:
    job: str = service.submit("stubborn", **options)["id"]
    eventually(lambda: service.get(f"/jobs/{job}/logs").json["lines"])
    return job


def left_by_guardian(service: Service) -> set[int]:
    """The children of the service beside the guardian."""
    return {pid for pid in processes.children(service.process.pid) if "orphans.py" not in _command(pid)}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_a_command_runs(start: Start, config: Path) -> None:
    service = start(GOFER_CONFIG=config)

    job = service.wait_for_end(service.submit("quick", {"text": "abc"})["id"])

    assert (job["status"], job["result"]) == ("completed", "abc\n")


def test_a_bad_value_is_refused_at_submission(start: Start, config: Path) -> None:
    answer = start(GOFER_CONFIG=config).post("/jobs", {"type": "quick", "payload": {"text": "a; rm -r /"}})

    assert answer.status == 422
    assert answer.json["errors"] == [
        {"path": "payload.text", "message": "must match [a-z]+ in full, not 'a; rm -r /' (without it: 'hello')"}
    ]


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_nothing_is_left_of_a_command_that_was_ended(start: Start, config: Path, marker: str, how: str) -> None:
    service = start(GOFER_CONFIG=config)
    job = start_stubborn(service, max_attempts=1, timeout=1 if how == "timeout" else 60)
    if how == "cancel":
        assert service.post(f"/jobs/{job}/cancel").status == 202

    ended = service.wait_for_end(job)

    assert ended["status"] == ("cancelled" if how == "cancel" else "failed")
    assert processes.carrying(marker) == {}
    assert left_by_guardian(service) == set()


def test_nothing_is_left_after_a_stop_and_the_jobs_are_put_back(start: Start, config: Path, marker: str) -> None:
    service = start(GOFER_CONFIG=config, GOFER_SHUTDOWN_TIMEOUT=0.1)
    jobs = [start_stubborn(service) for _ in range(3)]

    assert service.stop() == 0

    assert processes.carrying(marker) == {}
    assert "WARNING worker.process_groups" not in service.stderr
    service = start(GOFER_CONFIG=config, GOFER_WORKERS=1)
    assert [service.job(job)["interruptions"] for job in jobs] == [1, 1, 1]


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_nothing_is_left_of_many_that_are_ended_together(start: Start, config: Path, marker: str, how: str) -> None:
    service = start(GOFER_CONFIG=config, GOFER_SHUTDOWN_TIMEOUT=0.1, GOFER_WORKERS=100)
    jobs = [job["id"] for job in service.submit_many([{"type": "stubborn"}] * 100)]
    eventually(lambda: sum("sleep 1000" in command for command in processes.carrying(marker).values()) >= 200, 30)

    if how == "stop":
        assert service.stop() == 0
    else:
        for job in jobs:
            service.post(f"/jobs/{job}/cancel")
        service.wait_until_idle()

    assert processes.carrying(marker) == {}
    assert "Traceback" not in service.stderr


def test_an_exit_code_is_known_though_the_service_was_started_with_sigchld_ignored(launch: Start, config: Path) -> None:
    config.write_text("[commands.false]\nargv = ['false']\n")
    service = launch(program=("env", "--ignore-signal=CHLD", *PROGRAM), GOFER_CONFIG=config)
    service.wait_until_ready()

    job = service.wait_for_end(service.submit("false", max_attempts=1)["id"])

    assert (job["status"], job["error"]["message"]) == ("failed", "exit code 1")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_nothing_is_left_when_the_service_is_killed(
    start: Start, config: Path, marker: str, number: signal.Signals
) -> None:
    service = start(GOFER_CONFIG=config)
    for _ in range(3):
        start_stubborn(service)
    (guardian,) = (pid for pid in processes.children(service.process.pid) if "orphans.py" in _command(pid))

    service.send(number)
    service.wait_for_exit()

    eventually(lambda: processes.carrying(marker) == {})
    eventually(lambda: "orphans.py" not in _command(guardian))


def test_nothing_is_left_when_a_second_signal_ends_it_at_once(start: Start, config: Path, marker: str) -> None:
    service = start(GOFER_CONFIG=config, GOFER_SHUTDOWN_TIMEOUT=60)
    start_stubborn(service)
    service.send(signal.SIGTERM)
    service.wait_for_log("stopping: waiting")
    service.send(signal.SIGINT)
    service.wait_for_exit()

    eventually(lambda: processes.carrying(marker) == {})


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_left_at_whatever_instant_the_service_is_killed(
    start: Start, config: Path, marker: str, seed: int
) -> None:
    service = start(GOFER_CONFIG=config)
    service.submit_many([{"type": "quick", "payload": {"n": n % 10}} for n in range(500)])
    # Not a wait for something: the instant of the crash is what is random here.
    with pytest.raises(subprocess.TimeoutExpired):
        service.process.wait(random.Random(seed).uniform(0.05, 0.6))

    service.kill()

    eventually(lambda: processes.carrying(marker) == {})


def test_a_busy_service_has_no_zombies(start: Start, config: Path) -> None:
    service = start(GOFER_CONFIG=config)
    service.submit_many([{"type": "quick"} for _ in range(200)])

    service.wait_until_idle()

    assert service.stats()["completed"] == 200
    assert left_by_guardian(service) == set()


def test_a_check_tells_all_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "gofer.toml").write_text(
        """
        [commands.echo]
        argv = ["echo"]
        [commands.x]
        argv = ["echo", "{a}"]
        params.a.pattern = "("
        params.a.defualt = ""
        queue = "pictures"
        """
    )

    done = run_to_end(tmp_path, "--check", GOFER_CONFIG="gofer.toml")

    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(": ")[:2] for line in done.stderr.splitlines()] == [
        ["gofer", "commands.x.params.a.pattern"],
        ["gofer", "commands.x.params.a.defualt"],
        ["gofer", "commands.echo"],
    ]


def test_a_command_does_not_replace_a_handler(tmp_path: Path) -> None:
    (tmp_path / "gofer.toml").write_text("[commands.echo]\nargv = ['date']\n")

    done = run_to_end(tmp_path, "--check", GOFER_CONFIG="gofer.toml")

    assert (done.returncode, done.stderr) == (2, "gofer: commands.echo: there is another handler for this type\n")


def test_a_queue_that_nobody_serves_is_told(tmp_path: Path) -> None:
    (tmp_path / "gofer.toml").write_text("[commands.x]\nargv = ['date']\nqueue = 'pictures'\n")

    done = run_to_end(tmp_path, "--check", GOFER_CONFIG="gofer.toml")

    assert done.stderr == "gofer: GOFER_QUEUES: lacks pictures, the queue of the type x\n"
