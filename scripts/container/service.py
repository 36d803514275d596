"""A container that serves."""

import json
import urllib.error
import urllib.request
from contextlib import closing
from typing import Any

from scripts.container.steps import PATIENCE, Failure, eventually, exit_code, run

#: Where a container is published.
URL = "http://127.0.0.1:8080"


class Service:
    """A container that is published on URL."""

    def __init__(self, name: str, key: str) -> None:
        self.name = name
        self.key = key

    def call(self, method: str, path: str, body: object = None, *, key: str | None = None) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key or self.key}"}
        request = urllib.request.Request(URL + path, data, headers, method=method)
        try:
            with closing(urllib.request.urlopen(request, timeout=PATIENCE)) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            with closing(error):
                return error.code, json.loads(error.read() or b"null")

    def submit(self, job_type: str, payload: object) -> str:
        """Submit a job that must be accepted; return its id."""
        status, job = self.call("POST", "/jobs", {"type": job_type, "payload": payload})
        if status != 201:
            raise Failure(f"{job_type} is refused: {status} {job}")
        return str(job["id"])

    def job(self, job_id: str) -> Any:
        """The job as it is now."""
        return self.call("GET", f"/jobs/{job_id}")[1]

    def wait_until_ready(self) -> None:
        """Until it says so."""
        eventually(self._is_ready, f"{self.name} is ready")

    def _is_ready(self) -> bool:
        try:
            return self.call("GET", "/ready")[0] == 200
        except (OSError, ValueError):
            return False

    def wait_for_end(self, job_id: str) -> Any:
        """The job, once it is final."""
        eventually(lambda: self.job(job_id)["status"] not in ("pending", "processing"), "the job ends")
        return self.job(job_id)

    def start_job(self, seconds: float) -> str:
        """Submit a job that takes so long, and wait until it runs."""
        job_id = self.submit("sleep", {"seconds": seconds})
        eventually(lambda: self.job(job_id)["status"] == "processing", "the job runs")
        return job_id

    def state(self, key: str) -> str:
        """What the engine says about the container."""
        return run("docker", "inspect", "--format", f"{{{{.State.{key}}}}}", self.name)

    def execute(self, *command: str) -> tuple[int, str]:
        """Run a command in the container."""
        return exit_code("docker", "exec", self.name, *command)
