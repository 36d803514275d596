"""The calls about queues and the service itself."""

import pytest

from app.errors import KINDS
from app.version import VERSION
from tests.app.conftest import Service
from tests.eventually import eventually

FUTURE = "2099-01-01T00:00:00Z"


def test_the_index_leads_to_everything(shared: Service) -> None:
    index = shared.get("/").json

    assert (index["service"], index["version"]) == ("gofer", VERSION)
    assert {shared.get(link).status for link in index["links"].values()} == {200}


def test_the_service_is_alive_and_ready(shared: Service) -> None:
    assert shared.get("/health").json == {"status": "ok"}
    assert eventually(lambda: shared.get("/ready").status == 200)
    assert shared.get("/ready").json == {"status": "ready"}


def test_stats_count_jobs_by_status_first(service: Service) -> None:
    service.finished(service.submit())
    service.submit(run_at=FUTURE)
    stats = service.get("/stats").json

    assert list(stats)[:5] == ["pending", "processing", "completed", "failed", "cancelled"]
    assert (stats["pending"], stats["completed"], stats["workers"]) == (1, 1, 3)


def test_queues_are_listed_with_their_keys_in_order(shared: Service) -> None:
    queues = shared.get("/queues").json["queues"]

    assert [queue["name"] for queue in queues] == ["default", "slow"]
    assert list(queues[0]) == ["name", "paused", "pending", "processing", "workers", "oldest_wait"]
    assert shared.get("/queues/slow").json == queues[1]


def test_a_paused_queue_keeps_its_jobs_until_it_is_resumed(service: Service) -> None:
    paused = service.post("/queues/slow/pause")
    job_id = service.submit(queue="slow")

    assert (paused.status, paused.json["paused"]) == (200, True)
    assert service.finished(service.submit())["status"] == "completed"
    assert service.get(f"/jobs/{job_id}").json["status"] == "pending"
    assert service.get("/queues/slow").json["pending"] == 1

    assert service.post("/queues/slow/resume").json["paused"] is False
    assert service.finished(job_id)["status"] == "completed"


@pytest.mark.parametrize(("method", "more"), [("GET", ""), ("POST", "/pause"), ("POST", "/resume")])
def test_an_unknown_queue_is_not_found(shared: Service, method: str, more: str) -> None:
    reply = shared.call(method, f"/queues/no%20such{more}")

    assert (reply.status, reply.json["type"]) == (404, "/problems/unknown_queue")
    assert "default, slow" in reply.json["detail"]


def test_every_problem_has_its_page(shared: Service) -> None:
    for kind in shared.get("/problems").json["problems"]:
        assert shared.get(kind["type"]).json == kind
    assert len(shared.get("/problems").json["problems"]) == len(KINDS)


def test_an_unknown_problem_is_not_found(shared: Service) -> None:
    assert shared.get("/problems/bad_weather").json["type"] == "/problems/not_found"


@pytest.mark.parametrize("path", ["/nowhere", "/jobs/", "/jobs//x", "/health/", "/%00", "/%ff", "/queues/a/b/c"])
def test_an_unknown_path_is_not_found(shared: Service, path: str) -> None:
    reply = shared.get(path)

    assert (reply.status, reply.json["type"]) == (404, "/problems/not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/jobs", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", "/jobs", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/health", "GET, HEAD, OPTIONS"),
        ("GET", "/queues/default/pause", "OPTIONS, POST"),
        ("BREW", "/jobs", "GET, HEAD, OPTIONS, POST"),
    ],
)
def test_a_wrong_method_is_refused_with_those_that_are_allowed(
    shared: Service, method: str, path: str, allowed: str
) -> None:
    reply = shared.call(method, path)

    assert (reply.status, reply.headers["Allow"]) == (405, allowed)
    assert reply.json["type"] == "/problems/method_not_allowed"
    assert allowed in reply.json["detail"]


@pytest.mark.parametrize("path", ["/health", "/ready", "/stats", "/queues", "/queues/default", "/", "/problems"])
def test_a_query_string_where_none_belongs_is_refused(shared: Service, path: str) -> None:
    assert shared.get(path + "?verbose=1").json["type"] == "/problems/bad_query"


def test_options_tells_the_methods(shared: Service) -> None:
    reply = shared.call("OPTIONS", "/jobs")

    assert reply.status == 200
    assert set(reply.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
