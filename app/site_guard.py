"""What stands before every call while there are no keys: where a request comes from decides.

Whoever can reach the service may use it then, and that is meant to be this machine's users. Their
browsers can reach it, too, with the pages of any site in them. So a page of another site is refused,
and so is one that had its own name resolve to this machine (DNS rebinding).
"""

from flask import Flask
from flask.globals import request_ctx

from app.errors import Problem, shown
from app.loopback import is_loopback_authority
from app.request_headers import Environ

#: Fetch Metadata (W3C), section 2.2: the values for a page of the service's own, and for no page at all.
_OWN_SITE = frozenset({"same-origin", "none"})


class SiteGuard:
    """Lets a request in, or refuses it. Safe to use from any thread."""

    def __init__(self, *, any_host: bool) -> None:
        """``any_host``: the service may be called by any name, because anybody is meant to reach it."""
        self._any_host = any_host
        # The last name that was found right: it is nearly always the same. Replaced whole, so no lock.
        self._served: str | None = None

    def guard(self, app: Flask) -> None:
        """Stand before every request to ``app``, whatever becomes of it."""

        def check() -> None:
            environ = request_ctx.request.environ
            if not self._any_host:
                self._check_host(environ)
            _check_site(environ)

        app.before_request(check)

    def _check_host(self, environ: Environ) -> None:
        """Raise Problem, ``foreign_host``, if the request is for somebody else.

        One of HTTP/1.0 need not say whom it is for; a browser always does.
        """
        host = environ.get("HTTP_HOST")
        if host is None or host == self._served:
            return
        if not is_loopback_authority(host):
            raise Problem(
                "foreign_host",
                f"without keys, only requests to this machine's own names are served, such as localhost, not to "
                f"{shown(host)}; with a key (GOFER_API_KEY or GOFER_KEYS_FILE) every name will do",
            )
        self._served = host


def _check_site(environ: Environ) -> None:
    """Raise Problem, ``cross_site``, if a page of another site sent the request.

    Programs send neither header.
    """
    site = environ.get("HTTP_SEC_FETCH_SITE")
    origin = environ.get("HTTP_ORIGIN")
    if site is not None and site not in _OWN_SITE:
        raise _cross_site(f"Sec-Fetch-Site is {shown(site)}")
    if origin is not None:
        host = environ.get("HTTP_HOST", "").lower()
        if origin.lower() not in (f"http://{host}", f"https://{host}"):
            raise _cross_site(f"Origin is {shown(origin)}")


def _cross_site(how: str) -> Problem:
    return Problem("cross_site", f"without keys, pages of other sites may not call this service: {how}")
