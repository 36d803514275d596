"""What the simulated jobs do."""

from typing import Any

from tests.simulation.executions import Executions
from tests.simulation.scheduler import Killed, Scheduler
from tests.worker.harness import registry_of
from worker.context import JobContext
from worker.errors import Fail, Retry
from worker.registry import Registry


class Handlers:
    """One type of job, ``act``, whose payload says what its handler does."""

    def __init__(self, scheduler: Scheduler, executions: Executions) -> None:
        self._scheduler = scheduler
        self._executions = executions

    def registry(self) -> Registry:
        """What the engines are given."""
        return registry_of(act=self._act)

    def _act(self, ctx: JobContext, payload: dict[str, Any]) -> object:
        process = self._scheduler.current.process
        self._executions.begin(process, ctx.job_id, ctx.attempt)
        try:
            self._do(payload["what"], payload["seconds"], ctx)
            if ctx.attempt <= payload["failures"]:
                self._refuse(payload["what"])
        finally:
            self._executions.end(ctx.job_id, ctx.attempt)
        return {"attempt": ctx.attempt}

    def _do(self, what: str, seconds: float, ctx: JobContext) -> None:
        match what:
            case "talk":
                for part in (1, 2, 3):
                    ctx.log(f"part {part}")
                    ctx.progress(part / 3)
                    ctx.sleep(seconds / 3)
            case "ignore":  # Neither a cancel nor a timeout impresses it.
                self._scheduler.sleep(seconds)
            case "kill" if ctx.attempt <= 2:
                ctx.sleep(seconds / 2)
                self._scheduler.kill(self._scheduler.current.process)
                raise Killed
            case _:
                ctx.sleep(seconds)

    def _refuse(self, what: str) -> None:
        match what:
            case "later":
                raise Retry(after=7.0)
            case "never":
                raise Fail
            case _:
                raise ValueError("not yet")
