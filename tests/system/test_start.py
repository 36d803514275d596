"""What a wrong start says: one clear line on standard error, exit code 2, and nothing touched."""

import json
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.service import Service, run_to_end


def _refusal(directory: Path, **settings: object) -> str:
    """The one line with which a start is refused."""
    # Any free port, unless the port is what is wrong: 8080 may be taken where the tests run.
    done = run_to_end(directory, **{"GOFER_PORT": 0, **settings})
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GOFER_PORT", "80a", "GOFER_PORT"),
        ("GOFER_PORT", "65536", "GOFER_PORT"),
        ("GOFER_WORKERS", "0", "GOFER_WORKERS"),
        ("GOFER_WORKERS", "-1", "GOFER_WORKERS"),
        ("GOFER_QUEUES", "reports", "GOFER_QUEUES"),
        ("GOFER_QUEUES", "reports=1,reports=2", "reports"),
        ("GOFER_SHUTDOWN_TIMEOUT", "soon", "GOFER_SHUTDOWN_TIMEOUT"),
        ("GOFER_SHUTDOWN_TIMEOUT", "nan", "GOFER_SHUTDOWN_TIMEOUT"),
        ("GOFER_RETENTION", "7 fortnights", "GOFER_RETENTION"),
        ("GOFER_LOG_LEVEL", "LOUD", "GOFER_LOG_LEVEL"),
        ("GOFER_STORE", "mongodb://here", "mongodb://here"),
        ("GOFER_WORKER", "4", "GOFER_WORKERS"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(tmp_path: Path, name: str, value: str, said: str) -> None:
    assert said in _refusal(tmp_path, **{name: value})


def test_all_wrong_settings_are_told_together(tmp_path: Path) -> None:
    done = run_to_end(tmp_path, GOFER_PORT="x", GOFER_WORKERS="y")

    assert done.returncode == 2
    assert "GOFER_PORT" in done.stderr
    assert "GOFER_WORKERS" in done.stderr


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        assert str(port) in _refusal(tmp_path, GOFER_PORT=port)


@pytest.mark.parametrize(
    ("source", "said"),
    [("import no_such_module_at_all", "no_such_module_at_all"), ("1/0", "ZeroDivisionError"), ("def", "SyntaxError")],
)
def test_a_handler_file_that_does_not_import_is_named(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "broken.py").write_text(source)

    line = _refusal(tmp_path, GOFER_HANDLERS="broken.py")

    assert "broken" in line
    assert said in line


def test_a_handler_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere.handlers" in _refusal(tmp_path, GOFER_HANDLERS="nowhere.handlers")


def test_a_store_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").mkdir()

    assert "jobs.db" in _refusal(tmp_path, GOFER_STORE="sqlite:jobs.db")


def test_a_store_in_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "missing" in _refusal(tmp_path, GOFER_STORE="sqlite:missing/jobs.db")


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.write_text("Dear diary, " * 1000)

    line = _refusal(tmp_path, GOFER_STORE="sqlite:jobs.db")

    assert "jobs.db" in line
    assert path.read_text() == "Dear diary, " * 1000


def test_the_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE jobs (somebody, elses)")
    connection.close()
    before = path.read_bytes()

    assert "jobs.db" in _refusal(tmp_path, GOFER_STORE="sqlite:jobs.db")
    assert path.read_bytes() == before


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(start: Callable[..., Service], tmp_path: Path) -> None:
    service = start()
    job = service.submit("echo", "old")["id"]
    service.wait_for_end(job)
    service.stop()
    path = tmp_path / "gofer.db"
    version = _set_version(path, 1000)
    before = path.read_bytes()

    line = _refusal(tmp_path, GOFER_STORE="sqlite:gofer.db")

    assert "1000" in line
    assert path.read_bytes() == before
    _set_version(path, version)
    assert start().job(job)["status"] == "completed"


def _set_version(path: Path, version: int) -> int:
    """Write another schema version into a database that nobody has open; return the one that it had."""
    connection = sqlite3.connect(path)
    (before,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    return int(before)


def test_a_second_process_on_the_same_store_is_refused_and_the_first_goes_on(service: Service) -> None:
    line = _refusal(service.directory, GOFER_STORE="sqlite:gofer.db", GOFER_PORT=0)

    assert "gofer.db" in line
    assert service.wait_for_end(service.submit("echo")["id"])["status"] == "completed"


def test_a_store_is_free_again_after_a_kill(start: Callable[..., Service]) -> None:
    start().kill()

    assert start().get("/ready").status == 200


def test_help_names_every_setting(tmp_path: Path) -> None:
    done = run_to_end(tmp_path, "--help")

    assert done.returncode == 0
    names = (
        "HOST PORT STORE WORKERS QUEUES THREADS HANDLERS SHUTDOWN_TIMEOUT MAX_BACKLOG RETENTION LOG_LEVEL LOG_FORMAT"
    )
    assert [name for name in names.split() if f"GOFER_{name}" not in done.stdout] == []


def test_a_check_of_good_settings_ends_with_0_and_creates_nothing(tmp_path: Path) -> None:
    done = run_to_end(tmp_path, "--check", GOFER_QUEUES="mail=2")

    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("GOFER_HANDLERS", "no_such_module"), ("GOFER_STORE", "mongodb://here"), ("GOFER_WORKERS", "many")],
)
def test_a_check_of_wrong_settings_ends_with_2(tmp_path: Path, name: str, value: str) -> None:
    done = run_to_end(tmp_path, "--check", **{name: value})

    assert done.returncode == 2
    assert value in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_settings_may_stand_in_a_file_and_the_environment_wins(start: Callable[..., Service], tmp_path: Path) -> None:
    (tmp_path / "gofer.toml").write_text('GOFER_QUEUES = "mail=2"\nGOFER_WORKERS = 7\n')

    service = start(GOFER_CONFIG="gofer.toml", GOFER_WORKERS=3)

    queues = {queue["name"]: queue["workers"] for queue in service.get("/queues").json["queues"]}
    assert queues == {"default": 3, "mail": 2}


def test_json_logs_are_one_object_a_line(start: Callable[..., Service]) -> None:
    service = start(GOFER_LOG_FORMAT="json")

    service.stop()

    assert all(isinstance(json.loads(line), dict) for line in service.stderr.splitlines())
