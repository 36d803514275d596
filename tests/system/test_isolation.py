"""Isolated handlers in the real service: what their processes inherit, and that none outlives the service."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.processes import children, is_alive
from tests.system.service import PATIENCE, Service
from tests.worker.isolation import handlers
from tests.worker.isolation.pid_file import pids_in


@pytest.fixture
def isolated(start: Callable[..., Service]) -> Callable[..., Service]:
    """Start services whose handlers run in processes."""
    return lambda **settings: start(GOFER_HANDLERS=handlers.__file__, **settings)


def started(service: Service, job_type: str, path: Path) -> tuple[str, list[int]]:
    """Run a job whose handler writes the numbers of processes to a file; its id, and the numbers."""
    job = service.submit(job_type, str(path))
    return job["id"], pids_in(path)


@pytest.mark.parametrize("job_type", ["busy", "family"])
def test_no_process_outlives_a_service_that_is_killed(
    isolated: Callable[..., Service], tmp_path: Path, job_type: str
) -> None:
    """Neither one that keeps the interpreter's lock, nor a program that a handler started, nor an idle one."""
    service = isolated(GOFER_WORKERS=2)
    _, pids = started(service, job_type, tmp_path / "pids")
    pids = [*pids, *children(service.process.pid)]
    assert all(is_alive(pid) for pid in pids)
    service.kill()
    eventually(lambda: not any(is_alive(pid) for pid in pids))


def test_a_job_whose_service_was_killed_runs_again_in_a_process(
    isolated: Callable[..., Service], tmp_path: Path
) -> None:
    """It is a suspect, and runs alone first."""
    service = isolated()
    job_id = service.submit("spin", str(tmp_path / "end"))["id"]
    service.wait_for_start(job_id)
    service.kill()
    (tmp_path / "end").touch()
    service = isolated()
    job = service.wait_for_end(job_id)
    assert (job["status"], job["attempt"]) == ("completed", 2)
    assert job["result"] != service.process.pid
    assert [attempt["status"] for attempt in service.attempts(job_id)] == ["crashed", "completed"]


def test_a_shutdown_leaves_no_process_and_puts_the_job_back(isolated: Callable[..., Service], tmp_path: Path) -> None:
    service = isolated(GOFER_SHUTDOWN_TIMEOUT=0.1, GOFER_WORKERS=2)
    job_id, pids = started(service, "busy", tmp_path / "pids")
    pids = [*pids, *children(service.process.pid)]
    assert service.stop() == 0
    assert not any(is_alive(pid) for pid in pids)
    assert "Traceback" not in service.stderr
    service = isolated()
    assert service.attempts(job_id)[0]["status"] == "interrupted"


def test_a_second_signal_leaves_no_process_either(isolated: Callable[..., Service], tmp_path: Path) -> None:
    service = isolated()
    _, pids = started(service, "busy", tmp_path / "pids")
    service.send(signal.SIGTERM)
    service.wait_for_log("stopping: waiting")
    service.send(signal.SIGINT)
    service.wait_for_exit()
    eventually(lambda: not any(is_alive(pid) for pid in pids))


def test_a_process_inherits_neither_the_listening_socket_nor_the_database(isolated: Callable[..., Service]) -> None:
    service = isolated()
    links = service.wait_for_end(service.submit("descriptors")["id"])["result"]["links"]
    # Its end of the connection and of two pipes, and the directory that was being listed.
    others = sorted(re.sub(r"\W.*", "", link) for number, link in links.items() if int(number) > 2)
    assert others == ["pipe", "pipe", "socket"]
    ours = {str(entry.readlink()) for entry in Path(f"/proc/{service.process.pid}/fd").iterdir() if is_socket(entry)}
    assert not ours & set(links.values())


def is_socket(entry: Path) -> bool:
    """Whether a descriptor of the service is a socket; it may be closed meanwhile."""
    try:
        return str(entry.readlink()).startswith("socket:")
    except OSError:
        return False


def test_a_process_imports_nothing_from_the_working_directory(isolated: Callable[..., Service], tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(1)")
    service = isolated()
    assert service.wait_for_end(service.submit("whoami")["id"])["status"] == "completed"


def test_what_a_handler_logs_and_prints_is_in_the_services_log(isolated: Callable[..., Service]) -> None:
    service = isolated()
    service.wait_for_end(service.submit("complain", "tea")["id"])
    service.wait_for_log("printed tea")
    assert re.search(r"WARNING.*shop\.orders.*out of tea", service.stderr)


def test_a_crash_of_the_interpreter_fails_its_attempt_alone(isolated: Callable[..., Service]) -> None:
    service = isolated()
    job = service.wait_for_end(service.submit("die", "segfault", max_attempts=1)["id"])
    assert (job["status"], job["error"]["message"]) == ("failed", "the handler's process was killed by SIGSEGV")
    assert "Fatal Python error: Segmentation fault" in service.stderr
    assert service.wait_for_end(service.submit("whoami")["id"])["status"] == "completed"
    eventually(lambda: service.get("/ready").status == 200, PATIENCE)
