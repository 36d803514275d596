"""Content codings (RFC 9110 section 8.4.1), undone with a bound on what comes out.

Not urllib3's own decoders: those go on reading as long as nothing comes out, which a server can have
last for ever, they take a stream that breaks off for a whole one, and they stack.
"""

import zlib

from worker.outgoing.errors import BrokenAnswer

#: How zlib calls the formats.
_GZIP, _ZLIB, _BARE = 31, 15, -15
#: With what each member of a gzip file begins; what comes after the last one may be anything.
_GZIP_MAGIC = b"\x1f\x8b"
#: Members of a gzip file, each of which costs a copy of what follows.
_MAX_MEMBERS = 1000


def decode(body: bytes, coding: str, limit: int, *, is_whole: bool) -> bytes:
    """At most ``limit`` bytes of a body without its coding; one that is not known is left as it is.

    ``is_whole``: nothing of the body is missing, so that its data must come to an end.
    Raises BrokenAnswer.
    """
    try:
        match coding.strip().lower():
            case "gzip" | "x-gzip":
                decoded, is_complete = _gunzip(body, limit)
            case "deflate":
                decoded, is_complete = _inflate(body, limit)
            case _:
                return body[:limit]
    except zlib.error as error:
        raise BrokenAnswer(f"the body is not in the content coding {coding}: {error}") from error
    if is_whole and not is_complete and len(decoded) < limit:
        raise BrokenAnswer(f"the body breaks off in the middle of its content coding {coding}")
    return decoded


def _gunzip(body: bytes, limit: int) -> tuple[bytes, bool]:
    decoded = bytearray()
    for _ in range(_MAX_MEMBERS):
        member = zlib.decompressobj(_GZIP)
        decoded += member.decompress(body, limit - len(decoded))
        body = member.unused_data
        if not body.startswith(_GZIP_MAGIC) or len(decoded) >= limit:
            return bytes(decoded), member.eof
    raise BrokenAnswer(f"the body has more than {_MAX_MEMBERS} members in its content coding gzip")


def _inflate(body: bytes, limit: int) -> tuple[bytes, bool]:
    stream = zlib.decompressobj(_ZLIB)
    try:
        return stream.decompress(body, limit), stream.eof
    except zlib.error:
        # The standard means the zlib format; many servers send what is inside of it.
        stream = zlib.decompressobj(_BARE)
        return stream.decompress(body, limit), stream.eof
