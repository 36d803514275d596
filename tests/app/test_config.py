"""Settings: where they come from, what they may be, and what is said when they are wrong."""

from ipaddress import IPv4Network, IPv6Network
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
            "GOFER_ALLOW_ANONYMOUS": "1",
            "GOFER_TRUSTED_PROXY": "172.17.0.0/16, ::1, ::ffff:10.1.0.0/112",
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
            "GOFER_HTTP_ALLOW": "intranet.example, 10.0.0.0/8,::1",
            "GOFER_HTTP_MAX_BODY": "1000",
            "GOFER_HTTP_PROXY": " http://me:secret@proxy.example:3128 ",
            "GOFER_LOG_LINES": "50",
            "GOFER_LOG_LEVEL": "DEBUG",
            "GOFER_LOG_FORMAT": "json",
        }
    )

    assert settings.allow_anonymous
    assert settings.trusted_proxy == (IPv4Network("172.17.0.0/16"), IPv6Network("::1"), IPv4Network("10.1.0.0/16"))
    assert settings.all_queues == {"default": 1, "reports": 1, "mail": 8}
    assert settings.handlers == ("my.jobs", "/srv/more.py")
    assert settings.shutdown_timeout == 90.0
    assert set(settings.retention.values()) == {DAY / 2}
    assert settings.http_allow == ("intranet.example", "10.0.0.0/8", "::1")
    assert (settings.http_max_body, settings.http_proxy) == (1000, "http://me:secret@proxy.example:3128")
    assert "secret" not in repr(settings)
    assert settings.log_lines == 50
    assert (settings.log_level, settings.log_format) == ("debug", "json")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("off", {}),
        ("0", {}),
        ("failed=off", {JobStatus.COMPLETED: 7 * DAY, JobStatus.CANCELLED: 7 * DAY}),
        ("1d", {JobStatus.COMPLETED: DAY, JobStatus.CANCELLED: DAY, JobStatus.FAILED: DAY}),
        ("failed=2d,completed=0", {JobStatus.CANCELLED: 7 * DAY, JobStatus.FAILED: 2 * DAY}),
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
        ("GOFER_RETENTION", "7", "must be a duration such as 90s, 15m, 12h or 7d, with its unit, or off, not '7'"),
        ("GOFER_RETENTION", "failed=1.5", "with its unit, or off, not '1.5'"),
        ("GOFER_RETENTION", "completed=7d,completed=1d", "names completed twice"),
        ("GOFER_RETENTION", "completed=1d,7d", "must be one time for all or times by status, not '7d' beside others"),
        ("GOFER_RETENTION", "7d,failed=1d", "not '7d' beside others"),
        ("GOFER_RETENTION", "7d,1d", "not '7d' beside others"),
        ("GOFER_HTTP_ALLOW", "a, 10.0.0.1/8", "must be names of hosts, IP addresses or networks such as 10.0.0.0/8"),
        ("GOFER_HTTP_ALLOW", "http://a", "must be names of hosts"),
        ("GOFER_HTTP_MAX_BODY", "1048577", "must be a whole number from 1 to 1048576"),
        ("GOFER_HTTP_PROXY", "me:secret@proxy", "must be the URL of a proxy, such as http://proxy.example:3128"),
        ("GOFER_LOG_LINES", "0", "must be a whole number from 1 to 100000"),
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
        ("x = " + "[" * 10_000, "is not TOML"),
        ("[command.x]\nargv = ['date']", "the tables that there are declare commands: [commands.thumbnail]"),
        ("port = 9000", "port: unknown setting; did you mean GOFER_PORT?"),
        ("GOFER_CONFIG = 'x'", "GOFER_CONFIG: names this file, and can only be set in the environment"),
        ("GOFER_PORT = true", "GOFER_PORT: must be a string, a number, or a list of strings"),
        ("[GOFER_QUEUES]\nreports = 1", "GOFER_QUEUES: must be a string, a number, or a list of strings"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "gofer.toml"
    file.write_text(text)

    assert message in errors(GOFER_CONFIG=str(file))[0]


def test_commands_stand_in_the_file_and_are_passed_on_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "gofer.toml"
    file.write_text("GOFER_PORT = 9000\n[commands.date]\nargv = ['date']\n")
    settings = load({"GOFER_CONFIG": str(file)})

    assert (settings.port, settings.commands) == (9000, {"date": {"argv": ["date"]}})
    assert "COMMANDS" not in config.table()


@pytest.mark.parametrize("text", ["commands = 'rm'", "[[commands]]\nargv = ['x']"])
def test_commands_must_be_tables(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gofer.toml"
    file.write_text(text)

    assert errors(GOFER_CONFIG=str(file)) == ["commands: must be tables such as [commands.thumbnail]"]


def test_the_environment_declares_no_commands() -> None:
    assert errors(GOFER_COMMANDS="{}")[0].startswith("GOFER_COMMANDS: unknown setting")


def test_a_file_that_is_not_there_is_refused() -> None:
    assert errors(GOFER_CONFIG="/nowhere.toml") == [
        "GOFER_CONFIG: cannot read '/nowhere.toml': No such file or directory"
    ]


def test_the_key_is_in_no_text_of_the_settings() -> None:
    settings = load({"GOFER_API_KEY": "the-key-of-the-operator"})

    assert settings.api_key is not None
    assert not any(text in repr(settings) for text in ("the-key-of", settings.api_key.digest.hex(), "api_key"))
    assert "the-key-of" not in errors(GOFER_API_KEY="the-key-of ")[0]


def test_calls_need_a_key_once_there_is_one_of_either_kind() -> None:
    assert not load({"GOFER_API_KEY": "", "GOFER_KEYS_FILE": ""}).has_keys
    assert load({"GOFER_API_KEY": "the-key-of-the-operator"}).has_keys
    assert load({"GOFER_KEYS_FILE": "/etc/gofer/keys.toml"}).has_keys


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "127.255.0.9", "::1", "localhost", "LocalHost.", "gofer.localhost", "::ffff:127.0.0.1"],
)
def test_without_a_key_it_may_listen_where_only_this_machine_is(host: str) -> None:
    assert load({"GOFER_HOST": host}).host == host


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "0", "0x0", "10.0.0.1", "192.168.1.5", "::", "fe80::1", "::ffff:0.0.0.0", "::ffff:10.0.0.1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "myhost", "localhost.example.com", "xlocalhost"),
    ],
)
def test_where_others_are_it_listens_with_a_key_or_when_anybody_may_come_in(host: str) -> None:
    (error,) = errors(GOFER_HOST=host)

    assert error.startswith(f"GOFER_HOST: others could reach {host}, and there is no key; make one with: ")
    assert all(way in error for way in ("python run.py keys new", "GOFER_API_KEY", "GOFER_ALLOW_ANONYMOUS=1"))
    for way in ({"GOFER_API_KEY": "k" * 20}, {"GOFER_KEYS_FILE": "keys.toml"}, {"GOFER_ALLOW_ANONYMOUS": "1"}):
        assert load({"GOFER_HOST": host, **way}).host == host


