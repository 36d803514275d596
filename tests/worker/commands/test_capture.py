"""Standard output: what is kept of it, and the lines of progress in it."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.commands.capture import Capture
from worker.commands.lines import LONGEST_LINE


def captured(*chunks: bytes, limit: int = 1000) -> tuple[bytes, list[tuple[float, str]]]:
    """What is kept, and the progress."""
    progress: list[tuple[float, str]] = []
    capture = Capture(limit, progress.append)
    for chunk in chunks:
        capture.feed(chunk)
    capture.finish()
    return capture.kept, progress


@pytest.mark.parametrize(
    ("stream", "kept", "progress"),
    [
        (b"", b"", []),
        (b"a\nb", b"a\nb", []),
        (b"::progress 1/2 x\na\n", b"a\n", [(0.5, "x")]),
        (b"a\n::progress 1/2\r\n::progress 1\nb\n", b"a\nb\n", [(0.5, ""), (1.0, "")]),
        (b"a\n::progress 1/2", b"a\n", [(0.5, "")]),
        (b"a ::progress 1/2\n", b"a ::progress 1/2\n", []),
        (b"::progress soon\nb", b"::progress soon\nb", []),
        (b"::prog", b"::prog", []),
        (b"\n::progress\n::progres 1\n", b"\n::progress\n::progres 1\n", []),
        (b"\n\n::", b"\n\n::", []),
    ],
)
def test_lines_of_progress_are_no_part_of_the_output(
    stream: bytes, kept: bytes, progress: list[tuple[float, str]]
) -> None:
    assert captured(stream) == (kept, progress)
    assert captured(*(stream[place : place + 1] for place in range(len(stream)))) == (kept, progress)


PIECES = st.sampled_from([b"::progress 1/2 x", b"::progress", b"::pro", b"\n", b"\n", b"a", b" ::progress 1", b"\r\n"])


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(pieces=st.lists(PIECES, max_size=12), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_it_does_not_matter_how_the_output_is_cut_on_its_way(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[start:end] for start, end in pairwise(places)]
    told = [line for line in stream.split(b"\n") if line.rstrip() == b"::progress 1/2 x"]

    kept, progress = captured(*chunks)

    assert len([one for one in progress if one == (0.5, "x")]) == len(told)
    assert (kept, progress) == captured(stream)


def test_what_is_too_much_is_counted_and_not_kept() -> None:
    capture = Capture(10, lambda _: None)
    for _ in range(1000):
        capture.feed(b"0123456789abcdef")

    assert (capture.kept, capture.size, capture.is_cut) == (b"0123456789", 16_000, True)


def test_an_output_of_just_the_limit_is_not_cut() -> None:
    capture = Capture(4, lambda _: None)
    capture.feed(b"abcd")

    assert not capture.is_cut


def test_progress_goes_on_past_the_limit() -> None:
    assert captured(b"abcdef\n", b"::progress 1/2\n", b"more", limit=2) == (b"ab", [(0.5, "")])


def test_a_character_that_was_cut_in_two_is_left_out() -> None:
    capture = Capture(4, lambda _: None)
    capture.feed("abcé".encode())

    assert capture.text == "abc"


def test_what_is_no_utf_8_is_replaced() -> None:
    capture = Capture(4, lambda _: None)
    capture.feed(b"a\xff\xc3")

    assert capture.text == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"


def test_a_line_of_progress_without_end_is_output() -> None:
    line = b"::progress 1/2 " + b"x" * 2 * LONGEST_LINE

    assert captured(line, b"\n::progress 1\n", limit=100_000) == (line + b"\n", [(1.0, "")])
