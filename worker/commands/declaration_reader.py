"""From the tables ``[commands.NAME]`` of the TOML file to declarations, with everything that is wrong with them."""

import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain

from store.job import Backoff
from worker.commands.declaration import Command, Limits, Param, StdIn
from worker.commands.template import NAME, Template
from worker.commands.toml_table import (
    ABOVE_ZERO,
    TomlTable,
    boolean,
    duration,
    matching,
    number,
    shown,
    size,
    text,
    whole,
)
from worker.registry import NAME_PATTERN

#: Seconds: the longest timeout, as for a submission.
_WEEK = 604_800.0
#: The variables that a command has from the service's own environment.
_INHERITED = ("PATH", "HOME", "LANG")
#: The variables that tell a command of its job.
OF_JOB = ("GOFER_JOB_ID", "GOFER_ATTEMPT", "GOFER_TYPE", "TRACEPARENT")

_NAME_RULE = "letters, digits and . _ : - (at most 100)"
_VARIABLE = re.compile(r"[^=\0]+")


def read(tables: Mapping[str, object], environ: Mapping[str, str]) -> tuple[list[Command], list[str]]:
    """The declared commands, and all that is wrong, one line each.

    ``environ``: the service's own environment, of which a command gets a little.
    """
    errors: list[str] = []
    root = TomlTable("commands", tables, errors)
    commands = [_command(name, table, environ) for name, table in root.tables()]
    return [command for command in commands if command is not None], errors


def _command(name: str, table: TomlTable, environ: Mapping[str, str]) -> Command | None:
    """None if anything is wrong with it."""
    if not NAME_PATTERN.fullmatch(name):
        table.refuse("", f"{shown(name)} is no name for a type of job: {_NAME_RULE}")
    argv: tuple[str, ...] = table.require("argv", _argv, ())
    cwd = table.take("cwd", _directory, None)
    environment = _environment(table.table("env"), environ)
    stdin = table.take("stdin", _stdin, StdIn.NONE)
    params = {name: _param(name, param) for name, param in table.table("params").tables()}
    _check_placeholders(table, argv, params, stdin)
    limits = table.table("limits")
    command = Command(
        name=name,
        argv=tuple(Template.parse(argument) for argument in argv),
        program=_program(table, argv[0], cwd, environment["PATH"]) if argv else "",
        description=table.take("description", text, ""),
        environment=environment,
        cwd=cwd,
        stdin=stdin,
        params={name: param for name, param in params.items() if param is not None},
        queue=table.take("queue", matching(NAME_PATTERN, f"a name: {_NAME_RULE}"), None),
        max_attempts=table.take("max_attempts", whole(1, 100), None),
        timeout=table.take("timeout", duration(ABOVE_ZERO, _WEEK), None),
        backoff=_backoff(table),
        grace=table.take("grace", duration(0, 60), 5.0),
        max_output=limits.take("max_output", size(1, 1_048_576), 262_144),
        limits=_limits(limits),
    )
    limits.end()
    table.end()
    if not table.is_sound:
        return None
    _check_defaults(table, command)
    return command


def _argv(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(argument, str) for argument in value):
        raise ValueError(f"must be a list of strings, the program first, not {shown(value)}")
    for argument in value:
        text(argument)
    if not value[0] or Template.parse(value[0]).names:
        raise ValueError(f"must begin with a program, which no parameter names, not {shown(value[0])}")
    return tuple(value)


def _program(table: TomlTable, name: str, cwd: str | None, path: str) -> str:
    """The absolute path of the program, so that it is the same for every job."""
    if "/" in name:
        candidate = os.path.abspath(os.path.join(cwd or "", name))  # noqa: PTH100, PTH118 - a link stays one
        found = shutil.which(candidate)
    else:
        candidate = name
        found = shutil.which(name, path=path)
    if found is None:
        where = "" if "/" in name else f" on the PATH {path}"
        table.refuse("argv", f"there is no program {candidate!r}{where} that this user may execute")
        return ""
    return os.path.abspath(found)  # noqa: PTH100 - as above: a program may look at what it was called


