"""The keys file: TOML with one line per key, such as

``ci = { hash = "sha256:…", scopes = ["submit", "read"], expires = 2027-01-01T00:00:00Z }``

It is as strict as a submission: what is not understood is refused, because a key that could do
more than its line seems to say, or for longer, would be found out too late.
"""

import stat
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app import keys, scopes
from app.config import ConfigError
from app.keys import ApiKey
from app.shapes import unknown

_MEMBERS = ("hash", "scopes", "expires")


def read(path: Path) -> Sequence[ApiKey]:
    """Every key in the file. Raises ConfigError, with all that is wrong, and OSError."""
    # A pipe would block for ever, and could not be read again.
    if not stat.S_ISREG(path.stat().st_mode):
        raise ConfigError([f"{path}: is not a file"])
    return parse(path.read_bytes(), str(path))


def parse(data: bytes, name: str) -> Sequence[ApiKey]:
    """Every key in the file's bytes. ``name`` begins each error. Raises ConfigError."""
    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or nested without end
        raise ConfigError([f"{name}: is not TOML: {error}"]) from None
    errors: list[str] = []
    found: list[ApiKey] = []
    for key_name, members in table.items():
        wrong = list(_errors(key_name, members))
        errors += [f"{name}: {_shown(key_name)}: {error}" for error in wrong]
        if not wrong:
            found.append(_key(key_name, members))
    errors += [f"{name}: {error}" for error in _doubles(found)]
    if errors:
        raise ConfigError(errors)
    return found


def line(key: ApiKey) -> str:
    """The line for a key, as ``parse`` reads it."""
    names = ", ".join(f'"{scope}"' for scope in sorted(key.scopes))
    expires = f", expires = {key.expires_at.isoformat().replace('+00:00', 'Z')}" if key.expires_at else ""
    return f'{key.name} = {{ hash = "{keys.stored(key.digest)}", scopes = [{names}]{expires} }}'


def _errors(name: str, members: object) -> Iterator[str]:
    try:
        keys.check_name(name)
    except ValueError as error:
        yield str(error)
    if not isinstance(members, dict):
        yield f"must be a table of {', '.join(_MEMBERS)}"
        return
    for member in members:
        if member not in _MEMBERS:
            yield f"{_shown(member)}: {unknown(member, 'member', _MEMBERS)}"
    for member, check in (("hash", _hash), ("scopes", _scopes), ("expires", _expires)):
        try:
            check(members.get(member))
        except ValueError as error:
            yield f"{member}: {error}"


def _shown(name: str) -> str:
    # What stands in the place of a name by mistake may be the key itself.
    return repr(name[:100]) if keys.PREFIX not in name else f"'{keys.PREFIX}…'"


def _key(name: str, members: dict[str, Any]) -> ApiKey:
    expires_at = _expires(members.get("expires"))
    return ApiKey(name, _hash(members["hash"]), _scopes(members["scopes"]), expires_at)


def _hash(value: object) -> bytes:
    # Not repeated in an error, for the same reason.
    return keys.parse_stored(value if isinstance(value, str) else "")


def _scopes(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError('must be a list of strings, such as ["submit", "read"]')
    if any(name.startswith(keys.PREFIX) for name in value):
        raise ValueError("must not hold a key")  # nor is it repeated
    return scopes.parse(value)


def _expires(value: object) -> datetime | None:
    if value is None:
        return None
    # A time without an offset means another instant on another machine.
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("must be a time with an offset and without quotes, such as 2027-01-01T00:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie in the years 1 to 9999, in UTC") from None


def _doubles(found: Sequence[ApiKey]) -> Iterator[str]:
    first: dict[bytes, str] = {}
    for key in found:
        other = first.setdefault(key.digest, key.name)
        if other != key.name:
            yield f"{other} and {key.name} have the same hash"
