"""The process: how it starts, what it says when it cannot, and how it ends."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec import Raw

from app.version import VERSION
from store import open_store
from store.clock import SystemClock
from store.job import JobStatus, NewJob
from tests.app.conversation import Conversation
from tests.eventually import eventually

ROOT = Path(__file__).parent.parent.parent
#: The setting that lets in whoever can reach the service.
ANYBODY = {"GOFER_ALLOW_ANONYMOUS": "1"}
#: Seconds in which a process must have done what is asked of it.
LIMIT = 20


def environment(**settings: str) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GOFER_") and name != "PORT"}
    return kept | {"GOFER_STORE": "memory:", "GOFER_PORT": "0", "PYTHONPATH": str(ROOT)} | settings


def run(*arguments: str, cwd: Path, program: str = str(ROOT / "run.py"), **settings: str) -> tuple[int, str, str]:
    """Run to the end; return the exit code, standard output and standard error."""
    done = subprocess.run(
        [sys.executable, program, *arguments],
        env=environment(**settings),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


class Process:
    """A service in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self._log = log
        self.port = int(self.wait_for(r"serving on http://[^ ]*:(\d+) ")[1])

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until something has been logged."""
        match = eventually(lambda: re.search(pattern, self.log), LIMIT)
        assert match is not None
        return match

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(LIMIT)

    def start_job(self, job_type: bytes) -> None:
        """Submit a job and wait until it runs."""
        with Conversation(self.port) as client:
            body = b'{"type": "%s", "payload": 600}' % job_type
            reply = client.ask("POST", "/jobs", body, "Content-Type: application/json")
            path = reply.headers["Location"]
            eventually(lambda: client.ask("GET", path).json["status"] == "processing")


@contextmanager
def serving(cwd: Path, program: str = str(ROOT / "run.py"), **settings: str) -> Iterator[Process]:
    log = cwd / "log"
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            [sys.executable, program], env=environment(**settings), cwd=cwd, stdout=stream, stderr=stream
        ) as process,
    ):
        try:
            yield Process(process, log)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path) as service, Conversation(service.port) as client:
        assert client.ask("GET", "/ready").status == 200
        service.process.send_signal(number)

        assert service.end() == 0
        assert client.is_over()

    steps = [f"stopping: {number.name}", "workers joined", "queues closed", "http server stopped", "store closed"]
    assert sorted(steps, key=service.log.index) == steps
    assert not re.search("WARNING|ERROR", service.log)


def test_an_echo_of_the_signal_is_no_second_signal(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        service.process.send_signal(signal.SIGTERM)
        service.process.send_signal(signal.SIGTERM)

        assert service.end() == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        service.start_job(b"sleep")
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("stopping: waiting")
        # Not an event but the passing of time is what tells a second signal from an echo.
        with pytest.raises(subprocess.TimeoutExpired):
            service.process.wait(0.7)
        service.process.send_signal(signal.SIGTERM)

        assert service.end() == 128 + signal.SIGTERM


def test_a_running_job_is_given_its_time_and_no_more(tmp_path: Path) -> None:
    handlers = tmp_path / "stubborn.py"
    handlers.write_text(
        textwrap.dedent(
            """
            import threading
            from worker import handler

            @handler("stubborn")
            def stubborn(ctx, payload):
                threading.Event().wait()
            """
        )
    )
    with serving(tmp_path, GOFER_HANDLERS="stubborn.py", GOFER_SHUTDOWN_TIMEOUT="0.1") as service:
        service.start_job(b"stubborn")
        service.process.send_signal(signal.SIGTERM)

        assert service.end() == 0
        assert service.log.endswith("store closed\n")


@pytest.mark.parametrize("operation", ["create_jobs", "claim_job", "finish_job"])
def test_an_unknown_outcome_ends_the_process_with_one_line_and_code_3(tmp_path: Path, operation: str) -> None:
    program = tmp_path / "failing_disk.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import sys
            import run
            from store.errors import OutcomeUnknown
            from store.memory import MemoryStore

            def fail(*_, **__):
                raise OutcomeUnknown("the disk could not say whether the write holds: EIO")

            MemoryStore.{operation} = fail
            sys.exit(run.main())
            """
        )
    )
    with serving(tmp_path, str(program)) as service:
        with Conversation(service.port) as client:
            reply = client.ask("POST", "/jobs", b'{"type": "echo"}', "Content-Type: application/json")
            assert reply.status == (503 if operation == "create_jobs" else 201)

        assert service.end() == 3
    assert service.log.endswith("ended: the disk could not say whether the write holds: EIO\n")
    assert "Traceback" not in service.log


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"GOFER_PORT": "x"}, "GOFER_PORT: must be a whole number from 0 to 65535, not 'x'"),
        ({"GOFER_PROT": "1"}, "GOFER_PROT: unknown setting; did you mean GOFER_PORT?"),
        (
            {"GOFER_HANDLERS": "no_such_module"},
            "cannot import the handler module 'no_such_module': ModuleNotFoundError",
        ),
        ({"GOFER_STORE": "floppy:a"}, "'floppy:a' names no store"),
        ({"GOFER_STORE": "sqlite:/no/such/directory/gofer.db"}, "/no/such/directory"),
        ({"GOFER_HOST": "0.0.0.0"}, "GOFER_HOST: others could reach 0.0.0.0, and there is no key; make one with: "),
        ({"GOFER_HOST": "no.such.host.invalid", **ANYBODY}, "cannot listen on no.such.host.invalid port 0: "),
        ({"GOFER_HOST": "a" * 300, **ANYBODY}, "cannot listen on aaa"),
        (
            {"GOFER_HOST": "203.0.113.1", **ANYBODY},
            "cannot listen on 203.0.113.1 port 0: Cannot assign requested address",
        ),
    ],
)
def test_what_keeps_it_from_starting_is_one_clear_line(tmp_path: Path, settings: dict[str, str], line: str) -> None:
    code, output, errors = run(cwd=tmp_path, **settings)

    assert (code, output) == (2, "")
    assert re.fullmatch(r"gofer: .*\n", errors), errors
    assert line in errors


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, errors = run(cwd=tmp_path, GOFER_PORT=str(port), GOFER_STORE="sqlite:gofer.db")

    assert (code, errors) == (2, f"gofer: cannot listen on 127.0.0.1 port {port}: Address already in use\n")
    assert not (tmp_path / "gofer.db").exists()


