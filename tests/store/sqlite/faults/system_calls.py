"""The border between the store and the machine: every call that is made there is counted, and may fail.

What fails is the system call; what SQLite makes of that is SQLite's own code, as in production. An
apsw.VFS that raises would not do: apsw raises that exception again even where SQLite, which sees
an error code, goes on. SQLite lets all of its VFS' system calls be replaced but ``fdatasync``, so
the method above it, xSync, is replaced instead.
"""

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_ssize_t, c_void_p
from types import ModuleType
from typing import Any
from unittest.mock import patch

import apsw

from store.sqlite import database, durability, ownership
from tests.store.sqlite.faults.faults import SHORT, Faults

_F_SETLK, _F_UNLCK = 6, 2


def _function(result: Any, *arguments: Any) -> Any:
    return ctypes.CFUNCTYPE(result, *arguments, use_errno=True)


_OPEN = _function(c_int, c_char_p, c_int, c_int)
_SYNC = _function(c_int, c_void_p, c_int)
_SLEEP = _function(c_int, c_void_p, c_int)
_OPEN_FILE = _function(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)

#: The system calls that fail with one number, by kind: their types, and what they return then.
_PLAIN: dict[str, tuple[str, Any, int]] = {
    "open": ("open", _OPEN, -1),
    "pread64": ("read", _function(c_ssize_t, c_int, c_void_p, c_size_t, c_int64), -1),
    "ftruncate": ("truncate", _function(c_int, c_int, c_int64), -1),
    "mmap": ("map", _function(c_void_p, c_void_p, c_size_t, c_int, c_int, c_int, c_int64), 2**64 - 1),
    "unlink": ("delete", _function(c_int, c_char_p), -1),
    "fstat": ("stat", _function(c_int, c_int, c_void_p), -1),
}
_WRITE = _function(c_ssize_t, c_int, c_void_p, c_size_t, c_int64)
_CLOSE = _function(c_int, c_int)
#: What the store calls by itself, but for the syncs, which it is given; by kind.
_OWN = {
    "open": "open",
    "flock": "lock",
    "fcntl": "lock",
    "pread": "read",
    "pwrite": "write",
    "posix_fallocate": "write",
    "ftruncate": "truncate",
    "fstat": "stat",
    "close": "close",
}
_FCNTL = _function(c_int, c_int, c_int, c_void_p)


class _Vfs(ctypes.Structure):
    """The beginning of ``struct sqlite3_vfs`` (sqlite3.h)."""

    _fields_ = [
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        ("xOpen", c_void_p),
        ("between", c_void_p * 8),
        ("xSleep", c_void_p),
    ]


class _Methods(ctypes.Structure):
    """``struct sqlite3_io_methods`` (sqlite3.h); xSync is the fifth method, and 13 more come behind it."""

    _fields_ = [("iVersion", c_int), ("before", c_void_p * 4), ("xSync", c_void_p), ("behind", c_void_p * 13)]


@contextmanager
def intercepted(faults: Faults) -> Iterator[None]:
    """All that the store and SQLite ask of the machine passes through ``faults``; no connection may outlast this."""
    with _replaced_calls(faults), _replaced_sync(faults), _no_sleep(), _replaced_own_calls(faults):
        yield


@contextmanager
def _replaced_own_calls(faults: Faults) -> Iterator[None]:
    with (
        patch.object(ownership, "os", _Module(os, faults)),
        patch.object(ownership, "fcntl", _Module(fcntl, faults)),
        patch.object(database, "os", _Module(os, faults)),
        patch.object(durability, "os", _Module(os, faults)),
    ):
        yield


class _Module:
    """Stands in for a module of the standard library; its calls to the disk may fail."""

    def __init__(self, original: ModuleType, faults: Faults) -> None:
        self._original = original
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        original = getattr(self._original, name)
        if (kind := _OWN.get(name)) is None:
            return original

        def call(*arguments: Any) -> Any:
            error = self._faults.strike(kind)
            if error and kind == "close":
                # Linux has closed it whatever it says.
                original(*arguments)
            if error:
                number = errno.ENOSPC if error == SHORT else error
                raise OSError(number, os.strerror(number))
            return original(*arguments)

        return call


