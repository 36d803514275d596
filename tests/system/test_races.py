"""Many clients at one job at once: the answers they get add up to one history."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.system.service import Answer, Service

_CLIENTS = 30


@pytest.fixture
def paused(service: Service) -> Service:
    """A service whose queue is paused, so that only the clients change jobs."""
    service.post("/queues/default/pause")
    return service


def _at_once(acts: Sequence[Callable[[], Answer]]) -> list[Answer]:
    """Do everything at the same moment, each in a thread of its own."""
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], Answer]) -> Answer:
        barrier.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as clients:
        return list(clients.map(run, acts))


def _statuses(answers: Sequence[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def test_one_of_many_cancels_wins(paused: Service) -> None:
    job = paused.submit("echo")["id"]

    answers = _at_once([lambda: paused.post(f"/jobs/{job}/cancel")] * _CLIENTS)

    assert _statuses(answers) == {200: 1, 409: _CLIENTS - 1}
    assert paused.job(job)["status"] == "cancelled"


def test_one_of_many_retries_wins(paused: Service) -> None:
    job = paused.submit("echo")["id"]
    paused.post(f"/jobs/{job}/cancel")

    answers = _at_once([lambda: paused.post(f"/jobs/{job}/retry")] * _CLIENTS)

    assert _statuses(answers) == {200: 1, 409: _CLIENTS - 1}
    assert paused.job(job)["status"] == "pending"


def test_one_of_many_deletes_wins(paused: Service) -> None:
    job = paused.submit("echo")["id"]
    paused.post(f"/jobs/{job}/cancel")

    answers = _at_once([lambda: paused.request("DELETE", f"/jobs/{job}")] * _CLIENTS)

    assert _statuses(answers) == {204: 1, 404: _CLIENTS - 1}


def test_cancels_retries_and_deletes_of_one_job_add_up(paused: Service) -> None:
    each = _CLIENTS // 3
    for _ in range(10):
        job = paused.submit("echo")["id"]

        answers = _at_once(
            [lambda job=job: paused.post(f"/jobs/{job}/cancel"), lambda job=job: paused.post(f"/jobs/{job}/retry")]
            * each
            + [lambda job=job: paused.request("DELETE", f"/jobs/{job}")] * each
        )

        changes, deletes = answers[: 2 * each], answers[2 * each :]
        _check_history(paused, job, _statuses(changes[::2]), _statuses(changes[1::2]), _statuses(deletes))


def _check_history(
    service: Service, job: str, cancels: Counter[int], retries: Counter[int], deletes: Counter[int]
) -> None:
    everything = cancels + retries + deletes
    assert set(everything) <= {200, 204, 404, 409}
    cancelled_last = cancels[200] - retries[200]
    if deletes[204]:
        assert (deletes[204], cancelled_last) == (1, 1), "only a cancelled job can be deleted, and once"
        assert service.get(f"/jobs/{job}").status == 404
    else:
        assert everything[404] == 0
        assert service.job(job)["status"] == ("cancelled" if cancelled_last else "pending")


def test_a_cancel_that_races_with_the_run_leaves_one_outcome(service: Service) -> None:
    for _ in range(20):
        job = service.submit("echo", "x")["id"]

        answer = service.post(f"/jobs/{job}/cancel")

        ended = service.wait_for_end(job)
        allowed = {200: {"cancelled"}, 202: {"cancelled", "completed"}, 409: {"completed"}}
        assert ended["status"] in allowed[answer.status]


def test_many_submissions_with_one_idempotency_key_make_one_job(service: Service) -> None:
    body = {"type": "echo", "payload": {"order": 1}}

    answers = _at_once([lambda: service.post("/jobs", body, idempotency_key="order-1")] * 20)

    assert _statuses(answers) == {201: 1, 200: 19}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert sum(answer.headers.get("Idempotency-Replayed") == "true" for answer in answers) == 19
    assert service.wait_until_idle()["completed"] == 1


def test_of_two_bodies_under_one_idempotency_key_one_is_refused_everywhere(service: Service) -> None:
    acts = [
        lambda n=n: service.post("/jobs", {"type": "echo", "payload": n % 2}, idempotency_key="k") for n in range(20)
    ]

    answers = _at_once(acts)

    assert _statuses(answers) == {201: 1, 200: 9, 422: 10}
    assert service.wait_until_idle()["completed"] == 1


def test_an_idempotency_key_is_known_after_a_kill(start: Callable[..., Service]) -> None:
    service = start()
    first = service.post("/jobs", {"type": "echo"}, idempotency_key="again")
    service.kill()

    again = start().post("/jobs", {"type": "echo"}, idempotency_key="again")

    assert (first.status, again.status) == (201, 200)
    assert again.json["id"] == first.json["id"]


def test_many_waiters_on_one_job_all_learn_of_its_end(service: Service) -> None:
    job = service.submit("sleep", 0.3)["id"]

    _at_once([lambda: service.get(f"/jobs/{job}?wait=10")] * _CLIENTS)

    assert service.wait_for_end(job)["status"] == "completed"
    assert service.get("/health").status == 200
