"""Payloads: what a request may give, checked against the declaration, all errors at once."""

import msgspec
import pytest

from tests.worker.commands.declare import declared
from worker.commands.payload import Call, PayloadReader
from worker.errors import InvalidPayload

THUMBNAIL = r"""
[commands.thumbnail]
argv = ["echo", "{input}", "--size={size}", "{extra}"]
[commands.thumbnail.params]
input = { pattern = '[\w./-]+\.png' }
size = { pattern = '\d{1,4}x\d{1,4}', default = "200x200" }
extra = { pattern = '.*', default = "", max_length = 5 }
"""


def read(toml: str, payload: object) -> Call:
    return PayloadReader(declared(toml))(msgspec.Raw(msgspec.json.encode(payload)))


def refusals(toml: str, payload: object) -> list[tuple[str, str]]:
    with pytest.raises(InvalidPayload) as caught:
        read(toml, payload)
    return caught.value.errors


def test_values_are_taken_as_they_are_and_what_is_left_out_by_default() -> None:
    call = read(THUMBNAIL, {"input": "a/b.png", "extra": "{size}"[:5]})

    assert call.values == {"input": "a/b.png", "size": "200x200", "extra": "{size"}


@pytest.mark.parametrize("number", [0, 42, 10**30])
def test_a_whole_number_is_taken_as_its_digits(number: int) -> None:
    toml = "[commands.x]\nargv = ['echo', '{n}']\nparams.n.pattern = '[0-9]+'"

    assert read(toml, {"n": number}).values == {"n": str(number)}


@pytest.mark.parametrize(
    ("payload", "path", "message"),
    [
        ({}, "payload.input", r"is missing; it must match [\w./-]+\.png"),
        (None, "payload.input", r"is missing; it must match [\w./-]+\.png"),
        ({"input": None}, "payload.input", r"must match [\w./-]+\.png as a string or a whole number"),
        ({"input": True}, "payload.input", r"must match [\w./-]+\.png as a string or a whole number"),
        ({"input": 1.5}, "payload.input", r"must match [\w./-]+\.png as a string or a whole number"),
        ({"input": ["a.png"]}, "payload.input", r"must match [\w./-]+\.png as a string or a whole number"),
        ({"input": "a.png\n"}, "payload.input", r"must match [\w./-]+\.png in full, not 'a.png\n'"),
        ({"input": "a.png; rm -r"}, "payload.input", r"must match [\w./-]+\.png in full, not 'a.png; rm -r'"),
        ({"input": "-a.png"}, "payload.input", "must not begin with a dash"),
        (
            {"input": "a.png", "size": "big"},
            "payload.size",
            r"must match \d{1,4}x\d{1,4} in full, not 'big' (without it: '200x200')",
        ),
        ({"input": "a.png", "extra": "123456"}, "payload.extra", "must have at most 5 characters, not 6"),
        ({"input": "a.png", "extra": "a\0"}, "payload.extra", "must not contain NUL"),
        ({"input": "a.png", "extra": "-x"}, "payload.extra", "must not begin with a dash (without it: '')"),
        (
            {"input": "a.png", "sise": "1x1"},
            "payload.sise",
            "unknown field; did you mean size?; allowed are: input, size, extra",
        ),
        ([], "payload", "must be an object of input, size, extra"),
        ("a.png", "payload", "must be an object of input, size, extra"),
    ],
)
def test_a_wrong_value_is_named_with_the_rule(payload: object, path: str, message: str) -> None:
    assert refusals(THUMBNAIL, payload) == [(path, message)]


def test_all_errors_are_told_at_once() -> None:
    paths = [path for path, _ in refusals(THUMBNAIL, {"size": "x", "y": 1})]

    assert paths == ["payload.y", "payload.input", "payload.size"]


def test_a_long_wrong_value_is_not_repeated_whole() -> None:
    ((_, message),) = refusals(THUMBNAIL, {"input": "x" * 1000})

    assert len(message) < 200


@pytest.mark.parametrize(
    ("argument", "values", "is_refused"),
    [
        ("{a}", {"a": "-x"}, True),
        ("{a}", {"a": -5}, True),
        ("--a={a}", {"a": "-x"}, False),
        ("{b}{a}", {"a": "-x"}, True),
        ("{b}{a}", {"a": "-x", "b": "y"}, False),
    ],
)
def test_no_value_makes_an_argument_an_option(argument: str, values: dict[str, object], is_refused: bool) -> None:
    toml = f"[commands.x]\nargv = ['echo', '{argument}', 'b{{b}}']\nparams.a.pattern = '.*'\n"
    toml += "params.b = { pattern = '.*', default = '' }"

    if is_refused:
        assert refusals(toml, values) == [("payload.a", "must not begin with a dash")]
    else:
        read(toml, values)
    read(toml.replace("a.pattern = '.*'", "a = { pattern = '.*', leading_dash = true }"), values)


@pytest.mark.parametrize("payload", [None, {}])
def test_a_command_without_parameters_takes_nothing(payload: object) -> None:
    assert read("[commands.x]\nargv = ['date']", payload).values == {}


def test_a_command_without_parameters_refuses_a_field() -> None:
    assert refusals("[commands.x]\nargv = ['date']", {"a": 1}) == [
        ("payload.a", "unknown field; allowed are: none"),
    ]


@pytest.mark.parametrize("payload", [None, 5, "text", [1], {"a": {"b": 1}}])
def test_a_command_that_reads_the_payload_takes_every_json_value(payload: object) -> None:
    toml = "[commands.x]\nargv = ['cat']\nstdin = 'payload'"

    assert PayloadReader(declared(toml)).takes_anything
    assert msgspec.json.decode(read(toml, payload).payload) == payload


def test_a_command_that_reads_the_payload_takes_more_than_its_parameters() -> None:
    toml = "[commands.x]\nargv = ['cat', '{a}']\nstdin = 'payload'\nparams.a.pattern = 'x'"

    assert read(toml, {"a": "x", "rows": [1]}).values == {"a": "x"}
    assert refusals(toml, [1]) == [("payload", "must be an object of a")]
    assert refusals(toml, {"a": "y"})[0][0] == "payload.a"


@pytest.mark.parametrize("payload", [b"{", b'"\xff"', b"[" * 100_000])
def test_no_bytes_break_the_check(payload: bytes) -> None:
    with pytest.raises(InvalidPayload):
        PayloadReader(declared(THUMBNAIL))(msgspec.Raw(payload))


def test_an_example_shows_defaults_and_patterns() -> None:
    assert PayloadReader(declared(THUMBNAIL)).example == {
        "input": r"<[\w./-]+\.png>",
        "size": "200x200",
        "extra": "",
    }
