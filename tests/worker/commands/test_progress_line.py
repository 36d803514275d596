"""Lines that tell of progress, and those that only look so."""

import pytest

from worker.commands.progress_line import parse


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        ("::progress 40/100 resizing", (0.4, "resizing")),
        ("::progress 0.4 half  way ", (0.4, "half  way")),
        ("::progress 40% text", (0.4, "text")),
        ("::progress 1", (1.0, "")),
        ("::progress 0\r\n", (0.0, "")),
        ("::progress 2.5/5", (0.5, "")),
        ("::progress  100%\t\u00e9", (1.0, "é")),
    ],
)
def test_a_fraction_a_share_or_a_percentage_may_have_a_message(line: str, progress: tuple[float, str]) -> None:
    assert parse(line) == progress


@pytest.mark.parametrize(
    "line",
    [
        "::progress",
        "::progress ",
        "::progress x",
        "::progress -1",
        "::progress 1.1",
        "::progress 40",
        "::progress 120%",
        "::progress 3/2",
        "::progress 0/0",
        "::progress 1/0",
        "::progress nan",
        "::progress 1e-1",
        "::progress 40%text",
        "::progress 1/2/3",
        "::progress ٣%",
        "::progress " + "9" * 400 + "/1",
        " ::progress 1",
    ],
)
def test_nonsense_is_an_ordinary_line(line: str) -> None:
    assert parse(line) is None


def test_a_long_line_takes_no_time() -> None:
    assert parse("::progress 1" + " " * 8000 + "x" + " " * 8000) == (1.0, "x")
