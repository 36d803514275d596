"""The settings: each one's name, default, meaning and limits in one place.

``GOFER_…`` environment variables, or the same names in the TOML file that
``GOFER_CONFIG`` names; the environment wins. The ``--help`` text is made from here.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from app import keys
from app.logs import FORMATS, LEVELS
from app.loopback import is_loopback
from store import check_url
from store.errors import CannotOpenStore, GoferError
from store.job import JobStatus
from worker.outgoing.addresses import AllowList, Network, named_network
from worker.outgoing.connections import check_proxy
from worker.quantities import seconds
from worker.registry import NAME_PATTERN

_PREFIX = "GOFER_"
#: Names the file; it cannot stand in the file itself.
CONFIG_FILE = "GOFER_CONFIG"
#: The tables of the file that declare commands, ``[commands.NAME]``. No setting: the environment has no tables.
_COMMANDS = "commands"
#: What many hosts set; honoured where GOFER_PORT is absent.
_PLAIN_PORT = "PORT"

_QUEUE = re.compile(rf"({NAME_PATTERN.pattern})\s*=\s*([0-9]+)")
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


def _flag(text: str) -> bool:
    if text.strip().lower() not in ("1", "true", "0", "false", ""):
        raise ValueError(f"must be 1 or 0, not {text!r}")
    return text.strip().lower() in ("1", "true")


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
    items = _items(text)
    if len(items) == 1 and "=" not in items[0]:
        chosen = dict.fromkeys(_KEPT, items[0])
    else:
        chosen = {**_KEPT, **_by_status(items)}
    times = {status: _kept_for(duration) for status, duration in chosen.items()}
    return MappingProxyType({status: time for status, time in times.items() if time > 0})


def _by_status(items: Iterable[str]) -> Mapping[JobStatus, str]:
    given: dict[JobStatus, str] = {}
    for item in items:
        name, equals, duration = (part.strip() for part in item.partition("="))
        if not equals:
            raise ValueError(f"must be one time for all or times by status, not {item!r} beside others")
        if name not in list(_KEPT):
            raise ValueError(f"must name {', '.join(_KEPT)}, not {name!r}")
        if name in given:
            raise ValueError(f"names {name} twice")
        given[JobStatus(name)] = duration
    return given


def _kept_for(duration: str) -> float:
    """Seconds; 0 for ever. A bare number is refused: who writes 7 means days, and 7 seconds delete the history."""
    if duration in ("off", "0"):
        return 0.0
    if not duration.endswith(tuple("smhd")):
        raise ValueError(f"must be a duration such as 90s, 15m, 12h or 7d, with its unit, or off, not {duration!r}")
    return seconds(duration)


def _allowed(text: str) -> tuple[str, ...]:
    names = _names(text)
    AllowList.of(names)
    return names


def _networks(text: str) -> tuple[Network, ...]:
    networks: list[Network] = []
    for item in _items(text):
        try:
            networks.append(named_network(item))
        except ValueError:
            raise ValueError(f"must be IP addresses or networks such as 172.17.0.0/16, not {item!r}") from None
    return tuple(networks)


def _proxy(text: str) -> str | None:
    if not text.strip():
        return None
    check_proxy(text.strip())
    return text.strip()


def _path(text: str) -> Path | None:
    if "\0" in text:
        raise ValueError("must be a path")
    return Path(text.strip()) if text.strip() else None


def _setting(default: str, parse: Callable[[str], Any], meaning: str, *, secret: bool = False) -> Any:
    return field(repr=not secret, metadata={"default": default, "parse": parse, "meaning": meaning})


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting, checked. A field's name in capitals after ``GOFER_`` is the setting's name."""

    host: str = _setting("127.0.0.1", _text, "address to listen on")
    port: int = _setting("8080", _whole(0, 65_535), "port to listen on, 0 for any; a plain PORT is honoured, too")
    store: str = _setting("sqlite:gofer.db", _store, "where jobs are kept: sqlite:PATH or memory:")
    workers: int = _setting("4", _whole(1, _MAX_WORKERS), "threads that run the jobs of the queue default")
    queues: Mapping[str, int] = _setting("", _queues, "more queues and their threads, such as reports=1,mail=8")
    threads: int = _setting("16", _whole(2, 256), "threads that answer HTTP requests; half of them may wait for jobs")
    handlers: tuple[str, ...] = _setting(
        "", _names, "modules, .py files or directories (./NAME) with handlers, separated by commas"
    )
    shutdown_timeout: float = _setting("10", seconds, "how long a stop waits for running jobs")
    max_backlog: int = _setting("1000000", _whole(1, 10**12), "jobs that may wait; past it submissions get 503")
    api_key: keys.ApiKey | None = _setting(  # noqa: RUF009  # it makes a field, like the others
        "", keys.chosen, "a key with every scope; at least 20 characters", secret=True
    )
    keys_file: Path | None = _setting(  # noqa: RUF009
        "", _path, "a TOML file with keys, read again when it changes"
    )
    allow_anonymous: bool = _setting("0", _flag, "1: without keys, let in whoever can reach GOFER_HOST, and warn of it")
    trusted_proxy: tuple[Network, ...] = _setting(
        "", _networks, "addresses or networks (CIDR) of proxies whose X-Forwarded-For, -Host and -Proto are believed"
    )
    max_body: int = _setting("1048576", _whole(1024, 2**30), "bytes of a request's body")
    retention: Mapping[JobStatus, float] = _setting(
        ",".join(f"{status}={duration}" for status, duration in _KEPT.items()),
        _retention,
        "how long finished jobs are kept: 7d for all, or by status; 0 or off: for ever",
    )
    http_allow: tuple[str, ...] = _setting(
        "", _allowed, "hosts, addresses and networks (CIDR) that http jobs may call though they are not public"
    )
    http_max_body: int = _setting("262144", _whole(1, 1_048_576), "bytes of an answer's body that an http job keeps")
    http_proxy: str | None = _setting(
        "", _proxy, "a proxy for all calls of http jobs, such as http://proxy.example:3128", secret=True
    )
    log_lines: int = _setting("1000", _whole(1, 100_000), "lines of each job's log that are kept, the newest")
    log_level: str = _setting("info", _one_of(*LEVELS), f"least severe level that is logged: {', '.join(LEVELS)}")
    log_format: str = _setting("text", _one_of(*FORMATS), f"how log lines look: {' or '.join(FORMATS)}")

    #: The tables of commands by name, as they stand in the file. ``worker.commands`` knows what they mean.
    commands: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def has_keys(self) -> bool:
        """Whether calls need a key."""
        return _are_keys(self.api_key, self.keys_file)

    @property
    def all_queues(self) -> Mapping[str, int]:
        """Every queue, ``default`` first, and how many workers it has."""
        return {"default": self.workers, **self.queues}


