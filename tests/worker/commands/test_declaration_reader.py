"""Declarations: everything that may stand there, and everything that is wrong is told at once."""

from pathlib import Path

import pytest

from store.job import Backoff
from tests.worker.commands.declare import declared, errors_of, read
from worker.commands.declaration import Limits, StdIn

#: A command that is sound; tests add to it.
SOUND = '[commands.x]\nargv = ["echo", "{a}"]\nparams.a.pattern = "\\\\w+"\n'


def test_little_needs_to_be_said() -> None:
    command = declared("[commands.now]\nargv = ['date']")

    assert (command.name, command.program, command.params) == ("now", "/usr/bin/date", {})
    assert (command.queue, command.max_attempts, command.timeout, command.backoff) == (None, None, None, None)
    assert (command.grace, command.max_output, command.stdin, command.cwd) == (5.0, 262_144, StdIn.NONE, None)
    assert not command.limits


def test_everything_can_be_said(tmp_path: Path) -> None:
    command = declared(
        f"""
        [commands.thumbnail]
        argv = ["sh", "-c", "exit", "{{input}}", "--size={{size}}"]
        description = "Make a picture small"
        timeout = "1.5m"
        grace = 2
        cwd = "{tmp_path}"
        env = {{ TZ = "UTC" }}
        stdin = "payload"
        queue = "pictures"
        max_attempts = 3
        backoff = {{ base = "10s", factor = 3, cap = "1h" }}
        limits = {{ max_output = "1MiB", memory = "512MiB", cpu = "1.5s", open_files = 64 }}
        [commands.thumbnail.params]
        input = {{ pattern = '[\\w./-]+', max_length = 200, description = "where it is" }}
        size = {{ pattern = '-?\\d+', default = 200, leading_dash = true }}
        """
    )

    assert [template.fill({"input": "I", "size": "S"}) for template in command.argv][3:] == ["I", "--size=S"]
    assert (command.description, command.timeout, command.grace) == ("Make a picture small", 90.0, 2.0)
    assert (command.cwd, command.stdin, command.queue, command.max_attempts) == (
        str(tmp_path),
        StdIn.PAYLOAD,
        "pictures",
        3,
    )
    assert command.backoff == Backoff(base=10, factor=3, cap=3600)
    assert (command.max_output, command.limits) == (2**20, Limits(memory=2**29, cpu=2, open_files=64))
    assert (command.params["size"].default, command.params["size"].leading_dash) == ("200", True)
    assert (command.params["input"].max_length, command.params["input"].description) == (200, "where it is")


def test_the_environment_is_clean() -> None:
    command = declared("[commands.x]\nargv = ['env']\nenv = { HOME = '/srv', TOKEN = 'a=b' }")

    assert command.environment == {"PATH": "/usr/bin:/bin", "HOME": "/srv", "LANG": "C.UTF-8", "TOKEN": "a=b"}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("argv = []", "commands.x.argv: must be a list of strings, the program first, not []"),
        ("argv = 'date'", "commands.x.argv: must be a list of strings, the program first, not 'date'"),
        ("argv = ['date', 1]", "commands.x.argv: must be a list of strings, the program first, not ['date', 1]"),
        ("argv = ['']", "commands.x.argv: must begin with a program, which no parameter names, not ''"),
        ("argv = ['{a}']", "commands.x.argv: must begin with a program, which no parameter names, not '{a}'"),
        (r'argv = ["date", "a\u0000b"]', "commands.x.argv: must be a string without NUL, not 'a\\x00b'"),
        (
            "argv = ['no-such-program']",
            "commands.x.argv: there is no program 'no-such-program' on the PATH /usr/bin:/bin"
            " that this user may execute",
        ),
        ("argv = ['/etc/passwd']", "commands.x.argv: there is no program '/etc/passwd' that this user may execute"),
        ("argv = ['/etc']", "commands.x.argv: there is no program '/etc' that this user may execute"),
        ("argv = ['date']\nparams = 3", "commands.x.params: must be a table, not 3"),
        (
            "argv = ['echo', '{b}']",
            "commands.x.argv: takes {b}, but no parameter is called so; {{b}} is the literal text",
        ),
    ],
)
def test_a_wrong_argv_is_refused(line: str, error: str) -> None:
    assert errors_of(f"[commands.x]\n{line}") == [error]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("timeout = 0", "timeout: must be more than 0 and at most 604800 s, not 0"),
        ("timeout = '8d'", "timeout: must be more than 0 and at most 604800 s, not '8d'"),
        ("timeout = 'soon'", "timeout: must be a duration such as 10, 90s, 15m, 12h or 7d, not 'soon'"),
        ("timeout = true", 'timeout: must be a number or a string such as "90s", not True'),
        ("grace = 61", "grace: must be at least 0 s and at most 60 s, not 61"),
        ("cwd = '/no/such'", "cwd: must be a directory, not '/no/such'"),
        ("stdin = 'file'", 'stdin: must be "payload" or "none", not \'file\''),
        ("stdin = []", 'stdin: must be "payload" or "none", not []'),
        ("queue = 'a b'", "queue: must be a name: letters, digits and . _ : - (at most 100), not 'a b'"),
        ("max_attempts = 101", "max_attempts: must be a whole number from 1 to 100, not 101"),
        ("max_attempts = true", "max_attempts: must be a whole number from 1 to 100, not True"),
        ("description = 1", "description: must be a string without NUL, not 1"),
        ("timeuot = 5", "timeuot: unknown key; did you mean timeout?"),
        ("shell = true", "shell: unknown key; there are argv, cwd, env, stdin, params, limits"),
        ("env = 'A=b'", "env: must be a table, not 'A=b'"),
        ("env.A = 1", "env.A: must be a string without NUL, not 1"),
        ("env.'A=B' = 'c'", "env.'A=B': is no name for an environment variable"),
        ("env.GOFER_JOB_ID = 'c'", "env.GOFER_JOB_ID: is what tells a command of its job"),
        ("limits.max_output = '2MiB'", "limits.max_output: must be from 1 to 1048576 bytes, not '2MiB'"),
        ("limits.memory = '1KiB'", "limits.memory: must be from 1048576 to 4611686018427387904 bytes, not '1KiB'"),
        ("limits.memory = 'much'", "limits.memory: must be a size such as 65536, 256KiB, 1MiB or 2GB, not 'much'"),
        ("limits.open_files = 3", "limits.open_files: must be a whole number from 4 to 1048576, not 3"),
        ("limits.files = 3", "limits.files: unknown key; did you mean open_files?"),
        ("backoff.factor = 0.5", "backoff.factor: must be a number from 1 to 10, not 0.5"),
        ("params.'b-c'.pattern = 'x'", "params.b-c: is no name for a parameter: letters, digits and _, no digit first"),
        ("params.b = 'x'", "params.b: must be a table, not 'x'"),
        ("params.a.default = '!'", "params.a.default: must match \\w+ in full, not '!'"),
        ("params.a.default = true", "params.a.default: must be a string without NUL, not True"),
        ("params.a.leading_dash = 1", "params.a.leading_dash: must be true or false, not 1"),
        ("params.a.max_length = 0", "params.a.max_length: must be a whole number from 1 to 100000, not 0"),
        ("params.a.regex = 'x'", "params.a.regex: unknown key"),
        ("params.b.pattern = 'x'", 'params.b: goes nowhere: no argument takes {b}, and stdin is not "payload"'),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(line: str, error: str) -> None:
    text = SOUND.replace("params.a", f"{line}\nparams.a", 1)

    found = errors_of(text)

    assert any(one.startswith(f"commands.x.{error}") for one in found), found


