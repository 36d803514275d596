"""The border at which SQLite's errors become the store's."""

import apsw

from store.errors import CannotOpenStore, OutcomeUnknown, StoreError, StoreFull, StoreUnavailable


def translate(error: apsw.Error) -> StoreError:
    """What an error in the middle of a transaction, which was rolled back, means to the caller."""
    if isinstance(error, apsw.FullError):
        return StoreFull()
    return StoreUnavailable(f"the database answered: {error}")


def translate_commit(error: apsw.Error) -> StoreError:
    """What an error at COMMIT means: after an I/O error the row may or may not be on disk."""
    if isinstance(error, apsw.IOError):
        return OutcomeUnknown(f"the disk could not say whether the write holds: {error}")
    return translate(error)


def translate_open(path: object, error: apsw.Error) -> CannotOpenStore:
    """What an error while opening means."""
    if isinstance(error, apsw.NotADBError):
        return CannotOpenStore(f"cannot open the store {path}: the file is not a SQLite database")
    if isinstance(error, apsw.CorruptError):
        return CannotOpenStore(f"cannot open the store {path}: the database is damaged ({error})")
    return CannotOpenStore(f"cannot open the store {path}: {error}")
