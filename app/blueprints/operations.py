"""The calls about the service itself."""

from flask import Blueprint, Response

from app import query
from app.errors import KINDS, Problem
from app.resources import answer
from app.version import VERSION
from worker.engine import Engine


class OperationCalls:
    """Says what the service is, whether it lives, whether it is ready, and how much it holds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def index(self) -> Response:
        """``GET /``"""
        query.require_empty()
        links = {name: f"/{name}" for name in ("jobs", "queues", "stats", "health", "ready", "problems")}
        return answer({"service": "gofer", "version": VERSION, "links": links})

    def health(self) -> Response:
        """``GET /health``: the process answers; nothing else is asked, so that it is not restarted in vain."""
        query.require_empty()
        return answer({"status": "ok"})

    def ready(self) -> Response:
        """``GET /ready``: whether jobs are taken and run, and if not, why."""
        query.require_empty()
        reason = self._engine.not_ready_reason()
        if reason is not None:
            raise Problem("not_ready", reason)
        return answer({"status": "ready"})

    def stats(self) -> Response:
        """``GET /stats``"""
        query.require_empty()
        return answer(self._engine.stats())

    def problems(self) -> Response:
        """``GET /problems``: every kind of error there is."""
        query.require_empty()
        return answer({"problems": [_kind(code) for code in KINDS]})

    def problem(self, code: str) -> Response:
        """``GET /problems/{code}``: where the ``type`` of a problem leads."""
        query.require_empty()
        if code not in KINDS:
            raise Problem("not_found", "there is no such problem; /problems lists all")
        return answer(_kind(code))


def blueprint(engine: Engine) -> Blueprint:
    """The routes of these calls."""
    calls = OperationCalls(engine)
    routes = Blueprint("operations", __name__)
    routes.get("/")(calls.index)
    routes.get("/health")(calls.health)
    routes.get("/ready")(calls.ready)
    routes.get("/stats")(calls.stats)
    routes.get("/problems")(calls.problems)
    routes.get("/problems/<code>")(calls.problem)
    return routes


def _kind(code: str) -> dict[str, object]:
    return {"type": f"/problems/{code}", "title": KINDS[code].title, "status": KINDS[code].status}
