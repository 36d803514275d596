"""The SQLite store: one file, owned by one process."""

from store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
