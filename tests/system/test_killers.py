"""Promise 3: a job that kills the service is found and given up, and costs the others nothing."""

import contextlib
import http.client
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from store.transitions import FREE_CRASHES
from tests import processes
from tests.eventually import eventually
from tests.system import killers
from tests.system.service import HANDLERS, PROGRAM, ROOT, Service

DEATH = "the service died (it crashed, was killed or ran out of memory)"
EXIT_CODES = {"segfault": -signal.SIGSEGV, "kill": -signal.SIGKILL, "memory": -signal.SIGKILL}


@pytest.fixture
def launch_killable(launch: Callable[..., Service]) -> Callable[..., Service]:
    """Start services that have the handlers that kill."""
    return lambda **settings: launch(GOFER_HANDLERS=f"{HANDLERS},{killers.__file__}", **settings)


@pytest.fixture
def little_memory(small_group: Path) -> tuple[str, ...]:
    """How a program is started that has 250 MB of memory and is killed by the kernel if it wants more."""
    return ("sh", "-c", f'echo $$ > {small_group}/cgroup.procs && exec "$@"', "sh")


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group whose processes have 250 MB of memory together."""
    group = Path(f"/sys/fs/cgroup/memory/gofer-test-{os.getpid()}")
    limit = group / "memory.limit_in_bytes"
    if not group.parent.exists():
        group = Path(f"/sys/fs/cgroup/gofer-test-{os.getpid()}")
        limit = group / "memory.max"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("a control group is not allowed here, so memory cannot be limited as a container's is")
    try:
        with contextlib.suppress(OSError):
            (group / "memory.swap.max").write_text("0")
        limit.write_text(str(250 << 20))
        yield group
    finally:
        eventually(lambda: _is_removed(group))


def _is_removed(group: Path) -> bool:
    # A process that has ended may still be giving back its memory.
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def check_that_the_killer_is_given_up(start: Callable[[], Service], way: str, directory: Path) -> Service:
    """Run a killer beside others, which have one attempt each; the last service that it took down."""
    go, end = directory / "go", directory / "end"
    service = start()
    service.wait_until_ready()
    killer = service.submit("fatal", {"way": way, "after": str(go)})["id"]
    innocent = [service.submit("deaf", str(end), max_attempts=1)["id"] for _ in range(3)]
    for job_id in (killer, *innocent):
        service.wait_for_start(job_id)
    go.touch()
    for _ in range(3):
        assert service.wait_for_exit() == EXIT_CODES[way]
        end.touch()
        last, service = service, start()
    service.wait_until_ready()

    assert "a suspect, before the queues open" in last.stderr
    failed = service.wait_for_end(killer)
    assert (failed["status"], failed["attempt"], failed["error"]["type"]) == ("failed", 3, "Crashed")
    said = f"{DEATH} 2 times while this job ran alone in it, so the job is held to be the cause and is not run again"
    assert failed["error"]["message"] == said
    assert f"job {killer} (fatal) failed for good: {said}" in service.stderr
    attempts = service.attempts(killer)
    beside = (
        f"{DEATH} while attempt 1 of this job ran beside others; any of them may be the cause, so it costs no attempt"
    )
    assert [attempt["error"]["message"] for attempt in attempts] == [
        beside,
        f"{DEATH} while attempt 2 of this job ran alone in it",
        said,
    ]
    for job_id in innocent:
        job = service.wait_for_end(job_id)
        assert (job["status"], job["attempt"], job["max_attempts"], job["error"]) == ("completed", 2, 1, None)
        assert [attempt["status"] for attempt in service.attempts(job_id)] == ["crashed", "completed"]
    return last


@pytest.mark.parametrize("way", ["segfault", "kill"])
def test_a_job_that_kills_the_service_is_given_up_and_costs_its_neighbours_nothing(
    launch_killable: Callable[..., Service], tmp_path: Path, way: str
) -> None:
    last = check_that_the_killer_is_given_up(launch_killable, way, tmp_path)

    if way == "segfault":
        assert "Fatal Python error: Segmentation fault" in last.stderr
        assert f'File "{killers.__file__}", line' in last.stderr


def test_a_job_that_uses_up_the_memory_is_given_up_and_costs_its_neighbours_nothing(
    little_memory: tuple[str, ...], launch_killable: Callable[..., Service], tmp_path: Path
) -> None:
    def start() -> Service:
        return launch_killable(program=(*little_memory, *PROGRAM))

    check_that_the_killer_is_given_up(start, "memory", tmp_path)


def test_with_a_process_of_its_own_a_killer_costs_that_attempt_and_nobody_else_anything(
    launch_killable: Callable[..., Service], tmp_path: Path
) -> None:
    service = launch_killable()
    service.wait_until_ready()
    end = tmp_path / "end"
    innocent = service.submit("deaf", str(end), max_attempts=1)["id"]
    service.wait_for_start(innocent)
    ways = {
        "segfault": "the handler's process was killed by SIGSEGV",
        "exit": "the handler's process ended with exit code 9",
        "kill": "the handler's process was killed by SIGKILL (out of memory, perhaps)",
    }
    jobs = {way: service.submit("contained_fatal", {"way": way, "after": "/"}, max_attempts=1)["id"] for way in ways}

    for way, said in ways.items():
        job = service.wait_for_end(jobs[way])
        assert (job["status"], job["attempt"], job["error"]["type"]) == ("failed", 1, "ProcessDied")
        assert job["error"]["message"] == said
    end.touch()
    assert service.wait_for_end(innocent)["attempt"] == 1
    assert service.stop() == 0


def test_with_a_process_of_its_own_who_uses_up_the_memory_costs_that_attempt_and_nobody_else_anything(
    small_group: Path, launch_killable: Callable[..., Service], tmp_path: Path
) -> None:
    """The limit is that process's own: under one that all share, the kernel may kill the service, too, soon after."""
    go, end = tmp_path / "go", tmp_path / "end"
    service = launch_killable()
    service.wait_until_ready()
    innocent = service.submit("deaf", str(end), max_attempts=1)["id"]
    killer = service.submit("contained_fatal", {"way": "memory", "after": str(go)}, max_attempts=1)["id"]
    for job_id in (innocent, killer):
        service.wait_for_start(job_id)
    for pid in processes.children(service.process.pid):
        (small_group / "cgroup.procs").write_text(str(pid))
    go.touch()

    job = service.wait_for_end(killer)

    assert (job["status"], job["attempt"], job["error"]["type"]) == ("failed", 1, "ProcessDied")
    assert job["error"]["message"] == "the handler's process was killed by SIGKILL (out of memory, perhaps)"
    end.touch()
    assert service.wait_for_end(innocent)["attempt"] == 1
    assert service.stop() == 0


