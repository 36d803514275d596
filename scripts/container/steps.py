"""Running commands, and saying what came of it."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
#: Seconds that anything may take on a busy machine.
PATIENCE = 60.0


class Failure(Exception):
    """Something is not as it should be."""


def check(holds: object, what: str) -> None:
    """Say that something holds. Raises Failure if it does not."""
    if not holds:
        raise Failure(what)
    print(f"  ok: {what}")


def run(*command: str) -> str:
    """Run to the end; return standard output. Raises SubprocessError, also when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=10 * PATIENCE)
    return done.stdout.strip()


def exit_code(*command: str) -> tuple[int, str]:
    """Run to the end, however it ends; return the exit code and standard error, or output if that is empty."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    return done.returncode, (done.stderr or done.stdout).strip()


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds. Raises Failure when it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise Failure(f"not in {PATIENCE:.0f} s: {what}")
        time.sleep(0.005)


def readme(mark: str) -> str:
    """The code block below a mark in the README."""
    found = re.search(rf"^<!-- {mark} -->\n```\w+\n(.*?)^```$", ROOT.joinpath("README.md").read_text(), re.M | re.S)
    if not found:
        raise Failure(f"README.md has no code block below <!-- {mark} -->")
    return found[1].strip()


def session(script: str) -> str:
    """Show commands and run them in one shell; return what they print."""
    print(script)
    return run("bash", "-euo", "pipefail", "-c", script)
