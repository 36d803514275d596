"""Runs one program to its end, and leaves nothing of it behind."""

import contextlib
import errno
import logging
import math
import os
import select
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from signal import SIGCONT, SIGKILL, SIGTERM

from store.clock import Clock
from worker.commands.census import Census
from worker.commands.pipes import Pipes, Sink
from worker.context import CancelEvent
from worker.errors import CommandFailed
from worker.orphans import Family, Mark, kill_group, send
from worker.process_groups import ProcessGroups

log = logging.getLogger(__name__)

#: Seconds from SIGKILL to giving up: the kernel may hold on to a process, as on a network file system that is gone.
KILL_TIME = 1.0
#: Seconds between two looks for who is left after SIGKILL, and how many there are at least: each may take long.
_LOOK, _FEWEST_LOOKS = 0.05, 5
#: Seconds that a program's helpers have to write their last, once it has exited itself.
_LINGER = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to start, and how."""

    #: The absolute path.
    program: str
    #: Everything that it is called with, its own name first.
    argv: Sequence[bytes]
    environment: Mapping[str, str]
    #: The entries of the environment that no other process of the machine has.
    mark: Mark
    #: None: that of the service.
    cwd: str | None
    #: What it reads; None: nothing.
    stdin: bytes | None
    #: Seconds from SIGTERM to SIGKILL.
    grace: float


@dataclass(frozen=True, slots=True)
class Exit:
    """How a program ended."""

    #: The exit code; of a signal's number, the negative.
    code: int
    #: It was made to end.
    is_forced: bool


class Runner:
    """Runs programs, each in the calling thread. Safe to use from any thread."""

    def __init__(self, groups: ProcessGroups, clock: Clock) -> None:
        """``groups`` kills what runs if this process dies."""
        self._groups = groups
        self._clock = clock
        self._census = Census()

    def run(self, launch: Launch, cancelled: CancelEvent, stdout: Sink, stderr: Sink) -> Exit:
        """Run to the end, or until ``cancelled`` is set; then it is ended by force.

        Afterwards no process of the program's group is left. Nor is one that left the group, when
        the program was ended by force or that one still holds an output open. The one that may
        stay is a daemon: it left the group, let go of the outputs, and its starter exited by itself.

        Raises CommandFailed if it cannot be started, or not be ended by force.
        """
        if cancelled.is_set():
            return Exit(0, is_forced=True)
        try:
            self._groups.expect(launch.mark)
        except OSError as error:
            raise CommandFailed(f"cannot start {launch.program}: no guardian: {error}") from error
        try:
            with closing(Pipes(self._clock)) as pipes:
                leader = _start(launch, pipes, stdout, stderr)
                running = _Running(
                    leader, launch, pipes=pipes, groups=self._groups, census=self._census, clock=self._clock
                )
                with closing(running):
                    is_forced = running.wait(cancelled)
                    code = running.end_by_force() if is_forced else running.tidy_up()
            return Exit(code, is_forced)
        finally:
            self._groups.forget(launch.mark)


class _Running:
    """A program while it runs: the leader of a session and of a process group.

    Until it was waited for, its number, which is that of both, cannot become another's.
    """

    def __init__(
        self,
        leader: subprocess.Popen[bytes],
        launch: Launch,
        *,
        pipes: Pipes,
        groups: ProcessGroups,
        census: Census,
        clock: Clock,
    ) -> None:
        self._leader = leader
        self._launch = launch
        self._pipes = pipes
        self._groups = groups
        self._census = census
        self._clock = clock
        self._family = Family([leader.pid], [launch.mark])
        self._was_ended = False
        self._descriptor = -1
        try:
            groups.add(leader.pid)
            self._descriptor = os.pidfd_open(leader.pid)
        except BaseException:
            self.close()
            raise

    def wait(self, cancelled: CancelEvent) -> bool:
        """Until the leader has exited or is to be ended by force; whether it is the latter."""
        with _readable_once(cancelled) as told:
            return self._descriptor not in self._pipes.wait((self._descriptor, told))

    def tidy_up(self) -> int:
        """After the leader has exited by itself: end what it left behind. Returns its exit code."""
        self._pipes.wait((), self._clock.monotonic() + _LINGER)
        if self._pipes.is_open:
            # Somebody holds on to them, in the session or out of it.
            self._end_leftovers(self._family)
            return self._reap()
        code = self._reap()
        if self._has_group():
            # One member is left at least, so the number is still theirs.
            self._end_leftovers(Family([self._leader.pid]))
            self._reap_group()
        return code

    def end_by_force(self) -> int:
        """Have all end that belong to the program: SIGTERM, and SIGKILL after the grace. Returns its exit code."""
        self._end(self._family)
        return self._reap()

    def close(self) -> None:
        """Whatever happened, nothing of it runs on."""
        if self._leader.returncode is None:
            kill_group(self._leader.pid, SIGKILL)
            with contextlib.suppress(CommandFailed):
                if not self._was_ended:
                    self._end(self._family)
                self._reap()
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _end_leftovers(self, family: Family) -> None:
        try:
            self._end(family)
        except CommandFailed as error:
            # What the program was to do is done all the same.
            log.error("left by a command that has ended: %s", error)

    def _end(self, family: Family) -> None:
        """Signal members until there is none: a member that was just started is found the next time.

        All time counts from the first signal of its kind: on a busy machine a look may take longer than that.
        Raises CommandFailed if there still is one in the end.
        """
        self._was_ended = True
        told: set[int] = set()
        kill_at = give_up_at = math.inf
        kills = 0
        while members := self._members(family):
            try:
                now = self._clock.monotonic()
                kill_at = min(kill_at, now + self._launch.grace)
                if now < kill_at:
                    _terminate([descriptor for pid, descriptor in members.items() if pid not in told])
                    told.update(members)
                    self._wait_for(members, kill_at)
                elif kills < _FEWEST_LOOKS or now < give_up_at:
                    kills += 1
                    give_up_at = min(give_up_at, now + KILL_TIME)
                    self._kill(members.values())
                    self._wait_for(members, now + _LOOK)
                else:
                    raise _undying(members)
            finally:
                for descriptor in members.values():
                    os.close(descriptor)

    def _members(self, family: Family) -> dict[int, int]:
        while True:
            try:
                return family.members(self._census.take())
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE}:
                    raise
                # Nobody is gone only because we cannot look. Others that end make room.
                select.poll().poll(_LOOK * 1000)

    def _kill(self, members: Iterable[int]) -> None:
        if self._leader.returncode is None:
            # All of the group at once: one that forks as fast as we look would get away.
            kill_group(self._leader.pid, SIGKILL)
        for descriptor in members:
            send(descriptor, SIGKILL)

    def _wait_for(self, members: Mapping[int, int], until: float) -> None:
        """Wait until all have ended, and read meanwhile what they write."""
        left = {descriptor: pid for pid, descriptor in members.items()}
        while left and (ended := self._pipes.wait(left, until)):
            for descriptor in ended:
                if left.pop(descriptor) != self._leader.pid:
                    _reap_orphan(descriptor)

    def _reap(self) -> int:
        """The exit code of the leader, which has ended. No zombie of its group stays."""
        self._pipes.read_rest()
        # Before its number is free.
        self._groups.remove(self._leader.pid)
        try:
            code = self._leader.wait(KILL_TIME)
        except subprocess.TimeoutExpired:
            raise _undying([self._leader.pid]) from None
        self._reap_group()
        return code

    def _has_group(self) -> bool:
        try:
            os.killpg(self._leader.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def _reap_group(self) -> None:
        """A subreaper is the parent of orphans, and nobody else waits for them."""
        with contextlib.suppress(ChildProcessError):
            while os.waitid(os.P_PGID, self._leader.pid, os.WEXITED | os.WNOHANG):
                pass


def _start(launch: Launch, pipes: Pipes, stdout: Sink, stderr: Sink) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as ours:
        outputs = []
        for sink in (stdout, stderr):
            outputs.append(pipes.add(sink))
            ours.callback(os.close, outputs[-1])
        stdin = subprocess.DEVNULL if launch.stdin is None else _file_of(launch.stdin)
        if stdin >= 0:
            ours.callback(os.close, stdin)
        try:
            return subprocess.Popen(  # noqa: S603 - the operator declared it
                launch.argv,
                executable=launch.program,
                env=launch.environment,
                cwd=launch.cwd,
                stdin=stdin,
                stdout=outputs[0],
                stderr=outputs[1],
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise CommandFailed(f"cannot start {launch.program}: {error}") from error


def _file_of(data: bytes) -> int:
    """A file without a name, at its beginning: unlike a pipe, nobody has to mind how fast it is read."""
    descriptor = os.memfd_create("payload")
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _readable_once(cancelled: CancelEvent) -> Iterator[int]:
    """A descriptor that is readable once ``cancelled`` is set."""
    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        with cancelled.calling(partial(os.eventfd_write, descriptor, 1)):
            yield descriptor
    finally:
        os.close(descriptor)


def _undying(pids: Iterable[int]) -> CommandFailed:
    return CommandFailed(f"not even SIGKILL ends {', '.join(f'process {pid}' for pid in pids)}")


def _terminate(members: Sequence[int]) -> None:
    for descriptor in members:
        send(descriptor, SIGTERM)
        # One that is stopped would hear of nothing but SIGKILL.
        send(descriptor, SIGCONT)


def _reap_orphan(descriptor: int) -> None:
    """A subreaper is the parent of orphans; else it is somebody else's."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
