"""The settings: each one's name, default, meaning and limits in one place.

``GOFER_…`` environment variables, or the same names in the TOML file that
``GOFER_CONFIG`` names; the environment wins. The ``--help`` text is made from here.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from app.logs import FORMATS, LEVELS
from store import check_url
from store.errors import CannotOpenStore, GoferError
from store.job import JobStatus
from worker.registry import NAME_PATTERN

_PREFIX = "GOFER_"
#: Names the file; it cannot stand in the file itself.
CONFIG_FILE = "GOFER_CONFIG"
#: What many hosts set; honoured where GOFER_PORT is absent.
_PLAIN_PORT = "PORT"

_QUEUE = re.compile(rf"({NAME_PATTERN.pattern})\s*=\s*([0-9]+)")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)")
_UNITS = MappingProxyType({"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0})
_MAX_WORKERS = 256


class ConfigError(GoferError):
    """A setting is wrong."""

    code = "config"

    def __init__(self, errors: list[str]) -> None:
        """``errors``: one line each, all that is wrong."""
        super().__init__("\n".join(errors))
        self.errors = errors


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text.strip()


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\s*[0-9]{1,18}\s*", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {text!r}")
        return int(text)

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.strip().lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text.strip().lower()

    return parse


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else math.inf
    if seconds > 100 * 366 * 86_400:
        raise ValueError(f"must be a duration such as 10, 90s, 15m, 12h or 7d, not {text!r}")
    return seconds


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_items(text)))


def _queues(text: str) -> Mapping[str, int]:
    queues: dict[str, int] = {}
    for item in _items(text):
        match = _QUEUE.fullmatch(item)
        if not match or not 1 <= int(match[2][:9]) <= _MAX_WORKERS:
            raise ValueError(f"must be like reports=1,mail=8 with 1 to {_MAX_WORKERS} workers each, not {item!r}")
        if match[1] == "default":
            raise ValueError("must not name the queue default, whose workers GOFER_WORKERS sets")
        if match[1] in queues:
            raise ValueError(f"names the queue {match[1]} twice")
        queues[match[1]] = int(match[2])
    return MappingProxyType(queues)


def _store(text: str) -> str:
    try:
        check_url(text.strip())
    except CannotOpenStore as error:
        raise ValueError(str(error)) from None
    return text.strip()


_KEPT = MappingProxyType({JobStatus.COMPLETED: "7d", JobStatus.CANCELLED: "7d", JobStatus.FAILED: "30d"})


def _retention(text: str) -> Mapping[JobStatus, float]:
    """Seconds by final status; a status that is missing is kept for ever."""
    kept = dict(_KEPT)
    for item in _items(text):
        name, equals, duration = (part.strip() for part in item.partition("="))
        if not equals:
            kept = dict.fromkeys(kept, item)
        elif name in list(kept):
            kept[JobStatus(name)] = duration
        else:
            raise ValueError(f"must name {', '.join(kept)}, not {name!r}")
    seconds = {status: 0.0 if duration == "off" else _seconds(duration) for status, duration in kept.items()}
    return MappingProxyType({status: value for status, value in seconds.items() if value > 0})


def _setting(default: str, parse: Callable[[str], Any], meaning: str) -> Any:
    return field(metadata={"default": default, "parse": parse, "meaning": meaning})


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting, checked. A field's name in capitals after ``GOFER_`` is the setting's name."""

    host: str = _setting("127.0.0.1", _text, "address to listen on")
    port: int = _setting("8080", _whole(0, 65_535), "port to listen on, 0 for any; a plain PORT is honoured, too")
    store: str = _setting("sqlite:gofer.db", _store, "where jobs are kept: sqlite:PATH or memory:")
    workers: int = _setting("4", _whole(1, _MAX_WORKERS), "threads that run the jobs of the queue default")
    queues: Mapping[str, int] = _setting("", _queues, "more queues and their threads, such as reports=1,mail=8")
    threads: int = _setting("16", _whole(2, 256), "threads that answer HTTP requests; half of them may wait for jobs")
    handlers: tuple[str, ...] = _setting("", _names, "modules or .py files with handlers, separated by commas")
    shutdown_timeout: float = _setting("10", _seconds, "how long a stop waits for running jobs")
    max_backlog: int = _setting("1000000", _whole(1, 10**12), "jobs that may wait; past it submissions get 503")
    max_body: int = _setting("1048576", _whole(1024, 2**30), "bytes of a request's body")
    retention: Mapping[JobStatus, float] = _setting(
        ",".join(f"{status}={duration}" for status, duration in _KEPT.items()),
        _retention,
        "how long finished jobs are kept: 7d for all, or by status; 0 or off: for ever",
    )
    log_level: str = _setting("info", _one_of(*LEVELS), f"least severe level that is logged: {', '.join(LEVELS)}")
    log_format: str = _setting("text", _one_of(*FORMATS), f"how log lines look: {' or '.join(FORMATS)}")

    @property
    def all_queues(self) -> Mapping[str, int]:
        """Every queue, ``default`` first, and how many workers it has."""
        return {"default": self.workers, **self.queues}


