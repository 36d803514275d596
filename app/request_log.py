"""One line in the log for each request that was answered."""

import logging
from urllib.parse import quote

from app import keys

_log = logging.getLogger("gofer.access")

#: What is asked for every few seconds by whoever watches over the process: at the level debug.
_PROBES = frozenset({"/health", "/ready"})
#: How much of a path is logged, in characters.
_SHOWN = 200
#: What stands for a method or a path that could not be made out.
_UNKNOWN = "-"
#: The status of an answer that could not be sent, because the client had gone. HTTP has none; this one is nginx's.
CLIENT_GONE = 499


def is_wanted(path: str) -> bool:
    """Whether a request for ``path`` is logged at all."""
    return _log.isEnabledFor(logging.INFO) and (path not in _PROBES or _log.isEnabledFor(logging.DEBUG))


def note(request_id: str, method: str, path: str, *, status: int, seconds: float, key: str | None) -> None:
    """Log a request. ``path`` as PEP 3333 has it, without the query, which may hold what is nobody's business.

    ``key``: the name of the one that the request came with. A method or path that could not be made out is a dash.
    """
    shown = keys.masked(path[:_SHOWN]) or _UNKNOWN
    fields: dict[str, object] = {
        "id": request_id,
        "method": method or _UNKNOWN,
        # As it was sent, nearly: what is not plain ASCII is escaped again.
        "path": shown if shown.isascii() and shown.isprintable() else quote(shown, encoding="latin-1"),
        "status": status,
        "ms": round(seconds * 1000, 1),
    }
    if key is not None:
        fields["key"] = key
    _log.log(logging.DEBUG if path in _PROBES else logging.INFO, "request", extra=fields)
