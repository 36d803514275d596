"""What goes wrong: instances crash, stand still, stop and start, and the wall clock jumps."""

import random
from collections.abc import Sequence

from tests.simulation.instance import Instance, World

#: Seconds. All are even, so that no jumps that are noticed together come to a single second, which is not followed.
_JUMPS = (-3600.0, -6.0, 2.0, 44.0, 3600.0)
#: Seconds between two jumps at least: one that is undone before anybody looks is not noticed, and not promised to be.
_JUMP_GAP = 1.5


class Chaos:
    """Does harm for a while, then heals everything."""

    def __init__(
        self, rng: random.Random, world: World, instances: Sequence[Instance], *, seconds: float, kinds: Sequence[str]
    ) -> None:
        """``kinds``: of ``crash``, ``freeze``, ``stop`` and ``jump``."""
        self._rng = rng
        self._world = world
        self._instances = instances
        self._seconds = seconds
        self._kinds = kinds
        self._jumped_at = -_JUMP_GAP

    def run(self) -> None:
        """Called by a thread of its own process; returns after the harm is done."""
        scheduler = self._world.scheduler
        while scheduler.now < self._seconds:
            scheduler.sleep(self._rng.choice((0.0, 0.3, 2.0, 10.0, 20.0)))
            if self._kinds:
                self._harm(self._rng.choice(self._kinds))
            self._restart()

    def heal(self) -> None:
        """Let everything work from now on, and no more be asked for."""
        world = self._world
        if (left := self._jumped_at + _JUMP_GAP - world.scheduler.now) > 0:
            world.scheduler.sleep(left)
        world.faults.stop()
        world.clock.set_right()
        world.ledger.note_jump()
        for instance in self._instances:
            instance.has_clients = False
            if not instance.is_up:
                instance.start()

    def _harm(self, kind: str) -> None:
        instance = self._rng.choice(self._instances)
        match kind:
            case "jump" if self._world.scheduler.now >= self._jumped_at + _JUMP_GAP:
                self._jumped_at = self._world.scheduler.now
                seconds = self._rng.choice(_JUMPS)
                self._say(f"the wall clock jumps by {seconds:g} s")
                self._world.clock.jump(seconds)
                self._world.ledger.note_jump()
            case "crash" if instance.is_up:
                self._say(f"{instance.process} crashes")
                instance.crash()
            case "stop" if instance.is_up:
                self._say(f"{instance.process} is to stop")
                instance.request_stop()
            case "freeze" if instance.is_up and not instance.process.frozen:
                seconds = self._rng.choice((1.0, 12.0, 35.0, 40.0, 45.0))
                self._say(f"{instance.process} stands still for {seconds:g} s")
                self._freeze(instance, seconds)

    def _freeze(self, instance: Instance, seconds: float) -> None:
        scheduler, process = self._world.scheduler, instance.process
        scheduler.freeze(process)

        def thaw() -> None:
            scheduler.sleep(seconds)
            scheduler.thaw(process)
            self._world.ledger.note_thaw(process)

        scheduler.spawn("thaw", scheduler.current.process, thaw)

    def _restart(self) -> None:
        for instance in self._instances:
            if not instance.is_up and self._rng.random() < 0.7:
                instance.start()
                self._say(f"{instance.process} starts")

    def _say(self, what: str) -> None:
        self._world.say(what)
