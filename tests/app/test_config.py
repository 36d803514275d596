"""Settings: where they come from, what they may be, and what is said when they are wrong."""

from pathlib import Path

import pytest

from app import config
from app.config import Config, ConfigError, load
from store.job import JobStatus

DAY = 86_400.0


def errors(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ)
    return caught.value.errors


def test_nothing_needs_to_be_set() -> None:
    settings = load({"HOME": "/root"})

    assert (settings.host, settings.port, settings.store) == ("127.0.0.1", 8080, "sqlite:gofer.db")
    assert (settings.workers, settings.threads, settings.handlers) == (4, 16, ())
    assert (settings.shutdown_timeout, settings.max_backlog, settings.max_body) == (10.0, 1_000_000, 1_048_576)
    assert settings.all_queues == {"default": 4}
    assert settings.retention == {
        JobStatus.COMPLETED: 7 * DAY,
        JobStatus.CANCELLED: 7 * DAY,
        JobStatus.FAILED: 30 * DAY,
    }
    assert (settings.log_level, settings.log_format) == ("info", "text")


def test_everything_can_be_set() -> None:
    settings = load(
        {
            "GOFER_HOST": "::",
            "GOFER_PORT": "0",
            "GOFER_STORE": "memory:",
            "GOFER_WORKERS": "1",
            "GOFER_QUEUES": "reports=1, mail=8",
            "GOFER_THREADS": "2",
            "GOFER_HANDLERS": "my.jobs, /srv/more.py",
            "GOFER_SHUTDOWN_TIMEOUT": "1.5m",
            "GOFER_MAX_BACKLOG": "10",
            "GOFER_MAX_BODY": "2048",
            "GOFER_RETENTION": "12h",
            "GOFER_LOG_LEVEL": "DEBUG",
            "GOFER_LOG_FORMAT": "json",
        }
    )

    assert settings.all_queues == {"default": 1, "reports": 1, "mail": 8}
    assert settings.handlers == ("my.jobs", "/srv/more.py")
    assert settings.shutdown_timeout == 90.0
    assert set(settings.retention.values()) == {DAY / 2}
    assert (settings.log_level, settings.log_format) == ("debug", "json")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("off", {}),
        ("0", {}),
        ("failed=off", {JobStatus.COMPLETED: 7 * DAY, JobStatus.CANCELLED: 7 * DAY}),
        ("1d,failed=2d", {JobStatus.COMPLETED: DAY, JobStatus.CANCELLED: DAY, JobStatus.FAILED: 2 * DAY}),
    ],
)
def test_retention_is_one_time_or_one_for_each_status(text: str, kept: dict[JobStatus, float]) -> None:
    assert load({"GOFER_RETENTION": text}).retention == kept


def test_a_plain_port_is_honoured_where_ours_is_absent() -> None:
    assert load({"PORT": "9000"}).port == 9000
    assert load({"PORT": "9000", "GOFER_PORT": "9001"}).port == 9001


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gofer.toml"
    file.write_text('GOFER_PORT = 9000\nGOFER_WORKERS = 2\nGOFER_HANDLERS = ["a", "b"]\nGOFER_RETENTION = "1d"\n')
    settings = load({"GOFER_CONFIG": str(file), "GOFER_WORKERS": "3"})

    assert (settings.port, settings.workers, settings.handlers) == (9000, 3, ("a", "b"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("GOFER_PORT", "http", "must be a whole number from 0 to 65535, not 'http'"),
        ("GOFER_PORT", "65536", "from 0 to 65535"),
        ("GOFER_PORT", "", "from 0 to 65535"),
        ("GOFER_PORT", "٣", "from 0 to 65535"),
        ("PORT", "x", "from 0 to 65535"),
        ("GOFER_WORKERS", "0", "from 1 to 256"),
        ("GOFER_HOST", " ", "must not be empty"),
        ("GOFER_QUEUES", "reports", "must be like reports=1,mail=8"),
        ("GOFER_QUEUES", "a=0", "must be like reports=1,mail=8"),
        ("GOFER_QUEUES", "a b=1", "must be like reports=1,mail=8"),
        ("GOFER_QUEUES", "a=1,a=2", "names the queue a twice"),
        ("GOFER_QUEUES", "default=2", "GOFER_WORKERS"),
        ("GOFER_SHUTDOWN_TIMEOUT", "soon", "must be a duration such as 10, 90s"),
        ("GOFER_SHUTDOWN_TIMEOUT", "-1", "must be a duration"),
        ("GOFER_SHUTDOWN_TIMEOUT", "9" * 400, "must be a duration"),
        ("GOFER_RETENTION", "pending=7d", "must name completed, cancelled, failed, not 'pending'"),
        ("GOFER_RETENTION", "failed=", "must be a duration"),
        ("GOFER_LOG_LEVEL", "loud", "must be one of debug, info, warning, error, not 'loud'"),
        ("GOFER_LOG_FORMAT", "xml", "must be one of text, json"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, text: str, message: str) -> None:
    (error,) = errors(**{name: text})

    assert error.startswith(f"{name}: ")
    assert message in error


def test_everything_that_is_wrong_is_said_at_once() -> None:
    assert len(errors(GOFER_PORT="x", GOFER_WORKERS="x", GOFER_COLOUR="red")) == 3


def test_an_unknown_setting_stops_the_start_and_shows_the_close_one() -> None:
    assert errors(GOFER_WORKER="3") == ["GOFER_WORKER: unknown setting; did you mean GOFER_WORKERS?"]
    assert errors(GOFER_XYZZY="3") == ["GOFER_XYZZY: unknown setting; see --help for all of them"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("GOFER_PORT = ", "is not TOML"),
        ("port = 9000", "port: unknown setting; did you mean GOFER_PORT?"),
        ("GOFER_CONFIG = 'x'", "GOFER_CONFIG: unknown setting"),
        ("GOFER_PORT = true", "GOFER_PORT: must be a string, a number, or a list of strings"),
        ("[GOFER_QUEUES]\nreports = 1", "GOFER_QUEUES: must be a string, a number, or a list of strings"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "gofer.toml"
    file.write_text(text)

    assert message in errors(GOFER_CONFIG=str(file))[0]


def test_a_file_that_is_not_there_is_refused() -> None:
    assert errors(GOFER_CONFIG="/nowhere.toml") == [
        "GOFER_CONFIG: cannot read '/nowhere.toml': No such file or directory"
    ]


def test_the_help_tells_of_every_setting() -> None:
    for name in Config.__slots__:
        assert f"GOFER_{name.upper()}" in config.table()