def load(environ: Mapping[str, str]) -> Config:
    """The settings from the environment and the file that it names.

    Raises ConfigError, which tells of everything that is wrong at once.
    """
    errors: list[str] = []
    given = _given(environ, errors)
    settings = {_name_of(setting.name): setting for setting in fields(Config)}
    errors += [f"{name}: unknown setting{_hint(name, settings)}" for name in given if name not in settings]
    values: dict[str, Any] = {}
    for name, setting in settings.items():
        source, text = given.get(name, (name, setting.metadata["default"]))
        try:
            values[setting.name] = setting.metadata["parse"](text)
        except ValueError as error:
            errors.append(f"{source}: {error}")
    if errors:
        raise ConfigError(errors)
    return Config(**values)


def _given(environ: Mapping[str, str], errors: list[str]) -> dict[str, tuple[str, str]]:
    """Where each given setting comes from, and its text; the environment wins over PORT, PORT over the file."""
    given: dict[str, tuple[str, str]] = {}
    if environ.get(CONFIG_FILE):
        given |= {name: (name, text) for name, text in _read_file(Path(environ[CONFIG_FILE]), errors).items()}
    if environ.get(_PLAIN_PORT):
        given[_name_of("port")] = (_PLAIN_PORT, environ[_PLAIN_PORT])
    named = {name: text for name, text in environ.items() if name.startswith(_PREFIX) and name != CONFIG_FILE}
    return given | {name: (name, text) for name, text in named.items()}


def table() -> str:
    """All settings with their defaults and meanings, as ``--help`` shows them."""
    return "\n".join(_row(setting) for setting in fields(Config))


def _row(setting: "Field[Any]") -> str:
    default = setting.metadata["default"] or "none"
    return f"  {_name_of(setting.name)}\n      {setting.metadata['meaning']} (default: {default})"


def _name_of(field_name: str) -> str:
    return _PREFIX + field_name.upper()


def _hint(name: str, known: Iterable[str]) -> str:
    # Without the prefix, which would make everything look alike.
    choices = [setting.removeprefix(_PREFIX) for setting in [*known, CONFIG_FILE]]
    close = difflib.get_close_matches(name.upper().removeprefix(_PREFIX), choices, n=1)
    return f"; did you mean {_PREFIX}{close[0]}?" if close else "; see --help for all of them"


def _read_file(path: Path, errors: list[str]) -> dict[str, str]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        errors.append(f"{CONFIG_FILE}: cannot read {str(path)!r}: {error.strerror}")
        return {}
    except ValueError as error:  # not UTF-8, or not TOML
        errors.append(f"{CONFIG_FILE}: {str(path)!r} is not TOML: {error}")
        return {}
    texts = {name: _as_text(value) for name, value in values.items()}
    errors += [
        f"{name}: must be a string, a number, or a list of strings in {str(path)!r}"
        for name, text in texts.items()
        if text is None
    ]
    return {name: text for name, text in texts.items() if text is not None}


def _as_text(value: object) -> str | None:
    """A value of TOML as the environment would hold it; None if it could not."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return None
