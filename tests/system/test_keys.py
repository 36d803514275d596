"""Keys from end to end: made on the command line, put into the file, used, revoked."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.system.service import PATIENCE, ROOT, Service, environment, run_to_end


def make(directory: Path, *arguments: str) -> tuple[str, str]:
    """A new key and its line."""
    done = run_to_end(directory, "keys", "new", *arguments)
    assert done.returncode == 0, done
    key, line = done.stdout.splitlines()
    return key, line


def authorization(key: str) -> dict[str, str]:
    """The header with a key."""
    return {"Authorization": f"Bearer {key}"}


def test_a_key_is_made_used_and_revoked(launch: Callable[..., Service], tmp_path: Path) -> None:
    ci, ci_line = make(tmp_path, "--name", "ci", "--scopes", "submit,read", "--expires", "2999-01-01")
    ops, ops_line = make(tmp_path, "--name", "ops", "--scopes", "manage")
    file = tmp_path / "keys.toml"
    file.write_text(f"{ci_line}\n{ops_line}\n")
    service = launch(GOFER_KEYS_FILE=file)
    service.wait_until_serving()

    assert service.get("/jobs").status == 401
    eventually(lambda: service.get("/ready").status == 200, PATIENCE)
    job = service.request("POST", "/jobs?wait=10", {"type": "echo"}, authorization(ci)).json
    assert (job["status"], job["submitted_by"]) == ("completed", "ci")
    assert service.request("POST", "/queues/default/pause", None, authorization(ci)).status == 403
    assert service.request("POST", "/queues/default/pause", None, authorization(ops)).status == 200

    file.write_text(f"{ops_line}\n")
    eventually(lambda: service.request("GET", "/jobs", None, authorization(ci)).status == 401, PATIENCE)
    assert service.stop() == 0
    assert not any(key in service.stderr for key in (ci, ops, ci[6:], ops[6:]))


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_page_with_help_shows_how_curl_carries_the_key(start: Callable[..., Service]) -> None:
    key = "the-key-of-the-operator"
    service = start(GOFER_API_KEY=key)
    page = service.request("GET", "/help", None, authorization(key)).body.decode()
    # The address, the function that is to carry the key, and the first line that uses both.
    script = [line for line in page.splitlines() if line.startswith("  ")][:3]

    lines = ["set -e", f"KEY={key}", *script]
    run = subprocess.run(["sh", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert run.stdout == '{"hello":"world"}\n'
    assert key not in page


def test_the_submitter_is_stored(start: Callable[..., Service], launch: Callable[..., Service]) -> None:
    key = "the-key-of-the-operator"
    service = start(GOFER_API_KEY=key)
    job = service.request("POST", "/jobs?wait=10", {"type": "echo"}, authorization(key)).json["id"]
    service.stop()

    assert start().job(job)["submitted_by"] == "default"


def test_a_stranger_who_asks_first_is_not_asked_for_the_body(start: Callable[..., Service]) -> None:
    service = start(GOFER_API_KEY="the-key-of-the-operator")
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as client:
        client.sendall(b"POST /jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 401"


def test_a_handler_does_not_find_the_key_in_its_environment(start: Callable[..., Service], tmp_path: Path) -> None:
    (tmp_path / "curious.py").write_text(
        "import os\nfrom worker import handler\n\n"
        '@handler("curious")\ndef curious(ctx, payload):\n    return dict(os.environ)\n'
    )
    key = "the-key-of-the-operator"
    service = start(GOFER_API_KEY=key, GOFER_HANDLERS="curious.py")
    job = service.request("POST", "/jobs?wait=10", {"type": "curious"}, authorization(key)).json

    assert job["status"] == "completed"
    assert "GOFER_STORE" in job["result"]
    assert key not in json.dumps(job)


def test_what_is_made_has_a_line_that_says_what_was_asked_for(tmp_path: Path) -> None:
    key, line = make(
        tmp_path, "--name", "ci", "--scopes", "submit:echo, read", "--expires", "2999-01-01T01:00:00+02:00"
    )

    assert re.fullmatch(r"gofer_[0-9A-Za-z]{49}", key)
    assert re.fullmatch(
        r'ci = \{ hash = "sha256:[0-9a-f]{64}", scopes = \["read", "submit:echo"\],'
        r" expires = 2998-12-31T23:00:00Z \}",
        line,
    )
    assert list(tmp_path.iterdir()) == []


def test_the_first_line_alone_can_be_taken(tmp_path: Path) -> None:
    """Whether Python buffers its output or not, as in a container."""
    for unbuffered in ("", "1"):
        done = subprocess.run(
            [f'KEY=$({sys.executable} {ROOT}/run.py keys new --name ci --scopes read | head -1); echo "$KEY"'],
            shell=True,
            cwd=tmp_path,
            env=environment({}) | {"PYTHONUNBUFFERED": unbuffered},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        assert re.fullmatch(r"gofer_[0-9A-Za-z]{49}\n", done.stdout)
        assert done.stderr == (
            "the key, shown only this once, and below it the line for the keys file (GOFER_KEYS_FILE):\n"
        )


def test_making_a_key_needs_no_settings_that_are_right(tmp_path: Path) -> None:
    done = run_to_end(tmp_path, "keys", "new", "--name", "ci", "--scopes", "read", GOFER_PORT="x", GOFER_KEYS_FILE="no")

    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scopes", "read"], "the following arguments are required: --name"),
        (["--name", "a b", "--scopes", "read"], "argument --name: a name is 1 to 64 letters, digits, _ and -"),
        (["--name", "default", "--scopes", "read"], "argument --name: this is the name of the key in GOFER_API_KEY"),
        (["--name", "ci", "--scopes", "all"], "argument --scopes: 'all' is no scope; there are read, submit, manage"),
        (["--name", "ci", "--scopes", ","], "argument --scopes: at least one scope is needed"),
        (["--name", "ci", "--scopes", "read", "--expires", "soon"], "argument --expires: must be like 2027-01-01"),
        (["--name", "ci", "--scopes", "read", "--expires", "2027-01-01T00:00:00"], "argument --expires: must be like"),
        (["--name", "ci", "--scopes", "read", "--expires", "2020-01-01"], "--expires: lies in the past"),
        (["--name", "ci", "--scopes", "read", "--days", "3"], "unrecognized arguments: --days 3"),
        (["--name"], "argument --name: expected one argument"),
    ],
)
def test_arguments_that_make_no_sense_are_told_in_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run_to_end(tmp_path, "keys", "new", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"GOFER_API_KEY": "short-key"}, "GOFER_API_KEY: must be 20 to 500 printable ASCII characters"),
        ({"GOFER_API_KEY": "gofer_" + "0" * 49}, "GOFER_API_KEY: begins with gofer_ but was mistyped or cut off"),
        ({"GOFER_KEYS_FILE": "nowhere.toml"}, "GOFER_KEYS_FILE: cannot read 'nowhere.toml': No such file or directory"),
        ({"GOFER_KEYS_FILE": "empty.toml"}, "/empty.toml: holds no key; make one with: gofer keys new"),
    ],
)
@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_a_start_with_keys_that_will_not_do_is_refused(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], said: str
) -> None:
    (tmp_path / "empty.toml").write_text("# none yet\n")
    done = run_to_end(tmp_path, *arguments, GOFER_PORT="0", GOFER_STORE="memory:", **settings)

    assert done.returncode == 2, done
    (line,) = done.stderr.splitlines()
    assert said in line
    assert settings.get("GOFER_API_KEY", "-" * 9) not in line


def test_the_key_is_not_in_the_help(tmp_path: Path) -> None:
    key = "the-key-of-the-operator"
    done = run_to_end(tmp_path, "--help", GOFER_API_KEY=key)

    assert "GOFER_API_KEY" in done.stdout
    assert key not in done.stdout
