"""Handlers that start processes of their own, for the tests of process 1."""

import subprocess

from worker import JobContext, handler


@handler("asker")
def asker(_ctx: JobContext, payload: int) -> list[int]:
    """Ask for exit codes of our own children, none of which is 0."""
    return [subprocess.run(["false"], check=False).returncode for _ in range(payload)]


@handler("late_asker")
def late_asker(ctx: JobContext, payload: float) -> int:
    """Ask for the exit code long after the child has ended."""
    with subprocess.Popen(["false"]) as child:
        ctx.sleep(payload)
        return child.wait()


@handler("sower")
def sower(_ctx: JobContext, payload: int) -> None:
    """Leave processes behind that end by themselves."""
    for _ in range(payload):
        subprocess.run(["sh", "-c", "setsid sleep 0.1 >/dev/null 2>&1 </dev/null &"], check=True)
