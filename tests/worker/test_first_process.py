"""What process 1 of a container is for. Its tests in a namespace of its own: ``tests/system/test_process_1.py``."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.eventually import eventually
from tests.processes import children

#: Seconds; no test comes near it unless something hangs.
LIMIT = 20


@contextmanager
def beside(program: str, *wrapper: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that steps aside, so that its child goes on with a program."""
    code = f"import os, signal, sys\nfrom worker import first_process\nfirst_process.step_aside()\n{program}"
    with subprocess.Popen(
        [*wrapper, sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_the_exit_code_is_that_of_the_service() -> None:
    with beside("sys.exit(7)") as process:
        assert process.wait(LIMIT) == 7


def test_a_signal_that_ends_the_service_is_told_as_a_shell_does() -> None:
    with beside("os.kill(os.getpid(), signal.SIGKILL)") as process:
        assert process.wait(LIMIT) == 128 + signal.SIGKILL


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"])
def test_a_signal_is_passed_on(name: str) -> None:
    number = signal.Signals[name]
    waits = (
        f"signal.signal({number}, lambda number, _: sys.exit(number + 50))\nprint('ready', flush=True)\nsignal.pause()"
    )
    with beside(waits) as process:
        assert line(process) == "ready\n"
        process.send_signal(number)
        assert process.wait(LIMIT) == number + 50


def test_a_signal_has_its_usual_effect_on_a_service_that_does_not_catch_it() -> None:
    with beside("print('ready', flush=True)\nsignal.pause()") as process:
        assert line(process) == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 128 + signal.SIGTERM


def test_a_flood_of_signals_holds_nothing_up() -> None:
    counts = "signal.signal(signal.SIGUSR1, lambda *_: None)\nprint('ready', flush=True)\ninput()\nos._exit(3)"
    with beside(counts) as process:
        assert line(process) == "ready\n"
        for _ in range(2000):
            process.send_signal(signal.SIGUSR1)
        process.communicate("end\n", LIMIT)
        assert process.returncode == 3


def test_the_service_can_wait_for_its_own_children() -> None:
    with beside("import subprocess\nprint({subprocess.run('false').returncode for _ in range(30)})") as process:
        assert line(process) == "{1}\n"
        assert process.wait(LIMIT) == 0


def test_the_exit_code_is_known_though_it_was_started_with_sigchld_ignored() -> None:
    with beside("sys.exit(7)", "env", "--ignore-signal=CHLD") as process:
        assert process.wait(LIMIT) == 7


def test_the_service_is_the_only_child_and_has_no_signal_blocked() -> None:
    with beside("print(signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)\ninput()") as process:
        assert line(process) == "set()\n"
        eventually(lambda: len(children(process.pid)) == 1)
        process.communicate("end\n", LIMIT)
        assert process.returncode == 0
