"""The keys that are in force: that of ``GOFER_API_KEY``, and those of the keys file as it is now."""

import hmac
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from app import keys, keys_file
from app.config import ConfigError
from app.keys import ApiKey
from store.clock import Clock

_log = logging.getLogger(__name__)

#: Seconds between two looks at whether the file has changed.
_LOOK_INTERVAL = 1.0

#: What tells one version of a file from another. The time of its inode's change is among it: it tells of
#: a file that was put in the place of another one with the old one's times, or became readable at last.
_Version = tuple[int, int, int, int]


class KeyRing:
    """Finds the key that somebody holds. Safe to use from any thread.

    The file is looked at when a key is asked for, at most once a second. A version that cannot be
    used (wrong, unreadable, without any key, or gone) is logged once and changes nothing: a slip in
    an editor must not lock everybody out, and a service must not become open.
    """

    def __init__(self, clock: Clock, own: ApiKey | None = None, path: Path | None = None) -> None:
        """``own``: the key beside those in the file at ``path``. Raises ConfigError."""
        self._clock = clock
        self._own = own
        # Whatever working directory a handler may change to: a key that was taken out must be missed.
        self._path = path.absolute() if path else None
        self._looking = threading.Lock()
        # guards: _next_look, _version, _complaint; whoever does not get it goes on without a look
        self._next_look = clock.monotonic() + _LOOK_INTERVAL
        self._version: _Version | None = None
        self._complaint: object = None
        # Replaced whole, so that it can be read without a lock.
        self._keys: Sequence[ApiKey] = ()
        try:
            self._version = self._current_version()
            self._keys = self._read()
        except OSError as error:
            raise ConfigError([f"GOFER_KEYS_FILE: cannot read {str(path)!r}: {error.strerror}"]) from None
        except ConfigError as error:
            raise ConfigError([f"GOFER_KEYS_FILE: {text}" for text in error.errors]) from None

    def find(self, text: str) -> ApiKey | None:
        """The key that is written so; None if there is none. It may have expired."""
        if self._path is not None and self._clock.monotonic() >= self._next_look:
            self._look()
        given = keys.digest(text)
        found = None
        # All of them, and each in constant time: how long it takes tells nothing about any.
        for key in self._keys:
            if hmac.compare_digest(key.digest, given):
                found = key
        return found

    def _look(self) -> None:
        """Take the file's keys if it has changed."""
        if not self._looking.acquire(blocking=False):
            return
        version = None
        try:
            self._next_look = self._clock.monotonic() + _LOOK_INTERVAL
            version = self._current_version()
            if version != self._version:
                self._keys = self._read()
                self._version = version
                self._complaint = None
                _log.info("the keys file was read again", extra={"keys": ",".join(key.name for key in self._keys)})
        except OSError as error:
            # None was seen: what keeps the file from being read may pass while it stays the same.
            self._version = None
            self._complain((version, error.errno), [f"{self._path}: {error.strerror}"])
        except ConfigError as error:
            self._version = version
            self._complain(version, error.errors)
        finally:
            self._looking.release()

    def _complain(self, about: object, errors: list[str]) -> None:
        if about != self._complaint:
            self._complaint = about
            _log.error("the keys file cannot be used, so the keys before stay in force: %s", "; ".join(errors))

    def _read(self) -> Sequence[ApiKey]:
        found = [*keys_file.read(self._path)] if self._path else []
        if self._own:
            if doubles := [key.name for key in found if key.digest == self._own.digest]:
                raise ConfigError([f"{self._path}: {doubles[0]} has the hash of the key in GOFER_API_KEY"])
            found.append(self._own)
        if not found:
            raise ConfigError([f"{self._path}: holds no key; make one with: gofer keys new"])
        return found

    def _current_version(self) -> _Version | None:
        if self._path is None:
            return None
        found = self._path.stat()
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