def test_a_handler_for_a_queue_that_nobody_serves_is_one_clear_line(tmp_path: Path) -> None:
    code, _, errors = run("--check", cwd=tmp_path, GOFER_HANDLERS="tests.app.job_handlers")

    assert (code, errors) == (2, "gofer: GOFER_QUEUES: lacks slow, the queue of the type particular\n")


def test_all_wrong_settings_are_told_together(tmp_path: Path) -> None:
    _, _, errors = run(cwd=tmp_path, GOFER_PORT="x", GOFER_WORKERS="x", GOFER_X="x")

    assert errors.count("\n") == errors.count("gofer: ") == 3


def test_a_check_ends_although_a_handler_module_has_left_a_thread(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(
        textwrap.dedent(
            """
            import threading
            from worker import handler

            threading.Thread(target=threading.Event().wait).start()

            @handler("idle")
            def idle(ctx, payload):
                pass
            """
        )
    )
    assert run("--check", cwd=tmp_path, GOFER_HANDLERS="busy.py") == (0, "ok\n", "")


def test_nothing_of_ours_takes_the_place_of_a_standard_stream_that_is_closed(tmp_path: Path) -> None:
    """What some library writes to descriptor 2 would land in the database otherwise."""
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, str(ROOT / "run.py")]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = environment(GOFER_STORE="sqlite:gofer.db", GOFER_PORT=str(port))
    with subprocess.Popen(shell, env=own, cwd=tmp_path) as process:
        try:
            eventually(lambda: _answers(port), LIMIT)
            links = [Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in range(3)]
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()
    assert links == [Path(os.devnull)] * 3


def _answers(port: int) -> bool:
    try:
        with Conversation(port) as client:
            return client.ask("GET", "/ready").status == 200
    except (OSError, EOFError):
        return False


def test_a_new_key_is_the_first_line_although_standard_error_is_closed(tmp_path: Path) -> None:
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, str(ROOT / "run.py"), "keys", "new"]
    command += ["--name", "deploy", "--scopes", "read"]
    done = subprocess.run(command, env=environment(), cwd=tmp_path, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith(b"gofer_")


def test_what_handlers_print_is_there_although_the_process_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "talker.py").write_text(
        textwrap.dedent(
            """
            import os
            from worker import handler

            @handler("talker")
            def talker(ctx, payload):
                print("said")
                ctx.sleep(0.2)  # Until the answer is sent.
                os._exit(7)
            """
        )
    )
    with (
        serving(tmp_path, GOFER_HANDLERS="talker.py", PYTHONUNBUFFERED="") as service,
        Conversation(service.port) as client,
    ):
        assert client.ask("POST", "/jobs", b'{"type": "talker"}', "Content-Type: application/json").status == 201
        assert service.end() == 7
    assert "said\n" in service.log


def test_a_server_that_cannot_be_started_costs_running_jobs_nothing(tmp_path: Path) -> None:
    path = f"sqlite:{tmp_path / 'gofer.db'}"
    with closing(open_store(path, SystemClock(), random.Random(1))) as store:
        created = store.create_jobs([NewJob(type="sleep", payload=Raw(b"600"))])[0]
    program = tmp_path / "no_thread.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys
            import threading
            import run
            from app.server import HttpServer
            from worker.executor import Executor

            running, begin = threading.Event(), Executor.begin

            def tell(*arguments):
                run = begin(*arguments)
                running.set()
                return run

            def fail(_):
                running.wait(10)
                raise RuntimeError("can't start new thread")

            Executor.begin, HttpServer.start = tell, fail
            sys.exit(run.main())
            """
        )
    )
    code, _, errors = run(cwd=tmp_path, program=str(program), GOFER_STORE=path, GOFER_SHUTDOWN_TIMEOUT="0.1")
    assert code == 3
    assert "can't start new thread" in errors
    with closing(open_store(path, SystemClock(), random.Random(1))) as store:
        job = store.get_job(created.job.id)
    assert (job.status, job.interruptions) == (JobStatus.PENDING, 1)


def test_check_validates_and_leaves_no_trace(tmp_path: Path) -> None:
    assert run("--check", cwd=tmp_path, GOFER_STORE="sqlite:gofer.db") == (0, "ok\n", "")
    assert list(tmp_path.iterdir()) == []


def test_help_documents_the_settings_and_version_tells_itself(tmp_path: Path) -> None:
    code, output, _ = run("--help", cwd=tmp_path)

    assert code == 0
    assert "GOFER_SHUTDOWN_TIMEOUT" in output
    assert run("--version", cwd=tmp_path)[1] == f"gofer {VERSION}\n"
