"""API keys: how they look, how they are told from typing errors, and what is kept of them.

A key is ``gofer_``, 256 random bits as 43 characters of base62, and a checksum: the CRC-32 of all
that, as 6 more. The prefix lets scanners for leaked secrets find it; the checksum tells a key that
was mistyped or cut off from one that is wrong. GitHub's tokens are made in this way.

Only its SHA-256 is kept. A slow hash protects secrets that people choose, because those can be
guessed from a list; nobody guesses 256 random bits, however fast each guess is.
"""

import hashlib
import re
import secrets
import zlib
from datetime import datetime

import msgspec

from app import scopes

#: What every key begins with, but for one that the operator made up for ``GOFER_API_KEY``.
PREFIX = "gofer_"
#: The name of the key in ``GOFER_API_KEY``, which none in the keys file may have.
DEFAULT_NAME = "default"
#: A name is one that TOML takes without quotes; it stands in logs and in the jobs that were submitted with the key.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: 62 ** 43 is the first power that 256 bits fit into; 62 ** 6 the first for 32 bits.
_SECRET_LENGTH, _CHECKSUM_LENGTH = 43, 6
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}")
_IN_TEXT = re.compile(rf"{PREFIX}[0-9A-Za-z]+")
_STORED = re.compile(r"sha256:([0-9a-f]{64})")
#: What the operator may make up: nobody can be kept from a weak key, but from one that is short.
_CHOSEN = re.compile(r"[\x21-\x7e]{20,500}")


class ApiKey(msgspec.Struct, frozen=True):
    """What is kept of a key."""

    #: Who holds it: what jobs and logs say.
    name: str
    #: The SHA-256 of the whole key.
    digest: bytes
    scopes: frozenset[str]
    #: Not taken from this instant on, aware and in UTC; None: taken for ever.
    expires_at: datetime | None = None


def new_key() -> str:
    """A key that nobody has."""
    body = PREFIX + _base62(int.from_bytes(secrets.token_bytes(32)), _SECRET_LENGTH)
    return body + _checksum(body)


def check_name(name: str) -> None:
    """Raise ValueError unless a key in the keys file may have this name."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name is 1 to 64 letters, digits, _ and -")
    if name.startswith(PREFIX):
        raise ValueError(f"a name must not begin with {PREFIX}: it could be a key, and names are shown")
    if name == DEFAULT_NAME:
        raise ValueError("this is the name of the key in GOFER_API_KEY")


def is_damaged(text: str) -> bool:
    """Whether this was meant to be a key of ours, and is none: mistyped, or not all of it."""
    if not text.startswith(PREFIX):
        return False
    return not _FORM.fullmatch(text) or _checksum(text[:-_CHECKSUM_LENGTH]) != text[-_CHECKSUM_LENGTH:]


def masked(text: str) -> str:
    """``text`` without the keys of ours, whole or not, that stand in it by mistake."""
    return _IN_TEXT.sub(f"{PREFIX}***", text)


def digest(key: str) -> bytes:
    """What is kept of a key, and compared. ``key`` holds characters up to U+00FF, as a header does."""
    return hashlib.sha256(key.encode("latin-1")).digest()


def stored(key_digest: bytes) -> str:
    """A digest as the keys file holds it."""
    return f"sha256:{key_digest.hex()}"


def parse_stored(text: str) -> bytes:
    """The digest in a text of the keys file. Raises ValueError."""
    match = _STORED.fullmatch(text)
    if not match:
        raise ValueError("must be sha256: and 64 hexadecimal digits in small letters")
    return bytes.fromhex(match[1])


def chosen(text: str) -> ApiKey | None:
    """The key of ``GOFER_API_KEY``, which may do everything; None for an empty text.

    Raises ValueError, which does not repeat the text.
    """
    if not text:
        return None
    if is_damaged(text):
        raise ValueError(f"begins with {PREFIX} but was mistyped or cut off: its checksum is wrong")
    if not _CHOSEN.fullmatch(text):
        raise ValueError("must be 20 to 500 printable ASCII characters without spaces; make one with: gofer keys new")
    return ApiKey(DEFAULT_NAME, digest(text), frozenset(scopes.ALL))


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode("ascii")), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
