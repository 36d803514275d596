"""Running the named statements of ``queries.sql`` on a connection."""

from collections.abc import Iterable
from typing import Any

import apsw

from store.queries import load_queries
from store.sqlite.rows import Row

SQL = load_queries("sqlite")


def corrupt(error: UnicodeDecodeError) -> apsw.CorruptError:
    """The file holds text that was never written: all of it was UTF-8. SQLite has no checksums to notice that by."""
    return apsw.CorruptError(f"text that is not UTF-8: {error.reason}")


class Session:
    """A connection that is asked by the names of statements."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._execute = connection.execute

    def rows(self, name: str, values: Row = ()) -> list[Row]:
        """Run a statement to its end and give every row."""
        try:
            return self._execute(SQL[name], values).fetchall()
        except UnicodeDecodeError as error:
            raise corrupt(error) from error

    def row(self, name: str, values: Row = ()) -> Row | None:
        """The first row, or None."""
        rows = self.rows(name, values)
        return rows[0] if rows else None

    def value(self, name: str, values: Row = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.row(name, values)
        return None if row is None else row[0]

    def run(self, name: str, values: Row = ()) -> None:
        """Run a statement that gives nothing back."""
        self._execute(SQL[name], values)

    def run_many(self, name: str, rows: Iterable[Row]) -> None:
        """Run a statement once for each row of values."""
        self.connection.executemany(SQL[name], rows)
