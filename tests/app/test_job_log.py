"""A job's log as text and as NDJSON, and what it says of lines that are not there."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from app.job_log import LogForm, NdjsonLog, TextLog, count_dropped, start_of
from store.job import LogLine

TIME = datetime(2026, 11, 24, 8, 19, 49, 123_987, UTC)


def line(number: int, message: str = "message", attempt: int = 1, level: str = "info") -> LogLine:
    return LogLine(number, TIME, attempt, level, message)


def numbers(*numbers: int) -> list[LogLine]:
    return [line(number) for number in numbers]


def as_text(*lines: LogLine, start: int = 0) -> str:
    return TextLog(start).write(lines).decode()


def messages(text: str) -> list[str]:
    """What stands in each line behind time and level."""
    return [shown.removeprefix("2026-11-24T08:19:49.123Z info  ") for shown in text.splitlines()]


def test_a_line_has_its_time_to_the_millisecond_its_level_and_its_message() -> None:
    assert as_text(line(1, "hello"), line(2, "wörld", level="warning")) == (
        "2026-11-24T08:19:49.123Z info  hello\n2026-11-24T08:19:49.123Z warning wörld\n"
    )


def test_a_whole_second_has_milliseconds_too() -> None:
    whole = LogLine(1, TIME - timedelta(microseconds=123_987), 1, "debug", "x")
    assert as_text(whole) == "2026-11-24T08:19:49.000Z debug x\n"


def test_further_lines_of_a_message_are_indented() -> None:
    assert messages(as_text(line(1, "one\ntwo\r\n\n three"))) == ["one", "  two", "  ", "   three"]


@pytest.mark.parametrize(
    ("logged", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\rb", "a\\x0db"),
        ("\x00\x08\x0b\x1f\x7f\x80\x85\x9b\x9f", "\\x00\\x08\\x0b\\x1f\\x7f\\x80\\x85\\x9b\\x9f"),
        ("a\tb \xa0ü 🙂", "a\tb \xa0ü 🙂"),
    ],
)
def test_a_log_does_not_drive_a_terminal(logged: str, shown: str) -> None:
    assert as_text(line(1, logged)) == f"2026-11-24T08:19:49.123Z info  {shown}\n"
    assert TextLog(0).remark(logged).decode() == f"— {shown} —\n"


def test_what_is_missing_is_marked_where_numbers_jump() -> None:
    shown = messages(as_text(*numbers(3, 4, 6, 44)))
    assert shown == [
        "… 2 lines left out …",
        "message",
        "message",
        "… 1 line left out …",
        "message",
        "… 37 lines left out …",
        "message",
    ]


def test_a_further_attempt_is_marked_and_the_first_is_not() -> None:
    shown = messages(as_text(line(1), line(2, attempt=2), line(3, attempt=2), line(5, attempt=4)))
    assert shown == [
        "message",
        "— attempt 2 —",
        "message",
        "message",
        "… 1 line left out …",
        "— attempt 4 —",
        "message",
    ]


def test_marks_are_right_across_pieces() -> None:
    form = TextLog(7)
    text = form.write([line(8)]) + form.write([]) + form.write([line(9, attempt=2)]) + form.write([line(11, attempt=2)])
    assert messages(text.decode()) == [
        "message",
        "— attempt 2 —",
        "message",
        "… 1 line left out …",
        "message",
    ]


def test_ndjson_is_an_object_in_each_line() -> None:
    form = NdjsonLog(0)
    shown = (form.write([line(1, "a\nb"), line(2, "c\x1b", attempt=2)]) + form.remark("so far")).splitlines()
    assert [json.loads(text) for text in shown] == [
        {"number": 1, "time": "2026-11-24T08:19:49.123987Z", "attempt": 1, "level": "info", "message": "a\nb"},
        {"number": 2, "time": "2026-11-24T08:19:49.123987Z", "attempt": 2, "level": "info", "message": "c\x1b"},
        {"remark": "so far"},
    ]


@pytest.mark.parametrize("form", [TextLog(4), NdjsonLog(4)], ids=["text", "ndjson"])
def test_it_is_known_which_line_was_the_last(form: LogForm) -> None:
    assert form.last == 4
    assert form.write([]) == b""
    assert form.last == 4
    form.write(numbers(5, 9))
    assert form.last == 9


@pytest.mark.parametrize(
    ("lines", "after", "tail", "dropped"),
    [
        ([], 0, None, 0),
        ([], 10, 3, 0),
        ([1, 2, 3], 0, None, 0),
        ([501, 502], 0, None, 500),
        ([501, 502], 500, None, 0),
        ([501, 503], 400, None, 101),
        # A full tail asked for nothing before its lines; but what is missing between them is missing.
        ([501, 502], 0, 2, 0),
        ([501, 504], 0, 2, 2),
        # One that is not full has all that there is, and would have had more.
        ([501, 502], 0, 3, 500),
        ([501, 502], 450, 3, 50),
    ],
)
def test_only_what_was_asked_for_counts_as_left_out(
    lines: list[int], after: int, tail: int | None, dropped: int
) -> None:
    shown = numbers(*lines)
    assert count_dropped(shown, start_of(shown, after, tail)) == dropped
