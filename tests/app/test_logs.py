"""Log lines, for people and for programs."""

import io
import json
import logging
import re

import pytest

from app import logs

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def stream(restored_logging: None) -> io.StringIO:
    return io.StringIO()


def test_text_has_time_level_logger_message_and_fields(stream: io.StringIO) -> None:
    logs.configure("info", "text", stream)
    logging.getLogger("worker.engine").info("job %s ended", "x", extra={"status": "failed", "attempt": 2})

    assert re.fullmatch(TIME + r" INFO    worker\.engine: job x ended status='failed' attempt=2\n", stream.getvalue())


def test_json_is_one_object_on_one_line(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    logging.getLogger("a").warning("line\none", extra={"queue": "mail", "odd": {1, 2}})

    entry = json.loads(stream.getvalue())
    assert re.fullmatch(TIME, entry.pop("time"))
    assert entry.pop("odd") in ([1, 2], [2, 1])
    assert entry == {"level": "warning", "logger": "a", "message": "line\none", "queue": "mail"}
    assert stream.getvalue().count("\n") == 1


def test_a_traceback_can_neither_forge_a_line_nor_drive_a_terminal(stream: io.StringIO) -> None:
    logs.configure("info", "text", stream)
    try:
        raise ValueError("x\n2026-01-05T10:00:00.000Z INFO forged\x1b[2J\x852026-01-05T10:00:00.000Z INFO forged")
    except ValueError:
        logging.getLogger("a").exception("failed")

    first, *others = stream.getvalue().splitlines()
    assert first.endswith("a: failed")
    assert others
    assert all(line.startswith("  ") and line.isprintable() for line in others)


@pytest.mark.parametrize("log_format", logs.FORMATS)
def test_a_message_cannot_forge_a_line(stream: io.StringIO, log_format: str) -> None:
    logs.configure("info", log_format, stream)
    logging.getLogger("a").info("job %s", "x\n2026-01-05T10:00:00.000Z INFO forged\x1b[2J\ud800")

    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("log_format", logs.FORMATS)
def test_an_exception_comes_with_its_traceback(stream: io.StringIO, log_format: str) -> None:
    logs.configure("info", log_format, stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("a").exception("failed")

    assert "ValueError: broken" in stream.getvalue()
    assert "Traceback" in stream.getvalue()


def test_the_level_is_kept_to(stream: io.StringIO) -> None:
    logs.configure("warning", "text", stream)
    logging.getLogger("a").info("chatter")

    assert stream.getvalue() == ""


def test_urllib3_says_nothing_of_urls_and_answers(stream: io.StringIO) -> None:
    logs.configure("debug", "text", stream)
    logging.getLogger("urllib3.connectionpool").debug("GET /?token=secret")
    logging.getLogger("urllib3.connection").warning("Failed to parse headers")

    assert stream.getvalue() == ""


def test_waitress_says_nothing_of_its_queue(stream: io.StringIO) -> None:
    logs.configure("debug", "text", stream)
    logging.getLogger("waitress.queue").warning("Task queue depth is 1")
    logging.getLogger("waitress").info("Serving")

    assert stream.getvalue() == ""
