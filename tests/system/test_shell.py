"""What a shell gets: real ``curl`` in a real ``sh`` against the real service, output and exit code."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.system.service import PATIENCE, Service

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")

#: What curl ends with when -f was given and the answer was an error.
REFUSED = 22

#: Submits a job, waits as long as it takes, prints the result.
RUN = """
job=$(curl -fsS -o /dev/null -w '%header{location}' "$G/jobs" --json @job.json) || exit
until code=$(curl -fsS -o result "$G$job/result?wait=0.1" -w '%{http_code}') || exit; [ "$code" = 200 ]; do :; done
cat result
"""

Shell = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def shell(service: Service, tmp_path: Path) -> Iterator[Shell]:
    """Starts scripts in the test's directory, in which ``$G`` is the service's address."""
    # Nothing of this machine's: neither a ~/.curlrc nor a proxy.
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "G": f"http://127.0.0.1:{service.port}",
    }
    started: list[subprocess.Popen[str]] = []

    def start(script: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["/bin/sh", "-c", script],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def write_job(directory: Path, type: str, payload: object, **options: object) -> None:  # noqa: A002
    """Write ``job.json`` for the scripts."""
    (directory / "job.json").write_text(json.dumps({"type": type, "payload": payload, **options}))


def write_failing_job(directory: Path) -> None:
    """Write a ``job.json`` that fails at once, and for good."""
    write_job(directory, "traced", {"trace": "/nowhere/at/all"}, max_attempts=1)


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a script that ends by itself."""
    out, err = process.communicate(timeout=2 * PATIENCE)
    return process.returncode, out, err


def test_one_line_submits_waits_and_prints_the_result(shell: Shell, tmp_path: Path) -> None:
    write_job(tmp_path, "sleep", 0.2)

    assert outcome(shell('curl -fsS "$G/jobs?wait=60&result=1" --json @job.json')) == (0, '{"slept":0.2}\n', "")


def test_it_does_with_a_curl_from_before_json(shell: Shell, tmp_path: Path) -> None:
    write_job(tmp_path, "echo", "text")
    line = """curl -fsS "$G/jobs?result=1" -H 'Prefer: wait=60' -H 'Content-Type: application/json' -d @job.json"""

    assert outcome(shell(line)) == (0, '"text"\n', "")


def test_a_failed_job_is_a_failed_command(shell: Shell, tmp_path: Path) -> None:
    write_failing_job(tmp_path)
    code, out, err = outcome(shell('curl -fsS "$G/jobs?wait=60&result=1" --json @job.json'))

    assert (code, out) == (REFUSED, "")
    assert "424" in err


def test_curl_can_be_asked_for_the_reason_too(shell: Shell, tmp_path: Path) -> None:
    write_failing_job(tmp_path)
    code, out, _ = outcome(shell('curl --fail-with-body -sS "$G/jobs?wait=60&result=1" --json @job.json'))

    assert code == REFUSED
    assert json.loads(out)["error"]["type"] == "FileNotFoundError"


def test_a_refused_submission_is_a_failed_command(shell: Shell, tmp_path: Path) -> None:
    write_job(tmp_path, "traced", {"trace": 1})
    code, out, err = outcome(shell('curl -fsS "$G/jobs?wait=60&result=1" --json @job.json'))

    assert (code, out) == (REFUSED, "")
    assert "422" in err


def test_a_job_that_is_cancelled_meanwhile_is_a_failed_command(shell: Shell, service: Service, tmp_path: Path) -> None:
    write_job(tmp_path, "sleep", 600)
    curl = shell('curl -fsS "$G/jobs?wait=60&result=1" --json @job.json')
    job_id = eventually(lambda: next((job["id"] for job in service.jobs()), None), PATIENCE)
    service.post(f"/jobs/{job_id}/cancel")
    code, out, err = outcome(curl)

    assert (code, out) == (REFUSED, "")
    assert "424" in err


def test_a_job_that_takes_longer_prints_nothing_yet(shell: Shell, tmp_path: Path) -> None:
    write_job(tmp_path, "sleep", 600)
    script = 'out=$(curl -fsS "$G/jobs?wait=0.1&result=1" --json @job.json) && echo "[$out]"'

    assert outcome(shell(script)) == (0, "[]\n", "")


def test_a_loop_waits_as_long_as_it_takes(shell: Shell, tmp_path: Path) -> None:
    write_job(tmp_path, "sleep", 1)

    assert outcome(shell(RUN)) == (0, '{"slept":1.0}\n', "")


def test_a_loop_ends_with_the_failure(shell: Shell, tmp_path: Path) -> None:
    write_failing_job(tmp_path)
    code, out, err = outcome(shell(RUN))

    assert (code, out) == (REFUSED, "")
    assert "424" in err


def test_an_unknown_id_is_a_failed_command(shell: Shell) -> None:
    code, out, err = outcome(shell('curl -fsS "$G/jobs/018f0000-0000-7000-8000-000000000000/result?wait=60"'))

    assert (code, out) == (REFUSED, "")
    assert "404" in err


def test_a_key_makes_a_line_safe_to_repeat(shell: Shell, tmp_path: Path) -> None:
    write_job(tmp_path, "traced", {"trace": "trace"})
    line = """curl -fsS "$G/jobs?wait=60&result=1" -H 'Idempotency-Key: 2026-11-24' --json @job.json"""
    first = outcome(shell(line))

    assert first[0] == 0
    assert outcome(shell(line)) == first
    assert len((tmp_path / "trace").read_text().splitlines()) == 1
