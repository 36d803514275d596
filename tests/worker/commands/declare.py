"""Declarations for tests."""

import tomllib

from worker.commands import declaration_reader
from worker.commands.declaration import Command

#: What stands for the service's own environment.
ENVIRON = {"PATH": "/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "SECRET": "hidden"}


def declared(toml: str) -> Command:
    """The one command that a file declares; it must be sound."""
    (command,), errors = read(toml)
    assert errors == []
    return command


def errors_of(toml: str) -> list[str]:
    """All that is wrong with a file."""
    return read(toml)[1]


def read(toml: str) -> tuple[list[Command], list[str]]:
    """The commands of a file, and what is wrong with it."""
    return declaration_reader.read(tomllib.loads(toml)["commands"], ENVIRON)