def short_quarantine(directory: Path) -> tuple[str, str]:
    """A service that holds a suspect that still runs after 0.2 s to be innocent, not after 10 s."""
    program = directory / "short_quarantine.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(ROOT)!r})
            import run
            from worker.engine import Engine

            Engine.__init__.__kwdefaults__["quarantine_limit"] = 0.2
            sys.exit(run.main())
            """
        )
    )
    return (sys.executable, str(program))


def test_a_job_that_kills_the_service_only_beside_others_is_given_up_in_the_end(
    launch_killable: Callable[..., Service], tmp_path: Path
) -> None:
    """Alone it does no harm, so that it is cleared each time; and whoever runs beside it looks just as guilty."""
    settings: dict[str, Any] = {"program": short_quarantine(tmp_path)}
    service = launch_killable(**settings)
    service.wait_until_ready()
    bully = service.submit("bully", str(tmp_path / "trace"), max_attempts=1)["id"]
    service.wait_for_start(bully)
    payload = {"trace": str(tmp_path / "trace"), "seconds": 0.5}
    # It is stored before it begins, but the service may die before it has said so.
    with contextlib.suppress(OSError, http.client.HTTPException):
        service.submit("traced", payload, max_attempts=2)

    for _ in range(FREE_CRASHES + 1):
        assert service.wait_for_exit() == 9
        service = launch_killable(**settings)
    service.wait_until_ready()

    failed = service.wait_for_end(bully)
    assert (failed["status"], failed["attempt"]) == ("failed", FREE_CRASHES + 1)
    said = f"{DEATH} while attempt 6 of this job ran beside others, 6 times by now; past 5 it costs an attempt"
    assert failed["error"]["message"] == said
    (innocent,) = (job["id"] for job in service.jobs() if job["type"] == "traced")
    job = service.wait_for_end(innocent)
    assert (job["status"], job["attempt"]) == ("completed", FREE_CRASHES + 2)
