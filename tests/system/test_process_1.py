"""The service as process 1 of a container, in a PID namespace of its own."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests import processes
from tests.eventually import eventually
from tests.system.service import HANDLERS, PROGRAM, Service

#: A new namespace, as root or as somebody who may pass for it; killed with whoever started it.
_NAMESPACE = ("--pid", "--fork", "--mount-proc", "--kill-child")
_WAYS = (("unshare", *_NAMESPACE), ("unshare", "--user", "--map-root-user", *_NAMESPACE))

#: Seconds after which a stop that is asked for again and again is over.
LIMIT = 8.0

CONFIG = """
[commands.daemon]
argv = ["sh", "-c", "setsid sleep 0.1 >/dev/null 2>&1 </dev/null &"]
[commands.false]
argv = ["false"]
[commands.endless]
argv = ["sh", "-c", "trap '' TERM; echo started >&2; while :; do sleep 0.05; done"]
grace = 0.2
"""


@cache
def namespace() -> tuple[str, ...]:
    """What starts a program as process 1; empty where nobody may."""
    for way in _WAYS:
        try:
            if subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0:
                return way
        except FileNotFoundError:
            break
    return ()


@pytest.fixture
def contained(launch: Callable[..., Service], tmp_path: Path) -> Callable[..., Service]:
    """Starts services as process 1."""
    if not namespace():
        pytest.skip("no PID namespaces here, so nobody looks whether the service is a good process 1")
    config = tmp_path / "gofer.toml"
    config.write_text(CONFIG)

    def start(**settings: object) -> Service:
        handlers = f"{HANDLERS},{HANDLERS.with_name('adopting_handlers.py')}"
        own = {"GOFER_CONFIG": config, "GOFER_HANDLERS": handlers}
        service = launch(program=(*namespace(), *PROGRAM), **{**own, **settings})
        service.wait_until_ready()
        return service

    return start


def first_of(service: Service) -> int:
    """The number of process 1, as it is seen from here."""
    (pid,) = processes.children(service.process.pid)
    return pid


def serving(service: Service) -> int:
    """The number of the process that serves."""
    (pid,) = processes.children(first_of(service))
    return pid


def program_of(pid: int) -> Path:
    """The program that a process runs."""
    return Path(f"/proc/{pid}/exe").readlink()


@contextlib.contextmanager
def handle(pid: int) -> Iterator[int]:
    """A descriptor that stands for the process: its number may be another's once it has ended."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_orphans_are_waited_for_and_no_exit_code_is_stolen(contained: Callable[..., Service]) -> None:
    service = contained(GOFER_WORKERS=8)
    first, server = first_of(service), serving(service)
    late = [service.submit("late_asker", 1.0)["id"] for _ in range(3)]
    kinds = [{"type": "sower", "payload": 5}, {"type": "asker", "payload": 5}, {"type": "daemon"}, {"type": "false"}]
    jobs = service.submit_many([{**kind, "max_attempts": 1} for _ in range(12) for kind in kinds])

    service.wait_until_idle()

    ended = {job["id"]: job for job in service.jobs()}
    assert [ended[job]["result"] for job in late] == [1] * 3
    for job in (ended[job["id"]] for job in jobs):
        if job["type"] == "asker":
            assert job["result"] == [1] * 5
        elif job["type"] == "false":
            assert job["error"]["message"] == "exit code 1"
        else:
            assert job["status"] == "completed", job
    eventually(lambda: processes.children(first) == {server})
    assert processes.zombies(server) == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_good_order(contained: Callable[..., Service], tmp_path: Path, number: signal.Signals) -> None:
    service = contained(GOFER_SHUTDOWN_TIMEOUT=0.1)
    jobs = [service.submit("deaf", str(tmp_path / "end"))["id"], service.submit("endless")["id"]]
    for job in jobs:
        service.wait_for_start(job)

    os.kill(first_of(service), number)

    assert service.wait_for_exit(10) == 0
    assert f"stopping: {number.name}" in service.stderr
    assert service.stderr.endswith("store closed\n")
    service = contained()
    assert [service.job(job)["interruptions"] for job in jobs] == [1, 1]


def test_a_second_signal_ends_it_at_once(contained: Callable[..., Service], tmp_path: Path) -> None:
    service = contained(GOFER_SHUTDOWN_TIMEOUT=60)
    service.wait_for_start(service.submit("deaf", str(tmp_path / "end"))["id"])
    first = first_of(service)
    os.kill(first, signal.SIGTERM)
    service.wait_for_log("stopping")
    os.kill(first, signal.SIGINT)
    assert service.wait_for_exit(5) == 128 + signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_flood_of_the_signal_ends_it_soon_and_loses_nothing(
    contained: Callable[..., Service], number: signal.Signals
) -> None:
    service = contained()
    accepted = {service.submit("sleep", 60)["id"] for _ in range(20)}
    began = time.monotonic()

    with contextlib.suppress(ProcessLookupError), handle(first_of(service)) as first:
        while time.monotonic() - began < LIMIT:
            signal.pidfd_send_signal(first, number)

    assert service.wait_for_exit() in (0, 128 + number)
    assert time.monotonic() - began < LIMIT
    assert "Traceback" not in service.stderr
    assert {job["id"] for job in contained().jobs()} == accepted


def test_the_container_ends_with_a_service_that_is_killed(contained: Callable[..., Service]) -> None:
    service = contained()
    job = service.submit("endless")["id"]
    service.wait_for_start(job)
    os.kill(serving(service), signal.SIGKILL)
    assert service.wait_for_exit(5) == 128 + signal.SIGKILL
    eventually(lambda: processes.carrying(f"GOFER_JOB_ID={job}") == {})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_while_the_program_loads_is_not_lost(
    launch: Callable[..., Service], contained: Callable[..., Service], number: signal.Signals
) -> None:
    """Process 1 has no default actions: the kernel would throw the signal away."""
    service = launch(program=(*namespace(), *PROGRAM))
    first = eventually(lambda: processes.children(service.process.pid)).pop()
    # Not what unshare blocks before it becomes our program.
    eventually(lambda: program_of(first) != program_of(service.process.pid) and number in processes.blocked(first))
    assert processes.children(first) == set()  # It has not got beyond its imports.
    os.kill(first, number)
    assert service.wait_for_exit() == 128 + number
    assert service.stderr == ""


def test_a_signal_that_comes_before_the_service_listens_is_not_lost(
    launch: Callable[..., Service], contained: Callable[..., Service]
) -> None:
    service = launch(program=(*namespace(), *PROGRAM))
    first = eventually(lambda: processes.children(service.process.pid)).pop()
    eventually(lambda: processes.children(first))
    os.kill(first, signal.SIGTERM)
    assert service.wait_for_exit() in (0, 128 + signal.SIGTERM)


@pytest.mark.parametrize("arguments", [("keys", "new", "deploy"), ("serve", "--check"), ("health",), ("--nonsense",)])
def test_other_commands_end_with_their_own_exit_codes(
    contained: Callable[..., Service], arguments: Sequence[str]
) -> None:
    alone = subprocess.run([*PROGRAM, *arguments], capture_output=True, check=False)
    as_first = subprocess.run([*namespace(), *PROGRAM, *arguments], capture_output=True, check=False)
    assert as_first.returncode == alone.returncode
    assert as_first.stderr == alone.stderr
