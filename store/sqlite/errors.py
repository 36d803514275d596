"""The border at which SQLite's errors become the store's."""

import os
from pathlib import Path

import apsw

from store.errors import CannotOpenStore, OutcomeUnknown, StoreDamaged, StoreError, StoreFull, StoreUnavailable

#: Errors that say something about the disk or the file, not about the statement that met them.
_ENVIRONMENT = (
    apsw.AbortError,
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.IOError,
    apsw.InterruptError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.PermissionsError,
    apsw.ProtocolError,
    apsw.ReadOnlyError,
)


def translate(error: apsw.Error) -> StoreError:
    """What an error in the middle of a transaction, which was rolled back, means to the caller."""
    if isinstance(error, apsw.FullError):
        return StoreFull()
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return StoreDamaged(f"the database is damaged ({error}); restore a backup of it")
    if isinstance(error, _ENVIRONMENT):
        return StoreUnavailable(f"the database answered: {error}")
    return StoreError(f"the database refused it: {error}")


def translate_commit(error: apsw.Error) -> StoreError:
    """What an error at COMMIT means: after an I/O error the row may or may not be on disk."""
    if isinstance(error, apsw.IOError):
        return OutcomeUnknown(f"the disk could not say whether the write holds: {error}")
    return translate(error)


def translate_open(path: Path, error: apsw.Error) -> CannotOpenStore:
    """What an error while opening means."""
    if isinstance(error, apsw.NotADBError):
        return CannotOpenStore(f"cannot open the store {path}: the file is not a SQLite database")
    if isinstance(error, apsw.CorruptError):
        return CannotOpenStore(
            f"cannot open the store {path}: the database is damaged ({error}); restore a backup of it"
        )
    if isinstance(error, apsw.FullError) or _is_full(path):
        return CannotOpenStore(f"cannot open the store {path}: the disk is full ({error})")
    return CannotOpenStore(f"cannot open the store {path}: {error}")


def _is_full(path: Path) -> bool:
    """Whether the disk has no room: SQLite has many words for what comes of that while it opens a file."""
    try:
        return os.statvfs(path.parent).f_bavail == 0
    except OSError:
        return False
