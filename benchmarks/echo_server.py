"""The bare service that POST /jobs is measured against: Flask on waitress, giving a JSON body back.

It is what a person would write who wants no more than that; it stores nothing.

Run as ``python -m benchmarks.echo_server PORT``.
"""

import logging
import sys

import waitress  # type: ignore[import-untyped]
from flask import Flask, Response, jsonify, request

app = Flask(__name__)


@app.post("/jobs")
def echo() -> tuple[Response, int]:
    """Decode the body and answer with it."""
    return jsonify(request.get_json()), 201


@app.get("/ready")
def ready() -> dict[str, str]:
    """Say that the server is up."""
    return {"status": "ready"}


if __name__ == "__main__":
    # Its remarks on every burst would slow it down.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    waitress.serve(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        # As Gofer sets it.
        threads=16,
        ident=None,
        asyncore_use_poll=True,
        channel_request_lookahead=1,
    )
