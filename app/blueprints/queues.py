"""The calls about queues."""

from flask import Blueprint, Response

from app import query
from app.policy import Policy, needs
from app.resources import answer
from worker.engine import Engine, QueueState
from worker.errors import UnknownQueue


class QueueCalls:
    """Shows queues, pauses and resumes them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @needs(Policy.READ)
    def list(self) -> Response:
        """``GET /queues``"""
        query.require_empty()
        return answer({"queues": self._engine.queues()})

    @needs(Policy.READ)
    def get(self, name: str) -> Response:
        """``GET /queues/{name}``"""
        query.require_empty()
        return answer(self._state(name))

    @needs(Policy.MANAGE)
    def pause(self, name: str) -> Response:
        """``POST /queues/{name}/pause``"""
        query.require_empty()
        self._engine.pause(name)
        return answer(self._state(name))

    @needs(Policy.MANAGE)
    def resume(self, name: str) -> Response:
        """``POST /queues/{name}/resume``"""
        query.require_empty()
        self._engine.resume(name)
        return answer(self._state(name))

    def _state(self, name: str) -> QueueState:
        states = {state.name: state for state in self._engine.queues()}
        if name not in states:
            raise UnknownQueue(name[:100], states)
        return states[name]


def blueprint(engine: Engine) -> Blueprint:
    """The routes of these calls."""
    calls = QueueCalls(engine)
    routes = Blueprint("queues", __name__)
    routes.get("/queues")(calls.list)
    routes.get("/queues/<name>")(calls.get)
    routes.post("/queues/<name>/pause")(calls.pause)
    routes.post("/queues/<name>/resume")(calls.resume)
    return routes
