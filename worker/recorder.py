"""Stores the log lines and progress of running attempts, together, about twice a second."""

import threading

from store.protocol import JobStore, Note
from worker.job_watch import JobWatch
from worker.loop import Loop
from worker.notes import Unsaved
from worker.running import Run, RunningJobs

#: Seconds between two writes.
_INTERVAL = 0.5

_NOTHING = Unsaved()


class Recorder:
    """Takes the notes of all running attempts to the store."""

    def __init__(self, store: JobStore, running: RunningJobs, logs: JobWatch) -> None:
        """``logs`` hears of each job whose log has new lines."""
        self._store = store
        self._running = running
        self._logs = logs
        # An attempt's notes are refused after its outcome. So this lock is held while the store
        # writes notes, and whoever is about to write an outcome waits for it; handlers that say
        # nothing never meet it.
        self._writing = threading.Lock()
        self.loop = Loop("gofer-recorder", self._turn, rest=_INTERVAL)

    def take_last(self, run: Run) -> Unsaved:
        """The notes that are to go with the run's outcome; all before them are written."""
        if not run.notes.used:
            return _NOTHING
        with self._writing:
            return run.notes.take()

    def _turn(self) -> None:
        with self._writing:
            notes = self._write()
        for note in notes:
            if note.lines:
                self._logs.announce(note.job_id)

    def _write(self) -> list[Note]:
        """Store all notes that there are; return them."""
        taken = [(run, run.notes.take()) for run in self._running.runs() if run.notes]
        notes = [
            Note(run.job.id, run.job.attempt, unsaved.progress, unsaved.lines, unsaved.skipped)
            for run, unsaved in taken
        ]
        try:
            if notes:
                self._store.record_notes(notes)
        except BaseException:
            for run, unsaved in taken:
                run.notes.put_back(unsaved)
            raise
        return notes
