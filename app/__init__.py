"""The HTTP interface."""

from collections.abc import Callable

from flask import Flask
from flask.globals import request_ctx

from app import errors
from app.auth import Gate
from app.blueprints import jobs, operations, queues
from app.blueprints import logs as job_logs  # app.logs is another module
from app.request_headers import check_any_body
from app.resources import Untyped
from app.site_guard import SiteGuard
from app.waiting import WaitingRoom
from store.errors import OutcomeUnknown
from worker.engine import Engine


def create_app(
    engine: Engine,
    *,
    gate: Gate | None = None,
    any_host: bool = False,
    on_fatal: Callable[[OutcomeUnknown], None],
    max_body: int = 1_048_576,
    max_waiting: int = 8,
) -> Flask:
    """The WSGI application in front of ``engine``.

    ``gate`` stands before every call; without one, every call is anybody's who reaches the service
    by a name of this machine, or by any if ``any_host``, and who is no page of another site.
    ``max_body``: bytes of a request's body. ``max_waiting``: how many requests may wait for jobs at
    a time. ``on_fatal`` is called, in the thread of a request, with an error after which the
    process must end; it has to return at once.
    """
    app = Flask(__name__, static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body
    app.response_class = Untyped  # that of Flask's own answers, those to OPTIONS
    # A path is what it is: no redirect to another spelling.
    app.url_map.merge_slashes = False
    errors.register(app, on_fatal)
    (gate or SiteGuard(any_host=any_host)).guard(app)
    app.before_request(lambda: check_any_body(request_ctx.request.environ))
    room = WaitingRoom(engine, max_waiting)
    app.register_blueprint(jobs.blueprint(engine, room, max_body))
    app.register_blueprint(job_logs.blueprint(engine, room))
    app.register_blueprint(queues.blueprint(engine))
    app.register_blueprint(operations.blueprint(engine))
    return app
