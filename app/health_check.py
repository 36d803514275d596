"""Whether a service is alive, asked from outside: what a container engine runs every so often."""

import http.client
from contextlib import closing
from types import MappingProxyType

from store.errors import GoferError

#: Where one who listens on every address is found.
_LOOPBACK = MappingProxyType({"0.0.0.0": "127.0.0.1", "::": "::1"})  # noqa: S104  # not listened on here


class Unhealthy(GoferError):
    """The service is not alive."""

    code = "unhealthy"


def check(host: str, port: int, timeout: float = 2.0) -> None:
    """Ask the service that listens on ``host`` and ``port``. Raises Unhealthy unless it answers as it should.

    ``timeout``: seconds for the connection, and again for the answer.
    """
    if port == 0:
        raise Unhealthy("GOFER_PORT is 0: only the service itself knows its port")
    connection = http.client.HTTPConnection(_LOOPBACK.get(host, host), port, timeout=timeout)
    with closing(connection):
        try:
            connection.request("GET", "/health")
            status = connection.getresponse().status
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            raise Unhealthy(f"{host} port {port} does not answer: {_reason(error)}") from error
    if status != 200:
        raise Unhealthy(f"{host} port {port} answers with the status {status}")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
