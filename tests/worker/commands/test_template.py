"""Placeholders: where a value goes, and that it stays what it is."""

import pytest

from worker.commands.template import Template


@pytest.mark.parametrize(
    ("template", "argument"),
    [
        ("{a}", "A"),
        ("--size={a}", "--size=A"),
        ("{a}x{b}", "Ax{a} {{b}}"),
        ("{{a}}", "{a}"),
        ("{{{a}}}", "{{a}}"),
        ("{}", "{}"),
        ("{print $1}", "{print $1}"),
        ("{a-b}{1}{", "{a-b}{1}{"),
        ("", ""),
    ],
)
def test_a_value_is_put_in_as_it_is_and_other_braces_are_text(template: str, argument: str) -> None:
    assert Template.parse(template).fill({"a": "A", "b": "{a} {{b}}"}) == argument


def test_the_names_are_told_in_order() -> None:
    assert Template.parse("{b}-{a}{{c}}{b}").names == ("b", "a", "b")


@pytest.mark.parametrize(
    ("template", "empty", "first"),
    [
        ("{a}{b}", set(), "a"),
        ("{a}{b}", {"a"}, "b"),
        ("{a}{b}", {"a", "b"}, None),
        ("x{a}", set(), None),
        ("{a}x{b}", {"a"}, None),
    ],
)
def test_the_value_that_begins_the_argument_is_known(template: str, empty: set[str], first: str | None) -> None:
    assert Template.parse(template).first(empty) == first
