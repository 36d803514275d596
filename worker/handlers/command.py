"""Declared commands as handlers: a job runs a program, with its payload's values as arguments."""

import contextlib
import signal
from collections.abc import Iterable, Mapping

from store.clock import Clock
from worker.commands import limits, progress_line
from worker.commands.capture import Capture
from worker.commands.declaration import Command, StdIn
from worker.commands.lines import LineReader
from worker.commands.output import bare, result_of
from worker.commands.payload import Call, PayloadReader
from worker.commands.process import KILL_TIME, Exit, Launch, Runner
from worker.context import JobContext
from worker.errors import Cancelled, CommandFailed, Retry
from worker.process_groups import ProcessGroups
from worker.registry import HandlerSpec

#: The exit code that asks for another attempt (sysexits.h).
_EX_TEMPFAIL = 75
#: Characters of the last line of standard error that an error repeats.
_LAST_LINE = 1000


def specs(commands: Iterable[Command], groups: ProcessGroups, clock: Clock) -> list[HandlerSpec]:
    """A type of job for each command. ``groups`` kills what runs if this process dies."""
    runner = Runner(groups, clock)
    return [_spec(command, runner) for command in commands]


def _spec(command: Command, runner: Runner) -> HandlerSpec:
    read = PayloadReader(command)
    return HandlerSpec(
        type=command.name,
        function=CommandHandler(command, runner),
        decode=read,
        takes_anything=read.takes_anything,
        queue=command.queue,
        max_attempts=command.max_attempts,
        timeout=command.timeout,
        backoff=command.backoff,
        stop_time=command.grace + KILL_TIME,
        summary=command.description.partition("\n")[0],
        payload_type=read.payload_type,
        example=read.example,
        bare=bare,
    )


class CommandHandler:
    """Runs one declared command. Has no state of its own, so all threads share it."""

    def __init__(self, command: Command, runner: Runner) -> None:
        self._command = command
        self._runner = runner

    def __call__(self, ctx: JobContext, call: Call) -> object:
        """Run it, and return what it wrote.

        Raises Cancelled if it was made to end, Retry if it asked for that, CommandFailed for
        every other end but exit code 0.
        """
        capture = Capture(self._command.max_output, lambda progress: ctx.progress(*progress))
        log = _Log(ctx)
        lines = LineReader(log.line)
        end = self._runner.run(self._launch(ctx, call), ctx.cancelled, capture.feed, lines.feed)
        capture.finish()
        lines.finish()
        _check(end, log.last)
        if capture.is_cut:
            kept = self._command.max_output
            ctx.log(f"the output was cut: {kept} of its {capture.size} bytes are the result", "warning")
        return result_of(capture)

    def _launch(self, ctx: JobContext, call: Call) -> Launch:
        command = self._command
        program = command.program
        # UTF-8 whatever the locale, as in the request.
        argv = [template.fill(call.values).encode() for template in command.argv]
        if command.limits:
            program, argv = limits.wrap(program, argv, command.limits)
        of_job = {"GOFER_JOB_ID": ctx.job_id, "GOFER_ATTEMPT": str(ctx.attempt)}
        return Launch(
            program=program,
            argv=argv,
            environment={**command.environment, **of_job, **_more_of_job(ctx)},
            mark=frozenset(f"{name}={value}" for name, value in of_job.items()),
            cwd=command.cwd,
            stdin=call.payload if command.stdin is StdIn.PAYLOAD else None,
            grace=command.grace,
        )


class _Log:
    """Standard error, line by line, into the job's log."""

    def __init__(self, ctx: JobContext) -> None:
        self._ctx = ctx
        #: The last line that said something.
        self.last = ""

    def line(self, text: str) -> None:
        """A line without its end."""
        progress = progress_line.parse(text)
        if progress is not None:
            self._ctx.progress(*progress)
            return
        self._ctx.log(text)
        if text.strip():
            self.last = text.strip()[:_LAST_LINE]


def _more_of_job(ctx: JobContext) -> Mapping[str, str]:
    trace = {} if ctx.traceparent is None else {"TRACEPARENT": ctx.traceparent}
    return {"GOFER_TYPE": ctx.type, **trace}


def _check(end: Exit, last_line: str) -> None:
    """Raise unless the command ended by itself and with exit code 0."""
    if end.is_forced:
        raise Cancelled("the command was ended")
    if end.code == 0:
        return
    what = f"exit code {end.code}" if end.code > 0 else f"killed by {_name(-end.code)}"
    message = f"{what}: {last_line}" if last_line else what
    raise Retry(reason=message) if end.code == _EX_TEMPFAIL else CommandFailed(message)


def _name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
