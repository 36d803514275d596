"""The HTTP interface."""

from collections.abc import Callable

from flask import Flask

from app import errors
from app.blueprints import jobs, operations, queues
from app.waiting import WaitingRoom
from store.errors import OutcomeUnknown
from worker.engine import Engine


def create_app(
    engine: Engine,
    *,
    on_fatal: Callable[[OutcomeUnknown], None],
    max_body: int = 1_048_576,
    max_waiting: int = 8,
) -> Flask:
    """The WSGI application in front of ``engine``.

    ``max_body``: bytes of a request's body. ``max_waiting``: how many requests may wait for jobs
    at a time. ``on_fatal`` is called, in the thread of a request, with an error after which the
    process must end; it has to return at once.
    """
    app = Flask(__name__, static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body
    # A path is what it is: no redirect to another spelling.
    app.url_map.merge_slashes = False
    errors.register(app, on_fatal)
    app.register_blueprint(jobs.blueprint(engine, WaitingRoom(engine, max_waiting)))
    app.register_blueprint(queues.blueprint(engine))
    app.register_blueprint(operations.blueprint(engine))
    return app
