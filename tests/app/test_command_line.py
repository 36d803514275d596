"""The command line: what may stand there."""

import pytest

from app.command_line import parser


def test_without_a_command_it_serves() -> None:
    assert parser().parse_args([]).command == "serve"


@pytest.mark.parametrize("arguments", [["--check"], ["serve", "--check"], ["--check", "serve"]])
def test_a_check_may_be_asked_for_on_either_side_of_the_command(arguments: list[str]) -> None:
    assert parser().parse_args(arguments).check


@pytest.mark.parametrize(
    "arguments",
    [
        ["--chec"],
        ["serve", "--c"],
        ["--vers"],
        ["health", "--h"],
        ["keys", "new", "--nam", "ci", "--scopes", "read"],
        ["keys", "new", "--name", "ci", "--scopes", "read", "--exp", "2999-01-01"],
    ],
)
def test_a_part_of_an_option_is_none(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It could mean another one in the next version."""
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments)

    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
