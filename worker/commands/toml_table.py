"""Reading a table of a TOML file strictly: everything that is wrong with it, not only the first thing."""

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from worker import quantities

T = TypeVar("T")

#: How much of a wrong value an error repeats, in characters.
_SHOWN = 100


class TomlTable:
    """A table while it is read: what was asked for, and what was found wrong, here and in all tables of the file."""

    def __init__(self, path: str, values: Mapping[str, object], errors: list[str]) -> None:
        """``path``: where it stands, as in ``commands.thumbnail``. ``errors`` is added to, one line each."""
        self.path = path
        self._values = values
        self._errors = errors
        self._known: list[str] = []
        self._errors_before = len(errors)

    def __iter__(self) -> Iterator[str]:
        """Every key that it has."""
        return iter(self._values)

    def take(self, key: str, parse: Callable[[object], T], default: T) -> T:
        """The value of ``key``, or the default if there is none or it is wrong. ``parse`` raises ValueError."""
        self._known.append(key)
        if key not in self._values:
            return default
        try:
            return parse(self._values[key])
        except ValueError as error:
            self.refuse(key, str(error))
            return default

    def require(self, key: str, parse: Callable[[object], T], default: T) -> T:
        """As ``take``, but it must be there."""
        if key not in self._values:
            self.refuse(key, "is missing")
        return self.take(key, parse, default)

    def table(self, key: str) -> "TomlTable":
        """The table under ``key``, an empty one if there is none."""
        return TomlTable(f"{self.path}.{key}", self.take(key, _table, {}), self._errors)

    def tables(self) -> Iterator[tuple[str, "TomlTable"]]:
        """Every entry, each of which must be a table."""
        for key in self:
            yield key, self.table(key)

    def refuse(self, key: str, message: str) -> None:
        """Note that something is wrong with ``key``; an empty one is the table itself."""
        place = f"{self.path}.{key}" if key else self.path
        self._errors.append(" ".join(f"{place}: {message}".splitlines()))

    def end(self) -> None:
        """Nothing else is asked for: whatever else stands there is unknown."""
        for key in self:
            if key not in self._known:
                close = difflib.get_close_matches(key[:_SHOWN], self._known, n=1)
                hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(self._known)}"
                self.refuse(shown(key)[1:-1], f"unknown key{hint}")

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found wrong since this table was made."""
        return len(self._errors) == self._errors_before


def shown(value: object) -> str:
    """A wrong value, as an error repeats it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def text(value: object) -> str:
    """A string without NUL, which no program can be given."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"must be a string without NUL, not {shown(value)}")
    return value


def boolean(value: object) -> bool:
    """``true`` or ``false``."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {shown(value)}")
    return value


def whole(low: int, high: int) -> Callable[[object], int]:
    """A whole number within limits."""

    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {shown(value)}")
        return value

    return parse


def number(low: float, high: float) -> Callable[[object], float]:
    """A number within limits."""

    def parse(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}, not {shown(value)}")
        return float(value)

    return parse


def duration(low: float, high: float) -> Callable[[object], float]:
    """Seconds, as a number or as in ``90s``."""

    def parse(value: object) -> float:
        seconds = quantities.seconds(_quantity(value, "90s"))
        if not low <= seconds <= high:
            least = "more than 0" if low == ABOVE_ZERO else f"at least {low:g} s"
            raise ValueError(f"must be {least} and at most {high:g} s, not {shown(value)}")
        return seconds

    return parse


#: The least duration where there must be some.
ABOVE_ZERO = math.ulp(0.0)


def size(low: int, high: int) -> Callable[[object], int]:
    """Bytes, as a number or as in ``256KiB``."""

    def parse(value: object) -> int:
        bytes_ = quantities.size(_quantity(value, "256KiB"))
        if not low <= bytes_ <= high:
            raise ValueError(f"must be from {low} to {high} bytes, not {shown(value)}")
        return bytes_

    return parse


def matching(pattern: re.Pattern[str], what: str) -> Callable[[object], str]:
    """A string that a pattern matches in full; ``what`` says it in words."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(f"must be {what}, not {shown(value)}")
        return value

    return parse


def _quantity(value: object, example: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f'must be a number or a string such as "{example}", not {shown(value)}')


def _table(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a table, not {shown(value)}")
    return value
