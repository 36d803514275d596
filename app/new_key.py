"""The command ``keys new``: a key that nobody has, and its line for the keys file."""

import argparse
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Annotated

import msgspec

from app import keys, keys_file, scopes
from app.config import ConfigError
from app.keys import ApiKey
from store.clock import Clock

#: What stands on standard error above the two lines, so that a script can take them from standard output.
LABEL = "the key, shown only this once, and below it the line for the keys file (GOFER_KEYS_FILE):"

_Instant = Annotated[datetime, msgspec.Meta(tz=True)]


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Let ``command`` take what ``issue`` needs."""
    command.add_argument("--name", required=True, type=_argument(_name), help="who will hold it: jobs and logs say so")
    command.add_argument(
        "--scopes",
        required=True,
        type=_argument(_scopes),
        help="what it allows, separated by commas: read, submit, manage, and submit:TYPE for one type of job",
    )
    command.add_argument(
        "--expires",
        type=_argument(_expires),
        help="when it ends: a day, such as 2027-01-01 (its first instant in UTC), or a time as RFC 3339 writes it",
    )


def issue(options: argparse.Namespace, clock: Clock) -> str:
    """A new key and its line, a line each. Raises ConfigError."""
    if options.expires is not None and options.expires <= clock.now():
        raise ConfigError(["--expires: lies in the past"])
    text = keys.new_key()
    return f"{text}\n{keys_file.line(ApiKey(options.name, keys.digest(text), options.scopes, options.expires))}"


def _argument(parse: Callable[[str], object]) -> Callable[[str], object]:
    def parsed(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def _name(text: str) -> str:
    keys.check_name(text)
    return text


def _scopes(text: str) -> frozenset[str]:
    return scopes.parse([name.strip() for name in text.split(",") if name.strip()])


def _expires(text: str) -> datetime:
    try:
        return datetime.combine(msgspec.convert(text, date), time(), UTC)
    except msgspec.ValidationError:
        pass
    try:
        return msgspec.convert(text, _Instant).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise ValueError(f"must be like 2027-01-01 or 2027-01-01T00:00:00Z, not {text[:100]!r}") from None
