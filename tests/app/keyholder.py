"""Keys for tests, and the file that they stand in."""

from datetime import datetime
from pathlib import Path

from app import keys, keys_file
from app.auth import Gate
from app.key_ring import KeyRing
from app.keys import ApiKey
from store.clock import Clock


class KeyHolder:
    """Makes keys, and writes a line for each into a keys file."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "keys.toml"
        self.path.write_text("")
        self._lines: dict[str, str] = {}

    def make(self, name: str, *scopes: str, expires_at: datetime | None = None, text: str = "") -> str:
        """A key that the file holds from now on, a new one unless ``text`` is it; one of the same name is replaced."""
        text = text or keys.new_key()
        self._lines[name] = keys_file.line(ApiKey(name, keys.digest(text), frozenset(scopes), expires_at))
        self.write()
        return text

    def revoke(self, name: str) -> None:
        """Take a key out of the file."""
        del self._lines[name]
        self.write()

    def write(self) -> None:
        """Put a file with all lines in the place of the one before, as a careful operator does."""
        new = self.path.with_suffix(".new")
        new.write_text("".join(line + "\n" for line in self._lines.values()))
        new.rename(self.path)

    def gate(self, clock: Clock, own: ApiKey | None = None) -> Gate:
        """What lets the keys' holders in."""
        return Gate(KeyRing(clock, own, self.path), clock)


def bearer(key: str) -> str:
    """The header that carries a key."""
    return f"Authorization: Bearer {key}"
