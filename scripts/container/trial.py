"""What is tried with the image: the README's commands, and what they promise."""

import json
import os
import sqlite3
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from scripts.container.service import URL, Service
from scripts.container.steps import check, eventually, exit_code, readme, run, session

#: Seconds that a job takes which outlives GOFER_SHUTDOWN_TIMEOUT, 10 s.
_LONG = 14
#: Locked away as the README's containers are, and without the /tmp that podman would add by itself.
_LOCKED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
_SHARED = "GREETING = 'hello '\n"
_HANDLER = """
from _shared import GREETING
from worker import handler


@handler("greet", isolation="process")
def greet(ctx, payload: str):
    return GREETING + payload
"""


def run_all() -> None:
    """Try everything. Raises Failure, or SubprocessError, at the first thing that is not as it should be."""
    run("ip", "link", "set", "lo", "up")
    tries = {
        "without a key": _try_without_key,
        "the README's session": _try_readme,
        "the time it takes": _measure_start,
        "compose": _try_compose,
        "another user": _try_other_user,
        "mounted handlers": _try_handlers,
        "an image of one's own": _try_derived_image,
    }
    for name, attempt in tries.items():
        print(name)
        attempt()


def _try_without_key() -> None:
    code, output = exit_code("docker", "run", "--rm", "gofer")
    said = output.splitlines()[-1]
    check(code == 2 and "keys new" in said, f"it does not start, and says why: {said}")


def _try_readme() -> None:
    """The session, and what the README promises about signals, crashes and what is locked away."""
    job, key = session(readme("docker-run") + '\necho "$GOFER_API_KEY"').splitlines()[-2:]
    check(json.loads(job)["status"] == "completed", "the job was run")
    service = Service("gofer", key)
    _check_process(service)
    _check_calls(service)
    _check_stop(service)
    _check_crash(service)
    session(readme("docker-end"))
    check("gofer-data" in run("docker", "volume", "ls"), "the volume is still there")


