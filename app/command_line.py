"""The command line: what the program can be asked to do."""

import argparse
from typing import NoReturn

from app import config, new_key
from app.version import VERSION


class _Parser(argparse.ArgumentParser):
    """One that needs a single line to say what is wrong, as the settings do."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """What may stand there; ``command`` of the result is the command, ``serve`` if there is none."""
    root = _Parser(
        prog="gofer",
        description="Gofer runs background jobs that come in over HTTP.",
        epilog="settings, from the environment or the same names in the TOML file that GOFER_CONFIG names"
        " (the environment wins):\n" + config.table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"gofer {VERSION}")
    _add_check(root, default=False)
    commands = root.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    # Suppressed, because the default of a command would win over what stands before it.
    _add_check(_add(commands, "serve", "serve until told to stop; what is done without a command"), argparse.SUPPRESS)
    _add(commands, "health", "ask the service of these settings whether it is alive: exit code 0 or 1")
    actions = _add(commands, "keys", "make keys for those who call the service").add_subparsers(
        dest="action", metavar="new", required=True
    )
    new_key.add_arguments(_add(actions, "new", "print a new key, and its line for the keys file"))
    root.set_defaults(command="serve")
    return root


def _add(commands: "argparse._SubParsersAction[_Parser]", name: str, summary: str) -> _Parser:
    description = summary[0].upper() + summary[1:] + "."
    return commands.add_parser(name, help=summary, description=description, allow_abbrev=False)


def _add_check(command: argparse.ArgumentParser, default: object) -> None:
    command.add_argument(
        "--check", action="store_true", default=default, help="check the settings and the handlers, and exit"
    )
