"""The calls about the service itself."""

from flask import Blueprint, Response, request

from app import query
from app.auth import caller_name
from app.errors import KINDS, Problem
from app.help import HelpPage, address_of
from app.policy import Policy, needs
from app.resources import answer
from app.version import VERSION
from worker.engine import Engine


class OperationCalls:
    """Says what the service is, whether it lives, whether it is ready, and how much it holds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._help = HelpPage(engine.registry.specs(), engine.queue_names()[0])

    @needs(Policy.ANY_KEY)
    def index(self) -> Response:
        """``GET /``"""
        query.require_empty()
        links = {name: f"/{name}" for name in ("help", "jobs", "queues", "stats", "health", "ready", "problems")}
        return answer({"service": "gofer", "version": VERSION, "links": links})

    @needs(Policy.ANY_KEY)
    def help(self) -> Response:
        """``GET /help``: how everything is done with curl; text that shows the host as the client called it."""
        query.require_empty()
        environ = request.environ
        listener = environ["SERVER_NAME"], environ["SERVER_PORT"]
        address = address_of(environ.get("HTTP_HOST"), listener, environ["wsgi.url_scheme"])
        page = self._help.at(address, with_key=caller_name(environ) is not None)
        return Response(page, 200, content_type="text/plain; charset=utf-8")

    @needs(Policy.OPEN)
    def health(self) -> Response:
        """``GET /health``: the process answers; nothing else is asked, so that it is not restarted in vain."""
        query.require_empty()
        return answer({"status": "ok"})

    @needs(Policy.OPEN)
    def ready(self) -> Response:
        """``GET /ready``: whether jobs are taken and run, and if not, why."""
        query.require_empty()
        reason = self._engine.not_ready_reason()
        if reason is not None:
            raise Problem("not_ready", reason)
        return answer({"status": "ready"})

    @needs(Policy.READ)
    def stats(self) -> Response:
        """``GET /stats``"""
        query.require_empty()
        return answer(self._engine.stats())

    @needs(Policy.ANY_KEY)
    def problems(self) -> Response:
        """``GET /problems``: every kind of error there is."""
        query.require_empty()
        return answer({"problems": [_kind(code) for code in KINDS]})

    @needs(Policy.ANY_KEY)
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
    routes.get("/help")(calls.help)
    routes.get("/health")(calls.health)
    routes.get("/ready")(calls.ready)
    routes.get("/stats")(calls.stats)
    routes.get("/problems")(calls.problems)
    routes.get("/problems/<code>")(calls.problem)
    return routes


def _kind(code: str) -> dict[str, object]:
    return {"type": f"/problems/{code}", "title": KINDS[code].title, "status": KINDS[code].status}
