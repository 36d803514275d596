"""Starting the processes that are measured, talking to them, and ending them again."""

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

#: Seconds that a process may take to serve, or to end.
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running process that answers HTTP on a port of the loopback."""

    process: subprocess.Popen[bytes]
    port: int

    def call(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
        """Send one request on a connection of its own; return the answer's JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        with contextlib.closing(connection):
            return exchange(connection, method, path, body, headers)

    def resident_mb(self) -> float:
        """The process's resident memory in MB (10^6 bytes)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024 / 1e6


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Send one request on an open connection; return the answer's JSON. Raises RuntimeError past 299."""
    data = None if body is None else json.dumps(body).encode()
    connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
    response = connection.getresponse()
    content = response.read()
    if response.status >= 300:
        raise RuntimeError(f"{method} {path}: {response.status} {content[:500]!r}")
    return json.loads(content)


@contextlib.contextmanager
def gofer(directory: Path, **settings: object) -> Iterator[Server]:
    """Gofer with its SQLite store in ``directory``; ``settings`` are ``GOFER_…`` variables."""
    port = _free_port()
    own = {"GOFER_PORT": port, "GOFER_STORE": "sqlite:gofer.db", "GOFER_LOG_LEVEL": "WARNING", **settings}
    with _serving([sys.executable, str(ROOT / "run.py")], directory, own, port) as server:
        yield server


@contextlib.contextmanager
def echo(directory: Path) -> Iterator[Server]:
    """The bare Flask service."""
    port = _free_port()
    with _serving([sys.executable, "-m", "benchmarks.echo_server", str(port)], directory, {}, port) as server:
        yield server


@contextlib.contextmanager
def _serving(command: list[str], directory: Path, settings: Mapping[str, object], port: int) -> Iterator[Server]:
    # A session of its own: Ctrl-C reaches only us, and we end what we started.
    process = subprocess.Popen(command, cwd=directory, env=environment(settings), start_new_session=True)
    try:
        server = Server(process, port)
        _wait_until_ready(server)
        yield server
    finally:
        _end(process)


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment with nothing of Gofer's in it but ``settings``."""
    inherited = {key: value for key, value in os.environ.items() if key != "PORT" and not key.startswith("GOFER_")}
    return {**inherited, "PYTHONPATH": str(ROOT), **{key: str(value) for key, value in settings.items()}}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            server.call("GET", "/ready")
        except (OSError, RuntimeError) as error:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start: {error}") from error
            time.sleep(0.02)
        else:
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
