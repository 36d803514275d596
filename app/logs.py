"""How log records look, decided in one place: text for people, JSON for programs."""

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

#: What ``GOFER_LOG_FORMAT`` may be.
FORMATS = ("text", "json")
#: What ``GOFER_LOG_LEVEL`` may be.
LEVELS = ("debug", "info", "warning", "error")

#: The attributes that every record has; whatever else one carries was given as ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def configure(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send the records of ``level`` and above to ``stream`` (standard error) in ``log_format``."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # A reader that has gone away must not make each record a traceback.
    logging.raiseExceptions = False
    logging.getLogger("waitress").setLevel(max(logging.WARNING, root.level))
    # It warns of every burst that finds all threads busy.
    logging.getLogger("waitress.queue").setLevel(logging.CRITICAL)
    # It tells of whole URLs, in which there may be secrets, and of whatever is wrong with an answer.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


class TextFormatter(logging.Formatter):
    """One line per record, whatever the message holds; a traceback follows below."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value!r}" for name, value in _extra(record).items())
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {_printable(record.getMessage())}{fields}"
        # Indented: what an error says may hold line breaks, and then something that looks like a line of its own.
        return "\n".join([line, *(f"  {_printable(below)}" for below in _traceback(record).splitlines())])


class JsonFormatter(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if trace := _traceback(record):
            entry["traceback"] = trace
        try:
            return msgspec.json.encode(entry, enc_hook=repr).decode()
        except (TypeError, ValueError, RecursionError):
            return msgspec.json.encode({key: ascii(value) for key, value in entry.items()}).decode()


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return "".join(traceback.format_exception(record.exc_info[1])).rstrip()


def _printable(text: str) -> str:
    """``text`` without what could begin a line of its own or command a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