@contextmanager
def _replaced_calls(faults: Faults) -> Iterator[None]:
    # What is set here is set on the VFS that it inherits from.
    vfs = apsw.VFS("gofer-faults", "unix")
    makers: dict[str, Callable[[Any, Faults], Any]] = {"pwrite64": _write, "fcntl": _fcntl, "close": _close}
    makers |= {name: _plain(*how) for name, how in _PLAIN.items()}
    types = {"pwrite64": _WRITE, "fcntl": _FCNTL, "close": _CLOSE} | {name: how[1] for name, how in _PLAIN.items()}
    replacements = {}
    for name, make in makers.items():
        original = types[name](vfs.xGetSystemCall(name))
        replacements[name] = types[name](make(original, faults))
    try:
        for name, replacement in replacements.items():
            assert vfs.xSetSystemCall(name, ctypes.cast(replacement, c_void_p).value or 0)
        yield
    finally:
        for name in replacements:
            vfs.xSetSystemCall(name, 0)
        vfs.unregister()


def _plain(kind: str, _: Any, failure: int) -> Callable[[Any, Faults], Any]:
    def make(original: Any, faults: Faults) -> Any:
        def call(*arguments: Any) -> Any:
            if error := faults.strike(kind):
                ctypes.set_errno(error)
                return failure
            return original(*arguments)

        return call

    return make


def _write(original: Any, faults: Faults) -> Any:
    def write(descriptor: int, data: int, size: int, offset: int) -> int:
        error = faults.strike("write")
        if error == SHORT and size > 1:
            size //= 2
        elif error:
            ctypes.set_errno(errno.ENOSPC if error == SHORT else error)
            return -1
        written: int = original(descriptor, data, size, offset)
        return written

    return write


def _close(original: Any, faults: Faults) -> Any:
    def close(descriptor: int) -> int:
        # Linux has closed it whatever it says.
        result: int = original(descriptor)
        if error := faults.strike("close"):
            ctypes.set_errno(error)
            return -1
        return result

    return close


def _fcntl(original: Any, faults: Faults) -> Any:
    def fcntl(descriptor: int, command: int, argument: int | None) -> int:
        if command == _F_SETLK and argument is not None:
            kind = "unlock" if ctypes.c_short.from_address(argument).value == _F_UNLCK else "lock"
            if error := faults.strike(kind):
                ctypes.set_errno(error)
                return -1
        result: int = original(descriptor, command, argument)
        return result

    return fcntl


@contextmanager
def _replaced_sync(faults: Faults) -> Iterator[None]:
    vfs = _unix_vfs()
    open_file = _OPEN_FILE(vfs.xOpen)
    # By address of the methods that they stand in for; they must live as long as the files.
    methods: dict[int, _Methods] = {}
    kept: list[Any] = []

    def replacement(address: int) -> _Methods:
        if address not in methods:
            copy = _Methods.from_buffer_copy(_Methods.from_address(address))
            sync = _SYNC(copy.xSync)

            def fail_or_sync(file: int, flags: int) -> int:
                # Nothing here survives the machine, so it need not reach the disk.
                return apsw.SQLITE_IOERR_FSYNC if faults.strike("sync") else apsw.SQLITE_OK

            kept.extend([sync, function := _SYNC(fail_or_sync)])
            copy.xSync = ctypes.cast(function, c_void_p).value
            methods[address] = copy
        return methods[address]

    def open_and_replace(this: int, name: int | None, file: int, flags: int, out_flags: int | None) -> int:
        result: int = open_file(this, name, file, flags, out_flags)
        pointer = c_void_p.from_address(file)
        if pointer.value:
            pointer.value = ctypes.addressof(replacement(pointer.value))
        return result

    kept.append(function := _OPEN_FILE(open_and_replace))
    original, vfs.xOpen = vfs.xOpen, ctypes.cast(function, c_void_p).value
    try:
        yield
    finally:
        vfs.xOpen = original


@contextmanager
def _no_sleep() -> Iterator[None]:
    """Whoever waits for a lock that is never given back finds that out at once."""
    vfs = _unix_vfs()
    function = _SLEEP(lambda _, microseconds: microseconds)
    original, vfs.xSleep = vfs.xSleep, ctypes.cast(function, c_void_p).value
    try:
        yield
    finally:
        vfs.xSleep = original


def _unix_vfs() -> _Vfs:
    pointer = c_void_p()
    connection = apsw.Connection("")
    connection.file_control("main", apsw.SQLITE_FCNTL_VFS_POINTER, ctypes.addressof(pointer))
    connection.close()
    assert pointer.value is not None
    vfs = _Vfs.from_address(pointer.value)
    assert vfs.zName == b"unix"
    return vfs


def descriptor_sync(faults: Faults, kind: str = "sync") -> Callable[[int], None]:
    """What stands in for ``os.fdatasync`` and ``os.fsync``, which the store calls by itself."""

    def sync(descriptor: int) -> None:
        if error := faults.strike(kind):
            raise OSError(error, os.strerror(error))

    return sync
