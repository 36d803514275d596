"""Lines of standard error, however they are cut on their way."""

import pytest

from worker.commands.lines import LONGEST_LINE, LineReader


def lines_of(*chunks: bytes) -> list[str]:
    lines: list[str] = []
    reader = LineReader(lines.append)
    for chunk in chunks:
        reader.feed(chunk)
    reader.finish()
    return lines


@pytest.mark.parametrize(
    ("stream", "lines"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb", ["a", "b"]),
        (b"\n\na", ["", "", "a"]),
        (b"10%\r50%\r100%\n", ["100%"]),
        (b"10%\r50%\r", ["50%"]),
        (b"10%\r50%\r\r\nx", ["50%", "x"]),
        ("é\n".encode(), ["é"]),
        (b"\xff\n", ["\N{REPLACEMENT CHARACTER}"]),
    ],
)
def test_a_line_is_what_a_terminal_would_show(stream: bytes, lines: list[str]) -> None:
    assert lines_of(stream) == lines
    assert lines_of(*(stream[place : place + 1] for place in range(len(stream)))) == lines


def test_a_line_without_end_is_cut_and_says_so() -> None:
    longest = LONGEST_LINE * b"x"

    assert lines_of(longest + b"\n") == [longest.decode()]
    assert lines_of(longest, b"yy", b"z\nnext") == [
        f"{longest.decode()} … (cut; it had {LONGEST_LINE + 3} bytes)",
        "next",
    ]


def test_a_line_without_end_takes_no_memory() -> None:
    reader = LineReader(print)
    for _ in range(100):
        reader.feed(b"x" * 65_536)

    assert len(reader._line) == LONGEST_LINE
