"""Who can reach the real process, and what it says about that."""

import http.client
import json
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.system.service import Service, run_to_end


def ask(service: Service, path: str, **headers: str) -> tuple[int, bytes]:
    """A GET with these headers, ``Host`` among them."""
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)) as connection:
        connection.putrequest("GET", path, skip_host=True)
        for name, value in {"Host": "localhost", **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read()


@pytest.mark.parametrize("arguments", [[], ["serve"], ["--check"]])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_where_others_are_it_does_not_start_without_a_key(tmp_path: Path, host: str, arguments: list[str]) -> None:
    done = run_to_end(tmp_path, *arguments, GOFER_HOST=host, GOFER_PORT=0)

    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"gofer: GOFER_HOST: others could reach {host}, and there is no key")
    assert list(tmp_path.iterdir()) == []


def test_letting_anybody_in_is_warned_of_at_every_start(start: Callable[..., Service]) -> None:
    for _ in range(2):
        service = start(GOFER_ALLOW_ANONYMOUS=1, GOFER_LOG_LEVEL="info")
        assert len(re.findall(r" WARNING +gofer: GOFER_ALLOW_ANONYMOUS: ", service.stderr)) == 1
        assert ask(service, "/stats", Host="jobs.example")[0] == 200
        assert ask(service, "/stats", Host="jobs.example", Origin="https://evil.example")[0] == 403
        service.stop()


def test_by_default_only_this_machine_is_served_and_there_is_nothing_to_warn_of(start: Callable[..., Service]) -> None:
    service = start()

    assert ask(service, "/stats")[0] == 200
    status, body = ask(service, "/stats", Host="evil.example")
    assert (status, json.loads(body)["type"]) == (421, "/problems/foreign_host")
    assert ask(service, "/stats", Sec_Fetch_Site="cross-site")[0] == 403
    assert "WARNING" not in service.stderr


def test_a_trusted_proxy_is_one_by_its_setting(start: Callable[..., Service]) -> None:
    said = {"X_Forwarded_Host": "gofer.localhost:81", "X_Forwarded_Proto": "https"}
    for setting, address in (
        ("", b"G=http://localhost\n"),
        ("10.0.0.1,127.0.0.0/8", b"G=https://gofer.localhost:81\n"),
    ):
        service = start(GOFER_TRUSTED_PROXY=setting)
        assert address in ask(service, "/help", **said)[1]
        service.stop()


def test_each_request_is_a_line_in_the_log_with_its_name(start: Callable[..., Service]) -> None:
    service = start(GOFER_LOG_FORMAT="json")
    ask(service, "/stats?secret=1", X_Request_Id="mine")
    service.wait_for_log('"mine"')

    (line,) = [entry for entry in map(json.loads, service.stderr.splitlines()) if entry.get("id") == "mine"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/stats", 400)
    assert "secret" not in service.stderr
