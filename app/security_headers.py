"""The headers that every answer carries, whatever it is and whoever made it."""

from collections.abc import Mapping
from types import MappingProxyType

#: What they say to browsers; nobody else minds them.
ALWAYS: Mapping[str, str] = MappingProxyType(
    {
        # What it is, is what the Content-Type says: the text of a job may look like a page.
        "X-Content-Type-Options": "nosniff",
        # Should it be shown as a page all the same, nothing in it is loaded or run, and no other page may frame it.
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        # An address with a job's id in it stays here.
        "Referrer-Policy": "no-referrer",
        # No other site may load it as its picture or script.
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)
#: And what a call says itself where it knows better: nobody keeps a copy.
UNLESS_GIVEN: Mapping[str, str] = MappingProxyType({"Cache-Control": "no-store"})

_ALWAYS, _UNLESS_GIVEN = (
    "".join(f"{name}: {value}\r\n" for name, value in some.items()).encode("ascii") for some in (ALWAYS, UNLESS_GIVEN)
)


def lines(given: list[tuple[str, str]]) -> bytes:
    """The lines to add to the head of an answer with the headers ``given``, whose names are in their usual spelling."""
    return _ALWAYS if any(name in UNLESS_GIVEN for name, _ in given) else _ALWAYS + _UNLESS_GIVEN
