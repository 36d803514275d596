"""Real threads that carry simulated ones."""

import _thread
from collections.abc import Callable


class Carrier:
    """A real thread that runs one function after the other, each once its baton is handed over."""

    def __init__(self, carriers: "Carriers") -> None:
        #: Whoever releases it lets the carrier go on; the carrier waits for it whenever it is not its turn.
        self.baton = _thread.allocate_lock()
        self.baton.acquire()
        self._carriers = carriers
        self._function: Callable[[], Callable[[], None]] | None = None

    def load(self, function: Callable[[], Callable[[], None]] | None) -> None:
        """Run this next; it returns what hands the turn to another thread. None ends the carrier."""
        self._function = function

    def main(self) -> None:
        """Run what it is given."""
        while True:
            self.baton.acquire()
            if self._function is None:
                return
            pass_on = self._function()
            # Before the turn is passed on: whoever has it may load this carrier again at once.
            self._carriers.put_back(self)
            pass_on()


class Carriers:
    """Carriers to borrow, used again and again: starting a thread is what costs most in a simulation.

    Not thread-safe: only the thread whose turn it is may call it.
    """

    def __init__(self) -> None:
        self._idle: list[Carrier] = []

    def take(self) -> Carrier:
        """A carrier with nothing to do."""
        if self._idle:
            return self._idle.pop()
        carrier = Carrier(self)
        _thread.start_new_thread(carrier.main, ())
        return carrier

    def put_back(self, carrier: Carrier) -> None:
        """It has nothing to do."""
        self._idle.append(carrier)

    def close(self) -> None:
        """End those that have nothing to do."""
        while self._idle:
            carrier = self._idle.pop()
            carrier.load(None)
            carrier.baton.release()
