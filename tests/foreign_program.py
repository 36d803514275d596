"""What a person asks of the database file with another program, such as SQLite's own ``sqlite3``."""

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1])) as database:
    print(*(value for row in database.execute(sys.argv[2]) for value in row))
"""


def ask(database: Path, sql: str) -> str:
    """Run a statement in a process of its own, which closes the file as it should.

    What it answers, or the error, in one line.
    """
    command = [sys.executable, "-c", _PROGRAM, database.name, sql]
    done = subprocess.run(command, cwd=database.parent, check=False, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().rpartition("\n")[2]
