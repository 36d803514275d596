"""``http`` jobs of a real service: its settings reach them, and its stop ends them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.version import VERSION
from store.job import JobStatus
from tests.system.service import Service
from tests.worker.outgoing.raw_server import RawServer, Received, answer

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def target() -> Iterator[RawServer]:
    """Answers with a page of 100 bytes, and to ``/hang`` with nothing."""

    def script(request: Received) -> object:
        return server.hang() if request.target == "/hang" else answer(b"x" * 100)

    server = RawServer(script)  # type: ignore[arg-type]
    with server:
        yield server


def test_a_job_calls_what_the_settings_allow(start: Callable[..., Service], target: RawServer) -> None:
    service = start(GOFER_HTTP_ALLOW="127.0.0.1", GOFER_HTTP_MAX_BODY=10)
    submission = {"type": "http", "payload": {"url": target.url, "method": "POST", "body": [1]}}
    job = service.wait_for_end(service.post("/jobs", submission, traceparent=TRACEPARENT).json["id"])

    assert (job["status"], job["result"]["body"], job["result"]["truncated"]) == ("completed", "x" * 10, True)
    bare = service.get(f"/jobs/{job['id']}/result")
    assert (bare.body, bare.headers["Gofer-Truncated"]) == (b"x" * 10, "true")
    headers = target.requests[0].headers
    assert headers["user-agent"] == f"gofer/{VERSION}"
    assert headers["idempotency-key"] == headers["gofer-job-id"] == job["id"]
    assert headers["traceparent"] == TRACEPARENT


def test_a_service_calls_nothing_private_by_default_not_even_itself(service: Service, target: RawServer) -> None:
    refused = service.post("/jobs", {"type": "http", "payload": {"url": f"http://127.1:{service.port}/stats"}})
    assert refused.status == 422
    assert refused.json["errors"][0]["path"] == "payload.url"

    job = service.wait_for_end(service.submit("http", {"url": f"http://localhost:{target.port}/"})["id"])
    assert (job["status"], job["attempt"], job["error"]["type"]) == ("failed", 1, "Fail")
    assert "GOFER_HTTP_ALLOW" in job["error"]["message"]
    assert target.connections == 0


def test_a_proxy_of_the_environment_is_used_only_as_a_setting(
    start: Callable[..., Service], target: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer(lambda request: answer(b"by proxy")) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        service = start(GOFER_HTTP_ALLOW="127.0.0.1")
        job = service.wait_for_end(service.submit("http", {"url": target.url})["id"])
        assert job["result"]["body"] == "x" * 100
        assert service.stop() == 0

        service = start(GOFER_HTTP_PROXY=proxy.url)
        job = service.wait_for_end(service.submit("http", {"url": "http://some.example/"})["id"])
        assert job["result"]["body"] == "by proxy"


def test_a_handler_does_not_find_the_proxys_password_in_its_environment(
    start: Callable[..., Service], tmp_path: Path
) -> None:
    (tmp_path / "curious.py").write_text(
        "import os\nfrom worker import handler\n\n"
        '@handler("curious")\ndef curious(ctx, payload):\n    return dict(os.environ)\n'
    )
    service = start(GOFER_HTTP_PROXY="http://me:s3cret@127.0.0.1:9", GOFER_HANDLERS="curious.py")
    job = service.wait_for_end(service.submit("curious")["id"])

    assert "GOFER_STORE" in job["result"]
    assert "s3cret" not in json.dumps(job)


def test_a_stop_gives_back_the_job_of_a_call_that_hangs(start: Callable[..., Service], target: RawServer) -> None:
    settings = {"GOFER_HTTP_ALLOW": "127.0.0.1", "GOFER_SHUTDOWN_TIMEOUT": "0.1"}
    service = start(**settings)
    job_id = service.submit("http", {"url": target.url + "/hang"})["id"]
    assert target.asked.acquire(timeout=10)
    assert service.stop() == 0

    restarted = start(**settings)
    assert target.asked.acquire(timeout=10)
    job = restarted.job(job_id)
    assert (job["status"], job["attempt"], job["interruptions"]) == (JobStatus.PROCESSING, 2, 1)
