"""Stores the log lines and progress of running attempts, together, about twice a second."""

import threading

from store.job import LogLine, Progress
from store.protocol import JobStore, Note
from worker.loop import Loop
from worker.running import Run, RunningJobs

#: Seconds between two writes.
_INTERVAL = 0.5


class Recorder:
    """Takes the notes of all running attempts to the store."""

    def __init__(self, store: JobStore, running: RunningJobs) -> None:
        self._store = store
        self._running = running
        # An attempt's notes are refused after its outcome. So this lock is held while the store
        # writes notes, and whoever is about to write an outcome waits for it; handlers that say
        # nothing never meet it.
        self._writing = threading.Lock()
        self.loop = Loop("gofer-recorder", self._turn, rest=_INTERVAL)

    def take_last(self, run: Run) -> tuple[tuple[LogLine, ...], Progress | None]:
        """The notes that are to go with the run's outcome; all before them are written."""
        if not run.notes.used:
            return (), None
        with self._writing:
            return run.notes.take()

    def _turn(self) -> None:
        with self._writing:
            taken = [(run, *run.notes.take()) for run in self._running.runs() if run.notes]
            if not taken:
                return
            try:
                self._store.record_notes(
                    [Note(run.job.id, run.job.attempt, progress, lines) for run, lines, progress in taken]
                )
            except BaseException:
                for run, lines, progress in taken:
                    run.notes.put_back(lines, progress)
                raise
