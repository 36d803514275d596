"""Every line of ``GET /help`` does what it says when it is pasted into a shell."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.service import ROOT, Service

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")

#: Before the lines of the page: an error of HTTP ends the script, and the trace tells at which line.
_PRELUDE = 'set -ex\ncurl() { command curl --fail "$@"; }\n'


_COMMANDS = """
[commands.greet]
argv = ["/bin/echo", "hello {name}"]
params.name = { pattern = "[a-z' ]+", default = "o'brien" }

[commands.shout]
description = "Say it in capitals."
argv = ["/usr/bin/tr", "a-z", "A-Z"]
stdin = "payload"

[commands.thumbnail]
argv = ["/bin/echo", "{input}", "{size}"]
[commands.thumbnail.params]
input = { pattern = '[a-z]+[.]png' }
size = { pattern = '[0-9]+x[0-9]+', default = "200x200" }
"""


@pytest.fixture
def service(start: Callable[..., Service], tmp_path: Path) -> Service:
    """One with jobs of every kind."""
    (tmp_path / "gofer.toml").write_text(_COMMANDS)
    return start(
        GOFER_HANDLERS=ROOT / "examples" / "csv_report.py",
        GOFER_CONFIG=tmp_path / "gofer.toml",
        # Where nobody listens: the example of an http job is not to leave the machine.
        GOFER_HTTP_PROXY="http://127.0.0.1:9",
    )


def pasted(page: str) -> str:
    """What the page has to be pasted: its indented lines."""
    return "\n".join(line for line in page.splitlines() if line.startswith("  "))


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_every_line_works_as_it_stands(service: Service, tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    script = pasted(service.get("/help").body.decode())

    run = subprocess.run(
        [shell, "-c", _PRELUDE + script],
        cwd=tmp_path,
        # Nothing of this machine's: neither a ~/.curlrc nor a proxy.
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert run.returncode == 0, f"{run.stderr}\n{run.stdout}"
    assert f"G=http://127.0.0.1:{service.port}\n" in script
    assert run.stdout.startswith('{"hello":"world"}')
    # Every type was among them, but for the one that needs a value that only a user knows.
    assert "\n  # curl " in script
    assert {job["type"] for job in service.jobs()} == types(script) - {"thumbnail"}


def types(script: str) -> set[str]:
    """The types of job that a script submits, or would."""
    return set(re.findall(r'\{"type": "(\w+)"', script))


def test_what_a_command_was_meant_to_be_given_is_shown_and_accepted(service: Service) -> None:
    refusal = service.post("/jobs", {"type": "Thumbnial", "payload": {"Input": "a.png"}, "maxAttempts": "1"})

    assert refusal.status == 422
    fix = refusal.json["fix"]
    assert fix == {"type": "thumbnail", "payload": {"input": "a.png"}, "max_attempts": 1}
    job = service.wait_for_end(service.post("/jobs", fix).json["id"])
    assert job["result"] == "a.png 200x200\n"


def test_what_an_http_call_was_meant_to_be_is_shown_and_accepted(service: Service) -> None:
    call = {"Url": "https://example.com/", "method": "get", "expect": 200, "timeout": "5", "body": None}
    refusal = service.post("/jobs", {"type": "htp", "payload": call})

    fix = refusal.json["fix"]
    assert fix["payload"] == {
        "url": "https://example.com/",
        "method": "GET",
        "expect": [200],
        "timeout": 5,
        "body": None,
    }
    assert service.post("/jobs", fix).status == 201
