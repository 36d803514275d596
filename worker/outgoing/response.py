"""Answers as they come over the wire, where Python's own reading of HTTP/1.1 takes too much on trust."""

import http.client

#: Statuses without a body, whatever the headers say (RFC 9110 sections 15.3.5 and 15.4.5).
_NO_BODY = frozenset({http.client.NO_CONTENT, http.client.NOT_MODIFIED})


class WireResponse(http.client.HTTPResponse):
    """Passes over every interim answer, waits for no body where there is none, and reads no more than it is asked."""

    def begin(self) -> None:
        """As in ``http.client``, which reads chunks after such a status if the headers speak of them."""
        super().begin()
        if self.status in _NO_BODY:
            self.chunked = False

    def _read_status(self) -> tuple[str, int, str]:
        """As in ``http.client``, which passes over 100 alone and takes 103 (Early Hints) for the answer."""
        version, status, reason = super()._read_status()  # type: ignore[misc]
        is_interim = status < 200 and status != http.client.SWITCHING_PROTOCOLS
        return version, http.client.CONTINUE if is_interim else status, reason

    def _read_next_chunk_size(self) -> int:
        """As in ``http.client``, to which a chunk of -1 bytes means all that ever comes."""
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise ValueError("a chunk cannot have fewer than 0 bytes")
        return size
