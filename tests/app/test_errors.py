"""Every error has its problem, and problems look alike."""

import json
import logging
from collections.abc import Iterator

import pytest
from flask import Flask

import app.config
import app.health_check
import app.server  # noqa: F401
import worker.errors  # noqa: F401
from app import errors, keys
from app.errors import KINDS, UNANSWERED, FieldError, Problem
from store.errors import GoferError, JobNotFound, OutcomeUnknown, StoreFull


def every_error(base: type[GoferError] = GoferError) -> Iterator[type[GoferError]]:
    yield base
    for error in base.__subclasses__():
        yield from every_error(error)


@pytest.mark.parametrize("code", sorted({error.code for error in every_error()}))
def test_every_code_of_ours_has_its_problem_or_is_known_to_need_none(code: str) -> None:
    assert (code in KINDS) != (code in UNANSWERED)


@pytest.mark.parametrize("code", KINDS)
def test_every_problem_is_an_error_of_http(code: str) -> None:
    assert 400 <= KINDS[code].status <= 599
    assert KINDS[code].title


def test_a_problem_has_the_members_of_rfc_9457_in_order() -> None:
    problem = Problem.of_fields("bad_query", [FieldError("limit", "must be small"), FieldError("x", "unknown")])

    assert json.loads(problem.body()) == {
        "type": "/problems/bad_query",
        "title": "The query string is not valid",
        "status": 400,
        "detail": "limit: must be small (and 1 more, see errors)",
        "errors": [{"path": "limit", "message": "must be small"}, {"path": "x", "message": "unknown"}],
    }
    assert list(json.loads(problem.body())) == ["type", "title", "status", "detail", "errors"]


def test_where_no_part_is_to_blame_no_errors_are_listed() -> None:
    assert list(json.loads(Problem("not_ready", "starting").body())) == ["type", "title", "status", "detail"]


def test_a_text_that_json_cannot_hold_is_no_second_error() -> None:
    body = json.loads(Problem("internal", "file \udcff", [FieldError("\udcff", "\udcff")]).body())

    assert (body["detail"], body["errors"]) == ("file ?", [{"path": "?", "message": "?"}])


class Failing:
    """An application whose one call raises what the test wants."""

    def __init__(self) -> None:
        self.fatal: list[OutcomeUnknown] = []
        self.error: Exception = Exception()
        flask = Flask("failing")
        errors.register(flask, self.fatal.append)
        flask.get("/<path:_>")(self.call)
        flask.get("/")(self.call)
        self.client = flask.test_client()

    def call(self, _: str = "") -> str:
        raise self.error

    def get(self, error: Exception, path: str = "/") -> tuple[int, dict[str, object], dict[str, str]]:
        self.error = error
        response = self.client.get(path)
        assert response.content_type == "application/problem+json"
        return response.status_code, json.loads(response.data), dict(response.headers)


@pytest.fixture
def failing() -> Failing:
    return Failing()


def test_an_error_of_the_store_says_what_it_was(failing: Failing) -> None:
    status, body, _ = failing.get(JobNotFound("x"))

    assert status == body["status"] == 404
    assert body["type"] == "/problems/job_not_found"
    assert body["detail"] == "there is no job with the id 'x'"


def test_what_passes_comes_with_the_time_to_try_again(failing: Failing) -> None:
    status, _, headers = failing.get(StoreFull())

    assert (status, headers["Retry-After"]) == (503, "30")


def test_an_unknown_outcome_is_answered_and_ends_the_process(failing: Failing) -> None:
    error = OutcomeUnknown()
    status, body, headers = failing.get(error)

    assert (status, body["type"]) == (503, "/problems/outcome_unknown")
    assert "Retry-After" not in headers
    assert failing.fatal == [error]


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), GoferError("secret"), RecursionError("secret")])
def test_a_bug_is_logged_once_and_not_shown(
    failing: Failing, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    with caplog.at_level(logging.INFO):
        status, body, _ = failing.get(error)

    assert status == 500
    assert "secret" not in json.dumps(body)
    assert [record.getMessage() for record in caplog.records] == ["GET '/' failed"]
    assert caplog.records[0].exc_info is not None


def test_a_key_that_stands_in_the_path_by_mistake_is_not_logged(
    failing: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    failing.get(ZeroDivisionError(), f"/jobs/{keys.new_key()}")

    assert [record.getMessage() for record in caplog.records] == ["GET '/jobs/gofer_***' failed"]