def test_a_key_that_is_wrong_is_not_told_as_if_there_was_none() -> None:
    (error,) = errors(GOFER_HOST="0.0.0.0", GOFER_API_KEY="short")

    assert error.startswith("GOFER_API_KEY: ")


@pytest.mark.parametrize("way", [{"GOFER_API_KEY": "k" * 20}, {"GOFER_KEYS_FILE": "keys.toml"}])
def test_nobody_can_be_asked_for_a_key_and_let_in_without(way: dict[str, str]) -> None:
    (error,) = errors(GOFER_ALLOW_ANONYMOUS="1", **way)

    assert error.startswith("GOFER_ALLOW_ANONYMOUS: there is a key")


@pytest.mark.parametrize(("text", "is_on"), [("1", True), ("true", True), ("0", False), ("False", False), ("", False)])
def test_a_switch_is_on_or_off(text: str, is_on: bool) -> None:
    assert load({"GOFER_ALLOW_ANONYMOUS": text}).allow_anonymous is is_on


@pytest.mark.parametrize("text", ["yes", "2", "on"])
def test_a_switch_is_nothing_else(text: str) -> None:
    assert errors(GOFER_ALLOW_ANONYMOUS=text) == [f"GOFER_ALLOW_ANONYMOUS: must be 1 or 0, not {text!r}"]


@pytest.mark.parametrize("text", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.1:80"])
def test_proxies_are_addresses_and_networks(text: str) -> None:
    (error,) = errors(GOFER_TRUSTED_PROXY=f"127.0.0.1,{text}")

    assert error == f"GOFER_TRUSTED_PROXY: must be IP addresses or networks such as 172.17.0.0/16, not {text!r}"


def test_the_help_tells_of_every_setting() -> None:
    for name in set(Config.__slots__) - {"commands"}:
        assert f"GOFER_{name.upper()}" in config.table()