@pytest.mark.parametrize("pattern", ["(", "[z-a]", "a{9999999999}", "x" * 10 + "\\u0000"])
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    (error,) = errors_of(f'[commands.x]\nargv = ["echo", "{{size}}"]\nparams.size.pattern = "{pattern}"\n')

    assert error.startswith("commands.x.params.size.pattern: ")


def test_a_pattern_must_be_given() -> None:
    assert errors_of("[commands.x]\nargv = ['echo', '{a}']\nparams.a.default = 'x'") == [
        "commands.x.params.a.pattern: is missing"
    ]


def test_a_default_that_does_not_match_is_not_advised() -> None:
    assert errors_of("[commands.x]\nargv = ['echo', '{a}']\nparams.a = { pattern = '[0-9]', default = 10 }") == [
        "commands.x.params.a.default: must match [0-9] in full, not '10'"
    ]


@pytest.mark.parametrize(("argument", "is_refused"), [("{a}", True), ("--a={a}", False)])
def test_a_default_obeys_the_rule_about_dashes(argument: str, is_refused: bool) -> None:
    text = f"[commands.x]\nargv = ['echo', '{argument}']\nparams.a = {{ pattern = '.*', default = '-v' }}"

    assert errors_of(text) == ["commands.x.params.a.default: must not begin with a dash unless leading_dash = true"] * (
        is_refused
    )
    assert errors_of(text.replace("default", "leading_dash = true, default")) == []


def test_a_default_that_an_empty_value_lets_come_first_obeys_the_rule_about_dashes() -> None:
    text = """
    [commands.x]
    argv = ["echo", "{a}{b}"]
    params.a.pattern = "PATTERN"
    params.b = { pattern = ".*", default = "-v" }
    """

    assert errors_of(text.replace("PATTERN", ".*")) != []
    assert errors_of(text.replace("PATTERN", ".+")) == []


def test_a_parameter_may_go_to_standard_input_alone() -> None:
    assert "a" in declared("[commands.x]\nargv = ['cat']\nstdin = 'payload'\nparams.a.pattern = 'x'").params


def test_everything_that_is_wrong_is_said_at_once() -> None:
    commands, errors = read(
        """
        [commands."bad name"]
        argv = ["date"]
        [commands.nothing]
        [commands.y]
        argv = ["no-such-program", "{a}", "{b}"]
        timeout = -1
        params.a.pattern = "("
        params.c.pattern = "c"
        [commands.z]
        argv = ["echo", "{a}"]
        params.a = { pattern = ".*", default = "-" }
        """
    )

    assert [error.split(": ")[0] for error in errors] == [
        "commands.bad name",
        "commands.nothing.argv",
        "commands.y.params.a.pattern",
        "commands.y.argv",
        "commands.y.params.c",
        "commands.y.argv",
        "commands.y.timeout",
        "commands.z.params.a.default",
    ]
    assert not any("\n" in error for error in errors)
    assert [command.name for command in commands] == ["z"]


def test_a_command_must_be_a_table() -> None:
    assert errors_of("commands.x = ['date']")[0] == "commands.x: must be a table, not ['date']"


def test_a_program_is_found_from_where_it_will_run(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)

    relative = declared(f"[commands.x]\nargv = ['bin/tool']\ncwd = '{tmp_path}'")
    on_path = declared(f"[commands.x]\nargv = ['tool']\nenv.PATH = '{tool.parent}'")

    assert (relative.program, on_path.program) == (str(tool), str(tool))