def _check_process(service: Service) -> None:
    """How the processes are held, by what the kernel says about them: the first one, and the one that serves."""
    first = int(service.state("Pid"))
    (serving,) = _children(first)
    statuses = [_status(first), _status(serving)]
    check(statuses[0]["NSpid"][-1] == "1", "process 1 is the program's own small one, and its child serves")
    check(_runs_gofer(first) and _runs_gofer(serving), "a list of processes shows both as the program")
    held = [status["Uid"] == status["Gid"] == ["10001"] * 4 for status in statuses]
    check(all(held), "the user and group of both are 10001")
    capabilities = {tuple(status[f"Cap{name}"]) for status in statuses for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")}
    can_get = {tuple(status["NoNewPrivs"]) for status in statuses}
    check(capabilities == {("0" * 16,)} and can_get == {("1",)}, "they have no capability and can get none")
    check("Read-only" in service.execute("touch", "/new")[1], "the root file system is read-only")
    print("  memory: {:.0f} MB, and {:.0f} MB of the one that serves".format(*map(_megabytes, statuses)))


def _children(pid: int) -> list[int]:
    # Not every kernel has a list of them.
    return [int(child) for child in run("pgrep", "--parent", str(pid)).split()]


def _status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def _runs_gofer(pid: int) -> bool:
    return b"/opt/gofer/bin/gofer" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def _megabytes(status: dict[str, list[str]]) -> float:
    return int(status["VmRSS"][0]) / 1000


def _check_calls(service: Service) -> None:
    check(service.call("GET", "/jobs", key="gofer_wrong")[0] == 401, "a wrong key is refused")
    check(exit_code("curl", "-fsS", f"{URL}/ready")[0] == 0, "/ready needs no key")
    check(exit_code("docker", "healthcheck", "run", service.name)[0] == 0, "the image's health check finds it alive")
    code, output = service.execute("sh", "-c", "GOFER_PORT=1 gofer health")
    check(code == 1, f"where nobody listens it says so: {output.splitlines()[0]}")


def _check_stop(service: Service) -> None:
    """SIGTERM in the middle of a job."""
    job_id = service.start_job(_LONG)
    stop, start = readme("docker-stop").splitlines()
    began = time.monotonic()
    session(stop)
    took = time.monotonic() - began
    check(service.state("ExitCode") == "0" and took < 25, f"exit code 0 after {took:.1f} s")
    check(_stored(job_id) == ("pending", 1, 1), "in the volume the job is pending again, at no cost")
    session(start)
    service.wait_until_ready()
    job = service.wait_for_end(job_id)
    check((job["status"], job["attempt"]) == ("completed", 2), "the next start finishes it")


def _stored(job_id: str) -> tuple[object, ...]:
    """Status, attempt and interruptions of a job, in the file that nobody has open."""
    directory = run("docker", "volume", "inspect", "gofer-data", "--format", "{{.Mountpoint}}")
    with closing(sqlite3.connect(f"file:{directory}/gofer.db?mode=ro", uri=True)) as database:
        found = database.execute("SELECT status, attempt, interruptions FROM jobs WHERE id = ?", [job_id])
        row: tuple[object, ...] = found.fetchone()
        return row


def _check_crash(service: Service) -> None:
    job_id = service.start_job(3)
    run("docker", "kill", "--signal", "KILL", service.name)
    eventually(lambda: service.state("Running") == "false", "the container is dead")
    run("docker", "start", service.name)
    service.wait_until_ready()
    job = service.wait_for_end(job_id)
    check((job["status"], job["attempt"]) == ("completed", 2), "killed and started again, it finishes its job")


def _measure_start() -> None:
    service = Service("timed", _new_key())
    whole, own = [], []
    for _ in range(5):
        began = time.monotonic()
        _start(service)
        service.wait_until_ready()
        whole.append(time.monotonic() - began)
        own.append(_seconds_to_serve(service))
        _remove(service)
    print(f"  from docker run to ready {median(whole):.2f} s, of which the program {median(own):.2f} s (medians of 5)")


def _seconds_to_serve(service: Service) -> float:
    """From the start of the process, as the engine saw it, to its own line that it serves."""
    started = datetime.fromtimestamp(int(service.state("StartedAt.UnixMicro")) / 1e6, UTC)
    (line,) = (line for line in exit_code("docker", "logs", service.name)[1].splitlines() if "serving on" in line)
    return (datetime.fromisoformat(line.split()[0]) - started).total_seconds()


def _start(service: Service, *options: str, image: str = "gofer") -> None:
    os.environ["GOFER_API_KEY"] = service.key
    own = ("--name", service.name, "--publish", "8080:8080", "--env", "GOFER_API_KEY")
    run("docker", "run", "--detach", *own, *_LOCKED, *options, image)


def _remove(service: Service) -> None:
    run("docker", "rm", "--force", "--volumes", service.name)


def _new_key() -> str:
    options = ("--name", "try", "--scopes", "read,submit,manage")
    return run("docker", "run", "--rm", "gofer", "keys", "new", *options).split()[0]


def _try_compose() -> None:
    os.environ["GOFER_API_KEY"] = _new_key()
    session(readme("docker-compose"))
    service = Service(run("docker", "ps", "--format", "{{.Names}}"), os.environ["GOFER_API_KEY"])
    service.wait_until_ready()
    _check_process(service)
    check(service.wait_for_end(service.submit("echo", 1))["status"] == "completed", "a job is run")
    run("docker", "compose", "down", "--volumes")


def _try_other_user() -> None:
    """Any user, a new volume, and no place to write but that: what does not fit into memory goes there, too."""
    service = Service("other", _new_key())
    _start(service, "--user", "4321:4321")
    service.wait_until_ready()
    large = "x" * 900_000
    job = service.wait_for_end(service.submit("echo", large))
    check(job["result"] == large, "900 kB are taken and given back where nothing but /data can be written")
    check(service.execute("id", "-u") == (0, "4321"), "its user is 4321")
    _remove(service)


def _try_handlers() -> None:
    """A directory of handlers, with a file that they share."""
    service = Service("handlers", _new_key())
    with tempfile.TemporaryDirectory() as name:
        handlers = Path(name)
        handlers.chmod(0o755)
        (handlers / "_shared.py").write_text(_SHARED)
        (handlers / "greet.py").write_text(_HANDLER)
        _start(service, "--volume", f"{handlers}:/handlers:ro")
        service.wait_until_ready()
        job = service.wait_for_end(service.submit("greet", "world"))
        check(job["result"] == "hello world", "a handler is run, in a process of its own")
        _remove(service)


def _try_derived_image() -> None:
    service = Service("derived", _new_key())
    _start(service, image="gofer-derived")
    service.wait_until_ready()
    check(service.execute("python", "-c", "import PIL")[0] == 0, "it has the library")
    _remove(service)