def _directory(value: object) -> str:
    path = os.path.abspath(text(value))  # noqa: PTH100 - as above
    if not os.path.isdir(path):  # noqa: PTH112
        raise ValueError(f"must be a directory, not {shown(value)}")
    return path


def _environment(table: TomlTable, environ: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: environ[name] for name in _INHERITED if name in environ}
    declared: dict[str, str] = {}
    for name in table:
        declared[name] = table.take(name, text, "")
        if not _VARIABLE.fullmatch(name):
            table.refuse(shown(name), "is no name for an environment variable")
        if name in OF_JOB:
            table.refuse(name, "is what tells a command of its job")
    return {"PATH": os.defpath, **inherited, **declared}


def _stdin(value: object) -> StdIn:
    if value not in list(StdIn):
        raise ValueError(f'must be "payload" or "none", not {shown(value)}')
    return StdIn(str(value))


def _param(name: str, table: TomlTable) -> Param | None:
    """None if it cannot be made."""
    if not NAME.fullmatch(name):
        table.refuse("", "is no name for a parameter: letters, digits and _, no digit first (at most 100)")
    pattern = table.require("pattern", _pattern, None)
    default = table.take("default", _value, None)
    leading_dash = table.take("leading_dash", boolean, default=False)
    max_length = table.take("max_length", whole(1, 100_000), 1000)
    description = table.take("description", text, "")
    table.end()
    if pattern is None:
        return None
    param = Param(
        name=name,
        pattern=pattern,
        leading_dash=leading_dash,
        max_length=max_length,
        description=description,
    )
    if default is not None:
        # Checked while there is none: an error must not advise to take the default instead.
        table.take("default", param.check, "")
    return replace(param, default=default)


def _value(value: object) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def _pattern(value: object) -> re.Pattern[str]:
    try:
        return re.compile(text(value))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{shown(value)} is no regular expression: {error}") from None


def _check_placeholders(table: TomlTable, argv: tuple[str, ...], params: Mapping[str, object], stdin: StdIn) -> None:
    """Every placeholder is declared, and every parameter goes somewhere."""
    used = dict.fromkeys(chain.from_iterable(Template.parse(argument).names for argument in argv))
    for name in used:
        if name not in params:
            table.refuse("argv", f"takes {{{name}}}, but no parameter is called so; {{{{{name}}}}} is the literal text")
    for name in params:
        if name not in used and stdin is StdIn.NONE and argv:
            table.refuse(f"params.{name}", f'goes nowhere: no argument takes {{{name}}}, and stdin is not "payload"')


def _check_defaults(table: TomlTable, command: Command) -> None:
    """No default may make an argument begin with a dash, whatever the other values are."""
    values = {name: param.default for name, param in command.params.items()}
    # Where a request must give a value, the worst one is none at all.
    worst = {
        name: ("" if command.params[name].pattern.fullmatch("") else "x") if value is None else value
        for name, value in values.items()
    }
    for name in command.dashed(worst):
        table.refuse(f"params.{name}.default", "must not begin with a dash unless leading_dash = true")


def _backoff(table: TomlTable) -> Backoff | None:
    backoff = table.table("backoff")
    default = Backoff()
    read = Backoff(
        base=backoff.take("base", duration(0, 86_400), default.base),
        factor=backoff.take("factor", number(1, 10), default.factor),
        cap=backoff.take("cap", duration(0, _WEEK), default.cap),
    )
    backoff.end()
    return None if read == default else read


def _limits(table: TomlTable) -> Limits:
    cpu = table.take("cpu", duration(ABOVE_ZERO, _WEEK), None)
    return Limits(
        memory=table.take("memory", size(1_048_576, 2**62), None),
        cpu=None if cpu is None else math.ceil(cpu),
        open_files=table.take("open_files", whole(4, 2**20), None),
    )
