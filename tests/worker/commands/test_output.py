"""Results: JSON where the output is JSON, its text else."""

import msgspec
import pytest

from worker.commands.capture import Capture
from worker.commands.output import bare, result_of
from worker.results import encode_result


def result(output: bytes, limit: int = 1_048_576) -> object:
    capture = Capture(limit, lambda _: None)
    capture.feed(output)
    capture.finish()
    return result_of(capture)


def as_json(output: bytes) -> bytes:
    value = result(output)
    assert isinstance(value, msgspec.Raw), value
    return bytes(value)


@pytest.mark.parametrize(
    ("output", "value"),
    [
        (b'{"a": [1, 2.50],\n "b": null}\n', b'{"a":[1,2.50],"b":null}'),
        (b"42\n", b"42"),
        (b"  true", b"true"),
        (b"null", b"null"),
        (b'"text"\n', b'"text"'),
        (b"123456789012345678901234567890", b"123456789012345678901234567890"),
        (b"[" * 64 + b"]" * 64, b"[" * 64 + b"]" * 64),
    ],
)
def test_an_output_that_is_one_json_value_is_that_value(output: bytes, value: bytes) -> None:
    assert as_json(output) == value


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"\n",
        b"hello\n",
        b"  two lines\nand spaces  \n",
        b"1 2",
        b'{"a": 1}\n{"a": 2}\n',
        b"NaN",
        b"1e400",
        b'{"a": 1, "a": 2}',
        b"nothing",
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
        b'"\\ud800"',
    ],
)
def test_every_other_output_is_text_as_it_was_written(output: bytes) -> None:
    assert result(output) == output.decode()


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert result(b'"\xff"') == '"\N{REPLACEMENT CHARACTER}"'


def test_an_output_that_was_cut_is_text_and_says_so() -> None:
    assert result(b"[1, 2, 3]", 4) == "[1, … (cut; it had 9 bytes)"


def test_no_output_is_too_large_for_a_result() -> None:
    value = result(b"\x01" * 1_048_576)

    encode_result(value, 1_048_576)
    assert str(value).endswith("… (cut; it had 1048576 bytes)")


def test_the_bare_result_is_the_text_or_json() -> None:
    assert bare(msgspec.Raw(b'"a\\nb"')) == "a\nb"
    assert bare(msgspec.Raw(b'{"a":1}')) == msgspec.Raw(b'{"a":1}')