def load(environ: Mapping[str, str]) -> Config:
    """The settings from the environment and the file that it names.

    Raises ConfigError, which tells of everything that is wrong at once.
    """
    errors: list[str] = []
    file = _read_file(environ, errors)
    commands = _commands(file.pop(_COMMANDS, {}), errors)
    given = _given(environ, _texts(file, errors))
    settings = {_name_of(setting.name): setting for setting in _settings()}
    errors += [_unknown(name, settings) for name in given if name not in settings]
    values = _values(settings, given, errors)
    errors += _exposure(values)
    if errors:
        raise ConfigError(errors)
    return Config(**values, commands=commands)


def address(environ: Mapping[str, str]) -> tuple[str, int]:
    """``host`` and ``port`` alone: whether a service lives does not depend on what else may be wrong by now.

    Raises ConfigError.
    """
    errors: list[str] = []
    names = {_name_of("host"), _name_of("port")}
    file = _read_file(environ, errors)
    given = _given(environ, _texts({name: file[name] for name in names & file.keys()}, errors))
    settings = {name: setting for setting in _settings() if (name := _name_of(setting.name)) in names}
    values = _values(settings, given, errors)
    if errors:
        raise ConfigError(errors)
    return values["host"], values["port"]


def _values(
    settings: Mapping[str, "Field[Any]"], given: Mapping[str, tuple[str, str]], errors: list[str]
) -> dict[str, Any]:
    """The values of settings, by field; what is wrong with them is added to ``errors``."""
    values: dict[str, Any] = {}
    for name, setting in settings.items():
        source, text = given.get(name, (name, setting.metadata["default"]))
        try:
            values[setting.name] = setting.metadata["parse"](text)
        except ValueError as error:
            errors.append(f"{source}: {error}")
    return values


