"""The guardian: what we started dies with us, and nothing else does."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import processes
from tests.eventually import eventually
from worker.process_groups import ProcessGroups

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def groups() -> Iterator[ProcessGroups]:
    groups = ProcessGroups()
    yield groups
    groups.close()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a session of its own."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        yield process
        process.kill()


def guardian(groups: ProcessGroups) -> int:
    assert groups._guardian is not None
    return groups._guardian.pid


def test_without_a_child_there_is_no_guardian(groups: ProcessGroups) -> None:
    groups.close()

    assert groups._guardian is None


def test_a_group_that_is_left_is_killed_when_the_pipe_closes(
    groups: ProcessGroups, sleeper: "subprocess.Popen[bytes]"
) -> None:
    groups.add(sleeper.pid)
    groups.close()

    assert sleeper.wait(5) == -signal.SIGKILL


def test_a_group_that_was_taken_back_lives(groups: ProcessGroups, sleeper: "subprocess.Popen[bytes]") -> None:
    groups.add(sleeper.pid)
    groups.remove(sleeper.pid)
    groups.close()

    assert sleeper.poll() is None


def test_what_carries_a_mark_is_killed_whatever_session_it_is_in(groups: ProcessGroups) -> None:
    environment = {**os.environ, "GOFER_A": "1", "GOFER_B": "2"}
    with (
        subprocess.Popen(["sleep", "1000"], env=environment, start_new_session=True) as marked,
        subprocess.Popen(["sleep", "1000"], env={**environment, "GOFER_B": "3"}) as other,
    ):
        groups.expect(frozenset({"GOFER_A=1", "GOFER_B=2"}))
        groups.expect(frozenset({"GOFER_A=1", "GOFER_B=3"}))
        groups.forget(frozenset({"GOFER_A=1", "GOFER_B=3"}))
        groups.close()

        assert marked.wait(5) == -signal.SIGKILL
        assert other.poll() is None
        other.kill()


def test_a_guardian_that_died_is_replaced_and_told_everything(
    groups: ProcessGroups, sleeper: "subprocess.Popen[bytes]"
) -> None:
    groups.add(sleeper.pid)
    first = guardian(groups)
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)

    groups.add(2**22 + 1)

    assert guardian(groups) != first
    groups.close()
    assert sleeper.wait(5) == -signal.SIGKILL


def test_a_guardian_that_hangs_is_replaced(
    groups: ProcessGroups, sleeper: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.process_groups._PATIENCE", 0.05)
    groups.add(sleeper.pid)
    first = guardian(groups)
    os.kill(first, signal.SIGSTOP)

    def is_replaced() -> bool:
        groups.expect(frozenset({"x" * 2000}))
        groups.forget(frozenset({"x" * 2000}))
        return guardian(groups) != first

    eventually(is_replaced)
    assert sleeper.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_all_of_us_does_not_end_the_guardian(groups: ProcessGroups, number: signal.Signals) -> None:
    groups.add(2**22 + 1)
    handled = Path(f"/proc/{guardian(groups)}/status")
    eventually(lambda: _ignores(handled.read_text(), number))
    os.kill(guardian(groups), number)
    groups.add(2**22 + 2)

    assert processes.children(os.getpid()) == {guardian(groups)}


def _ignores(status: str, number: signal.Signals) -> bool:
    (mask,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(mask >> (number - 1) & 1)


def test_nothing_is_added_after_the_end(groups: ProcessGroups) -> None:
    groups.close()

    with pytest.raises(OSError, match="the service has ended"):
        groups.add(1)
    groups.remove(1)
    groups.close()


def test_a_killed_process_takes_its_groups_along(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        textwrap.dedent(
            """
            import subprocess
            from worker.process_groups import ProcessGroups

            groups = ProcessGroups()
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            groups.add(child.pid)
            print(child.pid, groups._guardian.pid, flush=True)
            child.wait()
            """
        )
    )
    with subprocess.Popen(
        [sys.executable, program], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child, guard = map(int, parent.stdout.readline().split())
        assert processes.of_session(child) == {child}
        parent.kill()

    eventually(lambda: not processes.of_session(child) and not processes.of_session(guard))