def _exposure(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with who could call the service, as far as the values are right."""
    if not {"host", "api_key", "keys_file", "allow_anonymous"} <= values.keys():
        return []
    has_keys = _are_keys(values["api_key"], values["keys_file"])
    if has_keys and values["allow_anonymous"]:
        return [f"{_name_of('allow_anonymous')}: there is a key, and with one nobody is let in without; drop either"]
    if has_keys or values["allow_anonymous"] or is_loopback(values["host"]):
        return []
    return [
        f"{_name_of('host')}: others could reach {values['host']}, and there is no key; make one with: gofer keys new"
        f" --name me --scopes read,submit,manage (from a clone: python run.py keys new …) and give it as"
        f" {_name_of('api_key')}, or let anybody in with {_name_of('allow_anonymous')}=1"
    ]


def _are_keys(api_key: keys.ApiKey | None, keys_file: Path | None) -> bool:
    return api_key is not None or keys_file is not None


def _settings() -> "list[Field[Any]]":
    return [setting for setting in fields(Config) if setting.metadata]


def _given(environ: Mapping[str, str], file: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Where each given setting comes from, and its text; the environment wins over PORT, PORT over the file."""
    given = {name: (name, text) for name, text in file.items()}
    if environ.get(_PLAIN_PORT):
        given[_name_of("port")] = (_PLAIN_PORT, environ[_PLAIN_PORT])
    named = {name: text for name, text in environ.items() if name.startswith(_PREFIX) and name != CONFIG_FILE}
    return given | {name: (name, text) for name, text in named.items()}


def table() -> str:
    """All settings with their defaults and meanings, as ``--help`` shows them."""
    return "\n".join(_row(setting) for setting in _settings())


def _row(setting: "Field[Any]") -> str:
    default = setting.metadata["default"] or "none"
    return f"  {_name_of(setting.name)}\n      {setting.metadata['meaning']} (default: {default})"


def _name_of(field_name: str) -> str:
    return _PREFIX + field_name.upper()


def _unknown(name: str, settings: Iterable[str]) -> str:
    if name == CONFIG_FILE:
        return f"{name}: names this file, and can only be set in the environment"
    return f"{name}: unknown setting{_hint(name, settings)}"


def _hint(name: str, known: Iterable[str]) -> str:
    # Without the prefix, which would make everything look alike.
    choices = [setting.removeprefix(_PREFIX) for setting in [*known, CONFIG_FILE]]
    close = difflib.get_close_matches(name.upper().removeprefix(_PREFIX), choices, n=1)
    return f"; did you mean {_PREFIX}{close[0]}?" if close else "; see --help for all of them"


def _read_file(environ: Mapping[str, str], errors: list[str]) -> dict[str, object]:
    """What the file holds, if one is named."""
    path = environ.get(CONFIG_FILE)
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        errors.append(f"{CONFIG_FILE}: cannot read {path!r}: {error.strerror}")
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or nested without end
        errors.append(f"{CONFIG_FILE}: {path!r} is not TOML: {error}")
    return {}


def _commands(value: object, errors: list[str]) -> Mapping[str, object]:
    if isinstance(value, dict):
        return MappingProxyType(value)
    errors.append(f"{_COMMANDS}: must be tables such as [{_COMMANDS}.thumbnail]")
    return MappingProxyType({})


def _texts(values: Mapping[str, object], errors: list[str]) -> dict[str, str]:
    """The settings of the file, as the environment would hold them."""
    texts = {name: _as_text(value) for name, value in values.items()}
    errors += [
        f"{name}: must be a string, a number, or a list of strings in the file of {CONFIG_FILE}"
        f"{_table_hint(values[name])}"
        for name, text in texts.items()
        if text is None
    ]
    return {name: text for name, text in texts.items() if text is not None}


def _table_hint(value: object) -> str:
    return f"; the tables that there are declare commands: [{_COMMANDS}.thumbnail]" if isinstance(value, dict) else ""


def _as_text(value: object) -> str | None:
    """A value of TOML as the environment would hold it; None if it could not."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return None
